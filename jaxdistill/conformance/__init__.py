"""Promises of every kind of member, such as a method or a model, as code that runs on a class of one's own.

    python -m jaxdistill.conformance my_lab.losses:MyKD
    python -m jaxdistill.conformance ema --room network

A file holds the promises of one room of `config/registry.py`: `PROMISES`, and `make_subject`, which makes what they
are checked on.
"""
