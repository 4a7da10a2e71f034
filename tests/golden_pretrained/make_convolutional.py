"""Stores outputs of torchvision, timm, transformers and Keras for small networks with drawn weights.

KERAS_BACKEND=jax PYTHONPATH=.:tests python tests/golden_pretrained/make_convolutional.py
"""

import json
import pathlib

import numpy as np

import convolutional_cases as cases
import convolutional_references as references
import keras_references

FOLDER = pathlib.Path(__file__).parent

SIDES = (37, 45)
"""Height and width."""


def main() -> None:
    for name, (build, taps) in references.SMALL.items():
        model = build()
        references.set_weights(model, cases.draw_all)
        outputs = references.compute(model, taps, cases.make_images(*SIDES))
        arrays = {tap: x if tap == "logits" else cases.project(x) for tap, x in outputs.items()}
        shapes = {key: tuple(x.shape) for key, x in model.state_dict().items()}
        config = {}
        if name.endswith("_hf"):
            config = model.config.to_diff_dict() | {"architectures": [type(model).__name__]}
        about = json.dumps({"config": config, "shapes": shapes, "sides": SIDES})
        np.savez_compressed(FOLDER / f"{name}.npz", about=about, **arrays)
        print(name, {tap: x.shape for tap, x in arrays.items()}, (FOLDER / f"{name}.npz").stat().st_size)
    keras_model, taps = keras_references.small_resnet()
    shapes = keras_references.set_weights(keras_model, cases.draw)
    outputs = keras_references.compute(keras_model, taps, cases.make_images(*SIDES))
    arrays = {tap: x if tap == "logits" else cases.project(x) for tap, x in outputs.items()}
    about = json.dumps({"config": {}, "shapes": shapes, "sides": SIDES})
    np.savez_compressed(FOLDER / "resnet_keras.npz", about=about, **arrays)
    for name, build in references.NAMES.items():
        shapes = {key: tuple(x.shape) for key, x in build().state_dict().items()}
        np.savez_compressed(FOLDER / f"{name}.npz", about=json.dumps({"config": {}, "shapes": shapes}))


if __name__ == "__main__":
    main()
