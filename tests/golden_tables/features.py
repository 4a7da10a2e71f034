"""Losses of features."""

TABLE = {}
