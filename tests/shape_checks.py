"""The type checker of the test session: shapes and types of arguments and results, at every call."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int passes for a float."""
