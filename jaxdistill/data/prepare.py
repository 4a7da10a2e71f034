"""jaxdistill prepare NAME ... [--data-dir DIR]: TFDS datasets as ArrayRecord files, prepared once for all runs.

NAME is a dataset of TFDS, such as cifar100 or glue/sst2, or "package.module:Builder" of your own. Most datasets of TFDS
need TensorFlow for this, and for nothing after it; a builder of your own, whose images are encoded files, does not.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from jaxdistill.config import registry
from jaxdistill.errors import UserError
from jaxdistill.runtime import files
from jaxdistill.runtime.arguments import Arguments, with_help

FORMAT = "array_record"
"""The form of the files: the only one of TFDS with random access."""


@with_help(__doc__)
def main(words: Sequence[str]) -> int:
    """Prepares the datasets that the command line names; returns the exit status.

    Raises:
        UserError: for an unknown dataset, a missing package and a folder that cannot be written.
    """
    parser = Arguments("jaxdistill prepare")
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--data-dir", default="")
    flags = parser.parse_args(list(words))
    for name in flags.names:
        print(prepare(name, flags.data_dir))
    return 0


def prepare(name: str, data_dir: str = "") -> pathlib.Path:
    """Prepares a TFDS dataset, unless it is prepared; returns its folder.

    Args:
        name: a dataset of TFDS, or `"package.module:Builder"`.
        data_dir: the folder of all prepared datasets; TFDS's own if empty.

    Raises:
        UserError: for an unknown dataset, a missing package and a folder that cannot be written.
    """
    import tensorflow_datasets as tfds

    root = str(files.local_path("--data-dir", data_dir)) if data_dir else None
    try:
        if ":" in name.partition("/")[0]:
            builder = _own_builder(name)(data_dir=root, file_format=FORMAT)
        else:
            builder = tfds.builder(name, data_dir=root, file_format=FORMAT)
        builder.download_and_prepare()
    except ImportError as error:
        missing = error.name or "a package"
        raise UserError(
            f"the dataset {name} must be prepared with {missing}, which is not installed. pip install {missing}, once:"
            " runs do not need it"
        ) from error
    except tfds.core.registered.DatasetNotFoundError as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"the dataset must be one of TFDS, got {name!r} ({line}). See jaxdistill prepare -h") from error
    except OSError as error:
        folder = root or tfds.core.constants.DATA_DIR
        raise UserError(f"--data-dir must be a folder to write to, got {folder!r} ({error}). Name another") from error
    return pathlib.Path(builder.data_dir)


def _own_builder(name: str) -> Any:
    import tensorflow_datasets as tfds

    builder = registry.import_object(name, "the dataset")
    if not (isinstance(builder, type) and issubclass(builder, tfds.core.DatasetBuilder)):
        raise UserError(f"the dataset must be a builder of TFDS, got {name!r} ({builder!r}). Derive it from one")
    return builder
