"""Checkouts of code: the commit of a folder under git, and what differs from it."""

import dataclasses
import pathlib
import subprocess

from jaxdistill.runtime import files

PATIENCE = 60.0
"""Seconds that git may take, on a slow file system."""

LONGEST = 2**22
"""Bytes of a diff that are stored."""

DIFF = ("diff", "HEAD", "--no-color", "--no-ext-diff")
LISTING = ("ls-files", "--others", "--exclude-standard", "--directory", "--no-empty-directory", "-z")
"""Words of git: changes of tracked files, and files that it neither has nor ignores."""


@dataclasses.dataclass(frozen=True)
class Checkout:
    """A folder under git.

    Attributes:
        root: its top.
        commit: of HEAD; "" before the first.
        diff: of the tracked files from that commit.
        untracked: files and folders that git neither has nor ignores.
    """

    root: pathlib.Path
    commit: str
    diff: bytes
    untracked: tuple[str, ...]

    @property
    def title(self) -> str:
        """The commit, with `+` if files differ from it."""
        return (self.commit or "none") + ("+" if self.diff or self.untracked else "")

    def record(self, name: str, workdir: pathlib.Path) -> dict[str, object]:
        """Writes the diff into the workdir, as `NAME-DIGEST.diff`; returns the rest, with the name of that file."""
        untracked = [path for path in self.untracked if not workdir.resolve().is_relative_to(self.root / path)]
        entry: dict[str, object] = {"folder": str(self.root), "commit": self.commit, "untracked": untracked}
        if self.diff:
            stored = self.diff[:LONGEST]
            cut = b"" if len(stored) == len(self.diff) else b"\n(cut: %d bytes in all)\n" % len(self.diff)
            entry["diff"] = f"{name}-{files.digest(self.diff)}.diff"
            files.write_bytes(workdir / str(entry["diff"]), stored + cut)
        return entry


def find_root(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the top of the checkout that a folder is in; `None` if it is in none, or there is no git."""
    try:
        return pathlib.Path(_git(folder, "rev-parse", "--show-toplevel").decode().removesuffix("\n"))
    except (OSError, subprocess.SubprocessError):
        return None


def read_checkout(root: pathlib.Path) -> Checkout | None:
    """Returns the checkout with that top; `None` if git fails."""
    try:
        names = _git(root, *LISTING).decode(errors="replace")
        commit = _git(root, "for-each-ref", "--count=1").decode() and _git(root, "rev-parse", "HEAD").decode().strip()
        diff = _git(root, *DIFF) if commit else b""
    except (OSError, subprocess.SubprocessError):
        return None
    return Checkout(root, commit, diff, tuple(name for name in names.split("\0") if name))


def _git(folder: pathlib.Path, *words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True, timeout=PATIENCE).stdout
