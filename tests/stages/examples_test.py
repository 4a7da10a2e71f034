"""Examples that the report draws: their positions, their batches and their images."""

import types

import numpy as np
import pytest

from jaxdistill.stages import examples


@pytest.mark.parametrize(
    ("count", "most", "positions"), [(10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (1, 8, [0]), (9, 1, [0])]
)
def test_positions_are_evenly_spaced(count, most, positions):
    assert examples.choose_evenly(count, most).tolist() == positions


def test_images_are_bytes():
    image = np.array([[[0.0], [0.5], [1.2]]], np.float32)
    assert examples.to_bytes(image).tolist() == [[[0], [128], [255]]]
    assert examples.to_bytes(np.uint8([7])).tolist() == [7]


@pytest.mark.parametrize(("rows", "largest", "size"), [(8, 64, 8), (8, 2, 2), (100, 500, 64)])
def test_a_batch_is_no_larger_than_that_of_an_evaluation(monkeypatch, rows, largest, size):
    sizes = []

    def iterate(split, size, classes, process):
        sizes.append(size)
        return iter([{"mask": np.ones(size)}])

    monkeypatch.setattr(examples.loader, "iterate_once", iterate)
    monkeypatch.setattr(examples.mesh, "num_blocks", lambda mesh: 1)
    monkeypatch.setattr(examples.mesh, "put", lambda mesh, raw: raw)
    monkeypatch.setattr(examples, "Subset", lambda split, index: None)
    dataset = types.SimpleNamespace(split=lambda role: None, classes=3)
    data = types.SimpleNamespace(dataset=dataset, evaluation_batch_size=largest, process=None)
    evaluate = types.SimpleNamespace(split="test")
    stage = types.SimpleNamespace(mesh=None, data=data, settings=types.SimpleNamespace(evaluate=evaluate))
    found = examples.over_examples(stage, lambda variables, raw: (raw["mask"], raw["mask"]), {}, np.arange(rows))
    assert sizes == [size]
    assert len(found) == size
