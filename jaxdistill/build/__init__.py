"""From a config's entries to objects: stages, networks, terms, weights."""
