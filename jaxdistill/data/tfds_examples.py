"""Random access to the examples of a prepared TFDS dataset."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from jaxdistill.data.dataset import CHUNK
from jaxdistill.errors import UserError


def read_examples(source: Any, builder: Any, split: str, positions: list[int], *, keys: Sequence[str]) -> list[Any]:
    """Returns the examples of a split at some positions.

    Args:
        source: the random access to the split.
        builder: TFDS's.
        split: as TFDS writes it.
        positions: of the examples.
        keys: the features that an example must have.

    Raises:
        UserError: for an example that is damaged, with its file.
    """
    reason: object = ""
    try:
        examples = source.__getitems__(positions)
        if all(example[key] is not None for example in examples for key in keys):
            return examples
        reason = "it has no content"
    except Exception as error:  # each decoder and ArrayRecord raise errors of their own
        reason = f"{type(error).__name__}: {error}"
    if len(positions) > 1:
        for position in positions:
            read_examples(source, builder, split, [position], keys=keys)
    file, start = _file_of(builder, split, positions[0])
    raise UserError(
        f"example {positions[0]} of the split {split!r} of {builder.name!r} must be readable in {file}, got"
        f" {' '.join(str(reason).split())[:200]}. Restore that file, prepare the dataset again"
        f" (remove its folder first), or leave its examples out with data.splits; the file's first is {start}"
    )


def iterate_examples(name: str, builder: Any, split: str, keys: Sequence[str]) -> Iterator[Any]:
    """Yields the examples of a split in their order, as they are read; `name` is the dataset's, for messages."""
    source = open_split(name, builder, split)
    for start in range(0, len(source), CHUNK):
        positions = list(range(start, min(start + CHUNK, len(source))))
        yield from read_examples(source, builder, split, positions, keys=keys)


def read_feature(builder: Any, split: str, key: str) -> Iterator[Any]:
    """Yields one feature of all examples of a split, without decoding images of others."""
    import tensorflow_datasets as tfds

    kinds = {name: type(feature).__name__ for name, feature in builder.info.features.items() if name != key}
    decoders = {name: tfds.decode.SkipDecoding() for name, kind in kinds.items() if kind in ("Image", "LabeledImage")}
    source = builder.as_data_source(split=split, decoders=decoders)
    for start in range(0, len(source), CHUNK):
        positions = list(range(start, min(start + CHUNK, len(source))))
        for example in read_examples(source, builder, split, positions, keys=[key]):
            yield example[key]


def _file_of(builder: Any, split: str, position: int) -> tuple[str, int]:
    """Returns the file of an example of a split, and the position of the file's first example."""
    start = 0
    for instruction in builder.info.splits[split].file_instructions:
        if position < start + instruction.take:
            return str(instruction.filename), start
        start += instruction.take
    return str(builder.data_dir), 0


def open_split(name: str, builder: Any, split: str) -> Any:
    """Returns the random access to a split, or raises `UserError` if there is no such split."""
    try:
        source = builder.as_data_source(split=split)
        len(source)
    except ValueError as error:
        counts = {key: info.num_examples for key, info in builder.info.splits.items()}
        raise UserError(f"{name}: no split {split!r}: {str(error).splitlines()[0]} There are {counts}") from error
    except NotImplementedError as error:
        raise not_prepared(name, builder) from error
    return source


def not_prepared(name: str, builder: Any) -> UserError:
    """Returns the error for a dataset without ArrayRecord files."""
    folder = pathlib.Path(builder.data_dir)
    root = folder.parents[1]
    return UserError(
        f"{name} is not prepared in {root} (there is no ArrayRecord data in {folder}); prepare it once, on a machine"
        ' with network and TensorFlow (pip install tensorflow): python -c "import tensorflow_datasets as tfds;'
        f" tfds.builder('{name}', data_dir='{root}', file_format='array_record').download_and_prepare()\";"
        " or name another folder with --config.data.data_dir"
    )
