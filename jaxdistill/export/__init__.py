"""Formats in which a network leaves, one a file: a function `write(folder, exported) -> list of lines`."""
