"""Files of a run: atomic writing, JSON, digests, and differences as lines of + and -."""

import hashlib
import json
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.runtime import failures

PART = ".part"
"""The suffix of a file that is still being written; a process that was killed may leave it behind."""

CHECKPOINTS = "checkpoints"
"""The folder of a stage's checkpoints, in the folder of the stage."""

ANOTHER_WORKDIR = "Name another workdir with --workdir."


def local_path(key: str, text: str) -> pathlib.Path:
    """Returns the path that a config or a flag names: `~` is the home folder, and `file://` is left out.

    Args:
        key: the key that holds the path, for messages.
        text: the path.

    Raises:
        UserError: for another URL, the home folder of an unknown user, and text that cannot be a path.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "file":
        raise UserError(
            f"{key} must be a path of this machine, got the URL {text!r}. Mount the bucket (gcsfuse, s3fs; see"
            " launch/README.md) and name the path below the mount"
        )
    plain = urllib.parse.unquote(rest.removeprefix("localhost")) if separator else text
    if separator and not plain.startswith("/"):
        raise UserError(f"{key} must have an absolute path after file://, got {text!r}. Write file:///PATH")
    if not plain.isprintable():
        raise UserError(f"{key} must be a path of printable characters, got {text!r}. Leave the others out")
    try:
        return pathlib.Path(plain).expanduser()
    except RuntimeError as error:
        raise UserError(f"{key} must be an existing user's folder, got {text!r} ({error}). Write its path") from error


def input_path(key: str, text: str, below: str = "") -> pathlib.Path:
    """Returns the path of files that are only read; those of a URL (`gs://`, `s3://`) are fetched first.

    Args:
        key: the key that holds the path, for messages.
        text: the path or the URL.
        below: the file or folder in it that is fetched alone; the path is that of `text` all the same.

    Raises:
        UserError: as `local_path` does, and for a URL where nothing is or that cannot be read.
    """
    from jaxdistill.runtime import remote

    if not remote.is_url(text):
        return local_path(key, text)
    path = remote.fetch(key, f"{text.rstrip('/')}/{below}" if below else text)
    return path.parents[below.count("/")] if below else path


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file atomically: a reader finds the old content or the new, never a part.

    Args:
        path: the file; its folder is made if it is missing.
        content: all of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.write_bytes(content)
    part.replace(path)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    write_bytes(path, text.encode())


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def part_of(path: pathlib.Path) -> pathlib.Path:
    """Returns the file beside `path` that is written before it is renamed to it."""
    return path.with_name(path.name + PART)


def read_json(path: pathlib.Path, kind: type | tuple[type, ...], fix: str = ANOTHER_WORKDIR) -> Any:
    """Reads a JSON file that a run wrote.

    Args:
        path: the file.
        kind: the type that the value must have, or several.
        fix: the sentence of the error that names a remedy.

    Raises:
        UserError: if it cannot be read, is not JSON, or holds a value of another type.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if failures.is_of_access(error):
            raise failures.describe(error) or UserError(str(error)) from error
        raise UserError(f"{path} must be a JSON file of a run, and cannot be read ({error}). {fix}") from error
    if not isinstance(value, kind):
        raise UserError(f"{path} must be a file of a run, got JSON of another kind. {fix}")
    return value


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the lines of a `metrics.jsonl`, each with a stage and a step; none if it is missing.

    A killed run may leave a last line without its end, which is skipped.

    Raises:
        UserError: if another line is not one of metrics.
    """
    if not path.is_file():
        return []
    *complete, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    entries = []
    for number, line in enumerate(complete, 1):
        try:
            entry = json.loads(line)
            whole = isinstance(entry["stage"], str) and isinstance(entry["step"], int)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise UserError(
                f"{path} must have metrics in every line, got {line[:60]!r} in line {number}. Remove this line (sed -i"
                f" {number}d {path}), and the same command goes on"
            )
        entries.append(entry)
    return entries


def digest(*content: bytes) -> str:
    """Returns the first 16 hexadecimal digits of the SHA-256 of all content in order."""
    total = hashlib.sha256()
    for part in content:
        total.update(part)
    return total.hexdigest()[:16]


def json_digest(value: Any) -> str:
    """Returns the digest of a JSON value, which does not depend on the order of its keys."""
    return digest(json.dumps(value, sort_keys=True).encode())


def file_digest(path: pathlib.Path) -> str:
    """Returns the whole SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def diff_lines(expected: Mapping[str, Any], existing: Mapping[str, Any], limit: int | None = None) -> list[str]:
    """Lists the entries in which two flat mappings differ.

    Args:
        expected: values by name, listed with `-`.
        existing: values by name, listed with `+`.
        limit: the number of expected and of unexpected entries that are listed; all of them if None.

    Returns:
        Two lines an entry, `- NAME: VALUE` and `+ NAME: VALUE`, where an absent value is `(nothing)`; empty if
        both are equal as JSON. A last line counts the entries beyond the limit.
    """
    expected, existing = (json.loads(json.dumps(dict(entries))) for entries in (expected, existing))
    changed = [name for name in expected if expected[name] != existing.get(name)]
    extra = [name for name, value in existing.items() if name not in expected and value is not None]
    names = [*changed[:limit], *extra[:limit]]
    pairs = [(sign, name, entries) for name in names for sign, entries in (("-", expected), ("+", existing))]
    lines = [f"{sign} {name}: {entries.get(name, '(nothing)')}" for sign, name, entries in pairs]
    left = len(changed) + len(extra) - len(names)
    return lines + ([f"and {left} more"] if left else [])


def format_bytes(number: float) -> str:
    """Returns a size such as "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} GiB"
