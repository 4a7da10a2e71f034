"""Linen parts that methods and networks are built of."""
