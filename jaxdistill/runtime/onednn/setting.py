"""The setting `convolutions`: XLA's own, oneDNN's, or oneDNN's where it is installed and compiles.

It holds for the programs that `runtime.xla_options.jit` compiles afterwards; until a stage sets it, they have XLA's.
"""

import dataclasses

import jax

from jaxdistill.errors import UserError
from jaxdistill.runtime.onednn import library

SETTINGS = ("auto", "xla", "onednn")

GAIN = "1.4 to 1.7 times as fast"
"""ResNet-32x4 -> 8x4 and ResNet-20 -> 8 with a live teacher, by `benchmarks/residual_step.py` on two cores."""


@dataclasses.dataclass
class _Current:
    chosen: library.Library | None = None


_CURRENT = _Current()


def check(setting: str) -> None:
    """Raises `UserError` if oneDNN is required and cannot be had: without the extra, a compiler, or a CPU."""
    if setting != "onednn":
        return
    if jax.default_backend() != "cpu":
        raise UserError(f"convolutions must be 'auto' or 'xla' on {jax.default_backend()}, got 'onednn'. Leave it out")
    library.load()


def use(setting: str) -> str:
    """Sets what the next programs take; returns a line for the log, or ""."""
    _CURRENT.chosen = None
    check(setting)
    if setting == "xla" or jax.default_backend() != "cpu" or library.find_parts() is None:
        return ""
    try:
        _CURRENT.chosen = library.load()
    except UserError as error:
        return f"convolutions by XLA: {error}"
    return ""


def current() -> library.Library | None:
    """Returns the library that programs take; None for XLA's convolutions."""
    return _CURRENT.chosen


def describe_gain() -> str:
    """Returns the line for convolutional runs without the extra; "" where it has nothing to offer."""
    if jax.default_backend() != "cpu" or library.find_parts() is not None or not library.is_offered():
        return ""
    return f"convolutions by oneDNN would make a step of CIFAR's residual networks {GAIN}: {library.EXTRA}"
