"""Scalars in the event files that TensorBoard reads.

A file is a sequence of TFRecords, each an `Event` of protocol buffers
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto). Libraries that write them
import PyTorch or TensorFlow where these are installed, which takes as long as the other imports of a run together.
"""

import pathlib
import socket
import struct
import time
from collections.abc import Mapping

import numpy as np

from jaxdistill.trackers.tracker import Tracker

_POLYNOMIAL = 0x82F63B78
"""Of CRC-32C, Castagnoli's, with its bits reversed."""


def _make_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _make_table()


class EventFile:
    """The events of one stage, in a new file of a folder.

    Args:
        folder: of the stage; files that earlier starts have left there are read together with this one.
        first: the first step; TensorBoard drops events of other files from it on.
    """

    def __init__(self, folder: pathlib.Path, first: int):
        folder.mkdir(parents=True, exist_ok=True)
        # A stage that ends and is resumed within a second has two files.
        self._file = (folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}").open("wb")
        self._write(_bytes(3, b"brain.Event:2"))
        self._write(_integer(2, first) + _bytes(7, _integer(1, 1)))  # a session's start

    def add(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars of a step."""
        summary = b"".join(
            _bytes(1, _bytes(1, name.encode()) + b"\x15" + np.float32(value).tobytes())
            for name, value in values.items()
        )
        self._write(_integer(2, step) + _bytes(5, summary))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, fields: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


class TensorBoard(Tracker):
    """Events of a stage in `workdir/tensorboard/STAGE`."""

    def __init__(self, workdir: pathlib.Path, stage: str, start: int):
        super().__init__(workdir, stage, start)
        self._events: EventFile | None = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._events = self._events or EventFile(self.workdir / "tensorboard" / self.stage, self.start + 1)
        self._events.add(step, dict(values))

    def close(self) -> None:
        if self._events:
            self._events.close()


def _checksum(data: bytes) -> bytes:
    """Returns the masked CRC-32C of a TFRecord."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Returns a number of 0 or more in groups of seven bits, the lowest first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
