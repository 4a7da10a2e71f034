"""Losses of relations."""

TABLE = {}
