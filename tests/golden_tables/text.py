"""Losses of text."""

TABLE = {}
