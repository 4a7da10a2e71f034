"""Event files as TensorBoard reads them."""

import math

from jaxdistill.trackers import tensorboard


def test_checksums_are_those_of_a_published_example():
    """RFC 3720, B.4: the CRC-32C of 32 bytes of zeros is 0x8A9136AA; TFRecords rotate it and add a constant."""
    masked = ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert tensorboard._checksum(bytes(32)) == masked.to_bytes(4, "little")


def test_tensorboard_reads_the_scalars_and_drops_those_that_a_later_start_writes_again(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, steps in ((1, (1, 300, 40_000)), (301, (301, 500))):
        file = tensorboard.EventFile(tmp_path, first)
        for step in steps:
            file.add(step, {"loss": step / 4, "kd/größe": math.inf})
        file.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [
        (step, step / 4) for step in (1, 300, 301, 500)
    ]
    assert {event.value for event in read.Scalars("kd/größe")} == {math.inf}
