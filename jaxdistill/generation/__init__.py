"""Texts that networks write: the choice of a token, and the loop that writes with a cache of keys and values."""
