"""Several networks into one, by their weights."""
