"""Convolutional networks of torchvision, timm, transformers and Keras, drawn weights, and what they compute.

`golden_pretrained/make_convolutional.py` stores outputs of the small ones; `pretrained/convolutional_live_test.py`
computes those of the published ones.
"""

import json
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill.config import registry
from jaxdistill.core import Output
from jaxdistill.pretrained.correspondence import Correspondence
from jaxdistill.pretrained.formats import open_weights
from jaxdistill.pretrained.pretrained import Pretrained
from jaxdistill.pretrained.tensors import Tensor, write_safetensors

GOLDEN = pathlib.Path(__file__).parent / "golden_pretrained"
TOLERANCE = 1e-5
"""Of a difference, relative to the largest number of an array in float32."""


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the numbers of a tensor, which its name determines; the variance of activations stays about 1."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "moving_variance", "scale", "gamma")) or (
        name.endswith("weight") and len(shape) == 1
    ):
        return np.asarray(random.uniform(0.5, 1.5, shape), np.float32)
    inputs = shape[:-1] if name.endswith("kernel") else shape[1:]
    spread = np.sqrt(2 / np.prod(inputs)) if len(shape) > 1 else 0.2
    return np.asarray(spread * random.normal(size=shape), np.float32)


def draw_all(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns the numbers of tensors by name; counters of updates are left out."""
    return {name: draw(name, tuple(shape)) for name, shape in shapes.items() if not name.endswith("_tracked")}


def make_images(side: int, other_side: int = 0) -> np.ndarray:
    """Returns two images `[2, side, other_side, 3]`."""
    shape = (2, side, other_side or side, 3)
    return np.asarray(np.random.default_rng(side).normal(size=shape), np.float32)


def project(tap: np.ndarray) -> np.ndarray:
    """Returns the sums over channels by fixed random weights, which a file of a few kilobytes can hold."""
    return np.asarray(tap @ np.random.default_rng(tap.shape[-1]).normal(size=tap.shape[-1]), np.float32)


def run(name: str, path: pathlib.Path, images: np.ndarray) -> Output:
    """Returns the output of the network that weights describe.

    Args:
        name: of the format.
        path: of the weights.
        images: that it is called with; it computes in their dtype.
    """
    weights = open_weights(name, path, f"{name}:{path}")
    model = registry.find("model", weights.correspondence.model)(**weights.correspondence.fields)
    variables = weights.read(jax.eval_shape(model.init, jax.random.key(0), images))
    if images.dtype == np.float32:
        return jax.jit(model.apply)(variables, images)
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda x: np.asarray(x, images.dtype), variables)
        return jax.jit(model.clone(dtype=images.dtype).apply)(variables, images)


def compare(output: Output, expected: Mapping[str, np.ndarray], view: Callable[[np.ndarray], np.ndarray]) -> None:
    """Compares logits, and a view of each tap, with those of another library."""
    for name, reference in expected.items():
        actual = np.asarray(output.logits) if name == "logits" else view(np.asarray(output.tap(name)))
        assert actual.shape == reference.shape, name
        error = np.max(np.abs(actual - reference)) / np.max(np.abs(reference))
        assert error <= TOLERANCE, f"{name}: {error}"


def load_golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the names, the shapes and the config of a stored network, and its outputs."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays.pop("about")))
    return about | {"shapes": {key: tuple(shape) for key, shape in about["shapes"].items()}}, arrays


def check_names(name: str, family: Any) -> Correspondence:
    """Checks that each array of the network of stored names has a tensor of its shape, and each tensor an array."""
    about, _ = load_golden(name)
    correspondence = family.from_shapes(about["shapes"])
    tensors = {
        key: Tensor(pathlib.Path(name), shape, "F32", lambda: np.zeros(())) for key, shape in about["shapes"].items()
    }
    model = registry.find("model", correspondence.model)(**correspondence.fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), make_images(32))
    Pretrained(name, (), tensors, correspondence).check(shapes)
    return correspondence


def check_golden(name: str, folder: pathlib.Path) -> Output:
    """Compares a network with the stored outputs of another library, and returns its own."""
    about, arrays = load_golden(name)
    tensors, images = draw_all(about["shapes"]), make_images(*about["sides"])
    if name.endswith("_keras"):
        write_keras(folder / "w.h5", tensors)
        output = run("keras", folder / "w.h5", images)
    elif about["config"]:
        (folder / "config.json").write_text(json.dumps(about["config"]))
        write_safetensors(folder / "model.safetensors", tensors)
        output = run("hf", folder, images)
    else:
        write_safetensors(folder / "w.safetensors", tensors)
        output = run("torch", folder / "w.safetensors", images)
    compare(output, arrays, project)
    return output


def write_keras(path: pathlib.Path, weights: Mapping[str, np.ndarray], form: str = "published") -> None:
    """Writes weights `LAYER.WEIGHT`, those of a layer in Keras's order, as an HDF5 file.

    Args:
        path: of the file.
        weights: by name.
        form: "published", or "saved" as `model.save` writes it, or "weights" as `model.save_weights` does.
    """
    import h5py  # an extra

    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, value in weights.items():
        layer, weight = name.split(".")
        layers.setdefault(layer, {})[weight] = value
    with h5py.File(path, "w") as file:
        root = file if form == "published" else file.create_group({"saved": "model_weights", "weights": "layers"}[form])
        for place, (layer, parts) in enumerate(layers.items()):
            if form == "weights":
                variables = root.create_group(f"layer_{place}/vars")
                variables.attrs["name"] = layer
                for index, value in enumerate(parts.values()):
                    variables[str(index)] = value
                continue
            group = root.create_group(layer)
            names = [f"{layer}/{weight}:0" for weight in parts]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, parts.values(), strict=True):
                group[name] = value
