"""Losses of language."""

TABLE = {}
