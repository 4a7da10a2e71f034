"""Convolutions by oneDNN in programs for a CPU: the library, the operation, and the programs that use it."""
