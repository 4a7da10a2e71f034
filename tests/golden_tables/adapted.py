"""Losses of features that pass through learned adapters."""

TABLE = {}
