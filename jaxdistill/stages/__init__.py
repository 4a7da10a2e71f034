"""Kinds of stages, a file each."""
