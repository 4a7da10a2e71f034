"""HDF5 files of Keras: outputs of ResNet, the forms of files, and files of others."""

import sys

import numpy as np
import pytest

import convolutional_cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained import keras_file
from jaxdistill.pretrained.families import resnet, vgg

h5py = pytest.importorskip("h5py", reason="files of Keras are HDF5")


def vgg_weights():
    """Weights of a VGG-16 of two channels and three hidden units."""
    shapes = {"fc1": (7 * 7 * 2, 3), "fc2": (3, 3), "predictions": (3, 4)}
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        for index in range(1, count + 1):
            shapes[f"block{stage}_conv{index}"] = (3, 3, 3 if (stage, index) == (1, 1) else 2, 2)
    return {
        f"{layer}.{weight}": convolutional_cases.draw(f"{layer}.{weight}", size)
        for layer, shape in shapes.items()
        for weight, size in (("kernel", shape), ("bias", shape[-1:]))
    }


def test_outputs_of_keras(tmp_path):
    output = convolutional_cases.check_golden("resnet_keras", tmp_path)
    assert output.logits.shape == (2, 3)


@pytest.mark.parametrize("form", ["published", "saved", "weights"])
def test_each_form_of_file_has_the_same_weights(form, tmp_path):
    weights = vgg_weights()
    convolutional_cases.write_keras(tmp_path / "w.h5", weights, form)
    opened = keras_file.open_file(tmp_path / "w.h5", "keras:w.h5")
    assert opened.correspondence.model == "vgg"
    assert opened.correspondence.fields == dict(classes=4, depth=16, channels=(2, 2, 2, 2, 2), hidden=3)
    assert opened.image_spec == keras_file.IMAGES
    assert opened.tensors.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(opened.tensors[name].open(), value)


def test_compressed_weights_are_read_too(tmp_path):
    weights = vgg_weights()
    convolutional_cases.write_keras(tmp_path / "w.h5", weights)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["fc1"]["fc1/kernel:0"]
        file["fc1"].create_dataset("fc1/kernel:0", data=weights["fc1.kernel"], compression="gzip")
    opened = keras_file.open_file(tmp_path / "w.h5", "keras:w.h5")
    np.testing.assert_array_equal(opened.tensors["fc1.kernel"].open(), weights["fc1.kernel"])


def test_arrays_of_the_first_kernel_and_the_hidden_layer():
    shapes = {name: value.shape for name, value in vgg_weights().items()}
    entries = {entry.name: entry for entry in vgg.from_keras(shapes).entries}
    kernel = np.arange(3.0).reshape(1, 1, 3, 1)  # blue, green, red
    first = entries["params.stage1_conv0.kernel"]
    np.testing.assert_array_equal(first.layout.from_tensor(kernel, kernel.shape).ravel(), [2, 1, 0])
    hidden = entries["params.hidden1.kernel"]
    assert hidden.layout.fits((7 * 7 * 2, 3), (7, 7, 2, 3))
    assert resnet.from_keras(shapes) is None


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("none.h5", "There is no file"),
        ("text.h5", r"text.h5 must be a whole HDF5 file of Keras, got .*\. Download the file again"),
        ("archive.keras", r"got an archive of Keras 3\. Write the file with model.save\('NEW.h5'\)"),
        ("other.h5", r"the layers of Keras Applications of one of \['resnet', 'vgg'\], got \['dense'\]"),
    ],
)
def test_other_files_are_refused(file, message, tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "archive.keras").write_bytes(b"PK")
    weights = {"dense.kernel": np.zeros((2, 3), np.float32), "dense.bias": np.zeros(3, np.float32)}
    convolutional_cases.write_keras(tmp_path / "other.h5", weights)
    with pytest.raises(UserError, match=message):
        keras_file.open_file(tmp_path / file, f"keras:{file}")


def test_without_h5py_the_message_has_the_extra(tmp_path, monkeypatch):
    (tmp_path / "w.h5").write_text("")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"must be read by h5py, got .*\. pip install 'jaxdistill\[keras\]'"):
        keras_file.open_file(tmp_path / "w.h5", "keras:w.h5")
