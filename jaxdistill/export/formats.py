"""Formats of an export by name: modules with `check(exported)` and `write(folder, exported) -> lines of the log`."""

from jaxdistill.export import huggingface

FORMATS = {"huggingface": huggingface}
