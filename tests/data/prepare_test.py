"""TFDS datasets are prepared by the command, one of a user's own without TensorFlow."""

import functools
import sys
import types

import numpy as np
import pytest

import tiny_tfds
from jaxdistill.data import datasets, prepare
from jaxdistill.errors import UserError


@functools.cache  # TFDS registers a class once
def own_builder():
    """Returns a builder of TFDS whose images are encoded."""
    import tensorflow_datasets as tfds

    class Squares(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=(4, 4, 1)), "label": tfds.features.ClassLabel(names=["a", "b"])}
            )
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, dl_manager):
            return {role: self._generate_examples(role) for role in ("train", "test")}

        def _generate_examples(self, role):
            for number in range(10):
                yield number, {"image": tiny_tfds.encode(np.full((4, 4, 1), number, np.uint8)), "label": number % 2}

    return Squares


def test_a_builder_of_a_users_own_is_prepared_and_read_without_tensorflow(tmp_path, monkeypatch, capsys):
    module = types.ModuleType("lab_of_squares")
    monkeypatch.setitem(sys.modules, "lab_of_squares", module)
    module.Squares = own_builder()
    for _ in range(2):  # the second time it is there
        assert prepare.main(["lab_of_squares:Squares", "--data-dir", str(tmp_path)]) == 0
        assert str(tmp_path) in capsys.readouterr().out
    dataset = datasets.load("squares", data_dir=str(tmp_path))
    assert (len(dataset.splits["train"]), dataset.class_names) == (9, ("a", "b"))
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["nosuch_dataset", "lab_of_squares:Nothing", "numpy:zeros"])
def test_a_name_that_is_no_dataset(name, tmp_path):
    with pytest.raises(UserError, match="dataset must be"):
        prepare.prepare(name, str(tmp_path))


def test_a_dataset_that_needs_tensorflow_names_it(tmp_path, monkeypatch):
    module = types.ModuleType("lab_of_squares")
    monkeypatch.setitem(sys.modules, "lab_of_squares", module)
    module.Squares = own_builder()

    def download_and_prepare(self):
        raise ImportError("no TensorFlow", name="tensorflow")

    monkeypatch.setattr(module.Squares, "download_and_prepare", download_and_prepare)
    with pytest.raises(UserError, match=r"prepared with tensorflow, which is not installed\. pip install tensorflow"):
        prepare.prepare("lab_of_squares:Squares", str(tmp_path))
