"""The configs that come with the package: `configs` of a checkout, `jaxdistill/configs` of an installation.

The parts that several of them share are imported as `jaxdistill.configs.stages` in either place.
"""

import pathlib

_INSTALLED = pathlib.Path(__file__).with_suffix("")

FOLDER = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "configs"
"""The folder of the configs."""

__path__ = [str(FOLDER)]  # makes this module a package, wherever the folder is


def list_names() -> list[str]:
    """Returns the short names of the configs, such as `digits/kd`."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.py"))
