"""Exports on disk: a folder that appears whole, verified, or not at all."""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill.config import registry
from jaxdistill.data.tables.featurizer import FILE as FEATURIZER
from jaxdistill.errors import UserError
from jaxdistill.export.exported import Exported
from jaxdistill.export.function import CONFIG
from jaxdistill.export.reload import Report, check_equal, compare, predict
from jaxdistill.export.weights import BITS, variables_of
from jaxdistill.runtime import files

REPORT = "export.json"
"""The file of an export with its format, how it was verified, and the digests of its other files and of itself."""

DIGEST = "digest"
"""The key of the report with the digest of all others."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def find_format(name: str, path: str = "export.format") -> Any:
    """Returns the module of a format (`export.formats.Format`), or raises `UserError` with the nearest name."""
    return registry.find("export_format", name, path)


def check_export(exported: Exported, format_name: str) -> None:
    """Raises `UserError` for a format that does not exist or does not have the network."""
    if exported.bits not in BITS:
        raise UserError(f"export.bits must be one of {list(BITS)}, got {exported.bits}. Take one of them")
    widest = max([*exported.trained_bits, *(x.bits for x in exported.integers.values())], default=0)
    if exported.bits and exported.bits < widest:
        raise UserError(
            f"export.bits must be 0 or at least {widest}, the bits that the network was trained in, got"
            f" {exported.bits}. Set {widest}"
        )
    find_format(format_name).check(exported)


def write_export(
    path: pathlib.Path, exported: Exported, format_name: str, examples: Mapping[str, np.ndarray], split: str = "test"
) -> list[str]:
    """Writes an export, reads it again, and compares it with the network.

    Args:
        path: the folder, which must not exist, unless it has the same files: a launch that was killed may have written
            it.
        exported: the network.
        format_name: the name of a format.
        examples: raw inputs by name, real ones.
        split: that they are of.

    Returns:
        Lines for the log.

    Raises:
        UserError: for a format that does not have the network, another existing folder, and an export that predicts
            something else.
    """
    check_export(exported, format_name)
    form = find_format(format_name)
    part = files.part_of(path)
    shutil.rmtree(part, ignore_errors=True)
    with _errors_of(path):
        part.mkdir(parents=True)
    try:
        with _errors_of(path):
            _copy_tokenizer(exported, part)
            if exported.predictor is not None and exported.predictor.signature.featurizer is not None:
                exported.predictor.signature.featurizer.save(part / FEATURIZER)
            form.write(part, exported)
        report = form.verify(part, exported, examples)
        check_equal(path, report)
        size = sum(item.stat().st_size for item in part.iterdir())
        rounding = _rounding(exported, examples)
        described = _describe(part, exported, format_name, report, split=split, rounding=rounding)
        with _errors_of(path):
            files.write_json(part / REPORT, described)
            _give_name(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    bits = f", {exported.bits} bits" if exported.bits else ""
    lines = [f"{path}: {format_name}{bits}, {size:,} bytes", f"{path}: {report.to_text()}"]
    return lines + ([f"{path}: rounding kept {rounding:.2%} of the float32 predictions"] if rounding else [])


@contextlib.contextmanager
def _errors_of(path: pathlib.Path) -> Iterator[None]:
    """Gives errors of the folder that is written the name that the user gave, and those without a file too."""
    part = str(files.part_of(path))
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(part):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _give_name(part: pathlib.Path, path: pathlib.Path) -> None:
    if not path.exists() and not path.is_symlink():
        part.rename(path)
    elif path.is_dir() and _contents(path) == _contents(part):
        shutil.rmtree(part)
    else:
        raise UserError(f"the folder of an export must not exist, got {path}. Remove it, or name another")


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


def _copy_tokenizer(exported: Exported, folder: pathlib.Path) -> None:
    source = exported.tokenizer_path
    if source is None:
        return
    paths = [source] if source.is_file() else [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    for file in paths:
        shutil.copyfile(file, folder / ("tokenizer.json" if file == source else file.name))


def _rounding(exported: Exported, examples: Mapping[str, np.ndarray]) -> float | None:
    """Returns the share of predictions that rounding left equal; `None` for a network that no rounding changed."""
    predictor = exported.predictor
    if not exported.bits or exported.integers or predictor is None:
        return None
    exact, rounded = (predict(predictor, x, examples) for x in (exported.variables, variables_of(exported.weights)))
    predictions = predictor.signature.predictions
    return compare(exact, rounded, examples, program="float32", predictions=predictions).equal_predictions


def _describe(
    folder: pathlib.Path,
    exported: Exported,
    format_name: str,
    report: Report,
    *,
    split: str,
    rounding: float | None,
) -> dict[str, Any]:
    """Returns the contents of `export.json`, which are the same for the same run and versions."""
    numbers = {
        "examples": report.examples,
        "split": split,
        "largest_difference": report.largest_difference,
        "equal_predictions": report.equal_predictions,
    }
    described = {
        "format": format_name,
        "network": exported.name,
        "bits": exported.bits,
        "reloaded": {"by": report.program} | (numbers if report.examples else {}),
        "equal_predictions_in_float32": rounding,
        "versions": {"jax": jax.__version__},
        "files": {path.name: files.file_digest(path) for path in sorted(folder.iterdir())},
    }
    return described | {DIGEST: files.json_digest(described)}


def read_report(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the description of an export, and checks that its files are those that were written.

    Raises:
        UserError: for a folder that is no export, for missing or altered files, and for files without a digest.
    """
    place = folder / REPORT
    try:
        described = dict(json.loads(place.read_text(encoding="utf-8")))
        expected, _, digest = dict(described["files"]), described["network"], described.pop(DIGEST)
        form = find_format(described["format"], f"format of {place}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place} must describe an export, got {error!r}. Export again") from error
    if digest != files.json_digest(described):
        raise UserError(f"{place} must be as it was exported, got another content. Export or copy it again")
    needed = {path.name for path in folder.iterdir()} & {FEATURIZER, *TOKENIZER_FILES}
    if unlisted := sorted({form.FILE, CONFIG, *needed} - expected.keys()):
        raise UserError(f"files of {place} must name every file of the network, got none of {unlisted}. Export again")
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file() or files.file_digest(path) != digest:
            state = "another content" if path.is_file() else "no file"
            raise UserError(f"{path} must be as it was exported, got {state}. Export or copy it again")
    return described
