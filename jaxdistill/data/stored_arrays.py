"""Arrays of an `.npz`: large ones are mapped into memory, compressed ones from a temporary file."""

import os
import pathlib
import zipfile
import zlib
from typing import IO

import numpy as np

from jaxdistill.data.spilled import Scratch
from jaxdistill.errors import UserError

LOCAL_HEADER = 30
"""Bytes of a local header of a ZIP file before the name of the member; APPNOTE.TXT of PKWARE, section 4.3.7."""

PIECE = 16 << 20
"""Bytes whose checksum is computed at once."""


def read_arrays(path: str, file: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` by name, in memory up to `spilled.SPILL_FROM` bytes in all.

    Args:
        path: for messages.
        file: that exists.

    Raises:
        UserError: for a file of one array, another file, a damaged one, and objects.
    """
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise UserError(f"{path} must be an .npz of named arrays, got one array of {loaded.dtype}. Use np.savez")
        with loaded, zipfile.ZipFile(file) as archive:
            scratch, arrays = Scratch(), {}
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if scratch.hold(info.file_size):
                    arrays[name] = loaded[name]
                else:
                    is_stored = info.compress_type == zipfile.ZIP_STORED
                    arrays[name] = _map(file, info) if is_stored else _unpack(archive, info)
            return arrays
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = "pickled objects. Save plain arrays" if "pickle" in str(error) else f"{error}. Save it"
        raise UserError(f"{path} must be an .npz of plain arrays, got {reason} with np.savez") from error


def _map(path: pathlib.Path, info: zipfile.ZipInfo) -> np.ndarray:
    """Maps a member without compression, of which the checksum is right."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
        # The lengths of name and extra fields may differ from those of the central directory.
        start = info.header_offset + LOCAL_HEADER + sum(np.frombuffer(header[26:], "<u2").tolist())
        file.seek(start)
        checksum = 0
        for first in range(0, info.file_size, PIECE):
            checksum = zlib.crc32(file.read(min(PIECE, info.file_size - first)), checksum)
        if checksum != info.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")
        file.seek(start)
        shape, is_fortran, dtype = _read_header(file)
        return np.memmap(
            path, dtype, "r", offset=file.seek(0, os.SEEK_CUR), shape=shape, order="F" if is_fortran else "C"
        )


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Writes a compressed member into a file without a name, and maps that."""
    scratch = Scratch()
    with archive.open(info) as file:
        shape, is_fortran, dtype = _read_header(file)
        while piece := file.read(PIECE):
            scratch.write(piece)
    return scratch.map(dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    return shape, is_fortran, dtype
