"""Networks of transformers, torchvision and timm, computed here and there at odd lengths, paddings and sizes.

pip install torch torchvision timm transformers && python -m pytest -m slow tests/pretrained/live_test.py
"""

import importlib.util
import json
import sys

import numpy as np
import pytest

import pretrained_cases as cases
from jaxdistill.config import registry
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.huggingface import families_by_type
from jaxdistill.pretrained.tensors import read_safetensors, write_safetensors

NEEDED = ("torch", "torchvision", "timm", "transformers")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"pip install {' '.join(MISSING)}"),
]
NETWORKS = cases.CASES | cases.WITHOUT_HEAD
TEXTS = [name for name, (_, keys) in NETWORKS.items() if "patch_size" not in keys]
IMAGES = [name for name in NETWORKS if name not in TEXTS]
LENGTHS = {"short": 1, "odd": 7, "long": 11}


@pytest.fixture(scope="module")
def make():
    """The script that computes with other libraries."""
    sys.path.insert(0, str(cases.GOLDEN))
    import make

    return make


@pytest.fixture
def folder(make, request, tmp_path):
    """A folder that transformers wrote, with drawn tensors."""
    path = tmp_path / request.param
    make.write_drawn(request.param, path)
    return path


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("folder", TEXTS, indirect=True)
def test_texts(make, folder, length):
    name = folder.name
    inputs = cases.make_inputs(name, length=length)
    expected = make.compute(name, folder, inputs)
    cases.compare(cases.run(folder, inputs), expected, inputs["token_mask"])
    cases.compare(cases.run(folder, inputs, scan=True), expected, inputs["token_mask"])


@pytest.mark.parametrize("folder", ["llama_2", "llama_3_1", "mistral", "gemma"], indirect=True)
def test_long_texts(make, folder):
    """Rotary positions keep their digits."""
    inputs = cases.make_inputs(folder.name, length=2001)
    cases.compare(cases.run(folder, inputs), make.compute(folder.name, folder, inputs), inputs["token_mask"])


@pytest.mark.parametrize("folder", TEXTS, indirect=True)
def test_texts_padded_on_the_left(make, folder):
    """Tokens have the states that transformers computes; the class is that of the first token, not of padding."""
    name = folder.name
    inputs = cases.make_inputs(name, length=7)
    order = np.argsort(inputs["token_mask"], axis=1, kind="stable")
    moved = {key: np.take_along_axis(value, order, 1) for key, value in inputs.items()}
    expected = make.compute(name, folder, moved)
    expected.pop("pooled", None)
    result = cases.run(folder, moved)
    if name.endswith("_class"):
        right = cases.run(folder, inputs)
        del expected["logits"]
        np.testing.assert_allclose(result.logits, right.logits, rtol=1e-4, atol=1e-5)
    cases.compare(result, expected, moved["token_mask"])


@pytest.mark.parametrize("side", [12, 20])
@pytest.mark.parametrize("folder", IMAGES, indirect=True)
def test_images(make, folder, side):
    inputs = cases.make_inputs(folder.name, side=side)
    if side == 12 or folder.name.startswith("dinov2"):
        cases.compare(cases.run(folder, inputs), make.compute(folder.name, folder, inputs), None)
    else:
        expected = make.compute(folder.name, folder, inputs)
        cases.compare(cases.run(folder, inputs, interpolate=True), expected, None)


@pytest.mark.parametrize("folder", IMAGES, indirect=True)
def test_images_that_are_not_square(make, folder):
    inputs = cases.make_inputs(folder.name, side=20)
    inputs = {"image": inputs["image"][:, :8]}
    expected = make.compute(folder.name, folder, inputs)
    cases.compare(cases.run(folder, inputs, interpolate=True), expected, None)


@pytest.mark.parametrize("name", cases.TORCH)
def test_torchvision_and_timm(make, name, tmp_path):
    images = cases.make_inputs("vit")["image"]
    model = make.build_torch(name)
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {key: x.numpy() for key, x in model.state_dict().items()})
    cases.compare(cases.run(path, {"image": images}), make.compute_torch(model, images), None)


@pytest.mark.parametrize("folder", [name for name in cases.CASES if name != "vit_base"], indirect=True)
def test_transformers_computes_the_same_by_the_config_that_is_written(make, folder):
    """Every setting that `to_config` leaves out is the default of transformers."""
    name = folder.name
    inputs = cases.make_inputs(name, length=7)
    expected = make.compute(name, folder, inputs)
    config = json.loads((folder / "config.json").read_text())
    family = families_by_type()[config["model_type"]]
    tensors = read_safetensors(folder / "model.safetensors")
    found = family.from_config(ConfigJson(folder / "config.json", config), [*tensors])
    model = registry.find("model", found.model)(**found.fields)
    fields = {key: getattr(model, key) for key in model.__dataclass_fields__ if key not in ("parent", "name")}
    labels = {key: config[key] for key in ("id2label", "label2id") if key in config}
    (folder / "config.json").write_text(json.dumps(family.to_config(fields) | labels))
    for key, value in make.compute(name, folder, inputs).items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
