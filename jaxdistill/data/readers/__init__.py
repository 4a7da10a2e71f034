"""Readers of datasets: one per file, a function `read(settings) -> Dataset`, found by the name of its file.

A name that is no file here is that of a TFDS dataset.
"""
