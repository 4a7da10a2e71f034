"""Any file as a text, byte by byte, whatever its encoding."""

import re

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.texts import make_windows
from jaxdistill.errors import UserError
from jaxdistill.runtime import files

PARTS = {"train": "[:90%]", "validation": "[90%:95%]", "test": "[95%:]"}
"""The default splits, in percent of the bytes."""


def read(settings: DatasetSettings) -> Dataset:
    """Returns the windows of the file `path`; `splits` are parts such as `"[:90%]"`, by default `PARTS`.

    Raises:
        UserError: for a missing file, and a part that cannot be read.
    """
    path = files.local_path("data.path", settings.path)
    if not settings.path or not path.is_file():
        raise UserError(f"data.path must be a file of text in any encoding, got no file {settings.path!r}")
    if not path.stat().st_size:
        raise UserError(f"data.path must be a file with text, got {settings.path}, which is empty")
    text = np.memmap(path, np.uint8, "r")
    parts = {role: _slice_of(role, part, len(text)) for role, part in (dict(settings.splits) or PARTS).items() if part}
    return make_windows(settings.path, {role: text[part] for role, part in parts.items()}, settings.length)


def _slice_of(role: str, part: str, size: int) -> slice:
    match = re.fullmatch(r"\[(?:(\d+)%)?:(?:(\d+)%)?\]", part)
    start, stop = (int(match[1] or 0), int(match[2] or 100)) if match else (0, 0)
    if not start < stop <= 100:
        raise UserError(
            f"data.splits.{role} must be a part of a text such as '[:90%]', '[90%:95%]' or '[95%:]', got {part!r}"
        )
    return slice(size * start // 100, size * stop // 100)
