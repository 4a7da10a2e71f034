"""Any file as a text, byte by byte, whatever its encoding."""

import numpy as np

from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.texts import PARTS, make_windows, slice_of
from jaxdistill.errors import UserError
from jaxdistill.runtime import files


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
    parts = {role: slice_of(role, part, len(text)) for role, part in (dict(settings.splits) or PARTS).items() if part}
    return make_windows(settings.path, {role: text[part] for role, part in parts.items()}, settings.length)
