"""Merging: one network from several, by their weights, and their alignment before."""
