"""Records of the files that Weights & Biases leaves in its offline mode."""

import struct

BLOCK, HEADER, LAST = 32768, 7, (1, 4)
"""The format is LevelDB's log, after seven bytes of its own."""


def read_records(path):
    """Yields the records of a file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, content = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        if (left := BLOCK - place % BLOCK) < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        content += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in LAST:
            record = Record()
            record.ParseFromString(content)
            content = b""
            yield record


def name_of(item):
    """Returns the key of an item of a record."""
    return item.key or "/".join(item.nested_key)
