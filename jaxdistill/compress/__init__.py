"""Compression: one network made cheaper by pure functions of its weights."""
