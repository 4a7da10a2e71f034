"""Losses of dense."""

TABLE = {}
