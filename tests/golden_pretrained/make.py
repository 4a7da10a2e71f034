"""Stores what transformers, torchvision and timm compute for the networks of `pretrained_cases.py`.

    python tests/golden_pretrained/make.py [NAME ...]

Needs torch, transformers, torchvision and timm beside what the tests need. Weights are drawn by a rule.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Mapping

import numpy as np
import timm
import torch
import torchvision
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pretrained_cases as cases
from jaxdistill.pretrained.tensors import read_safetensors


def write_drawn(name: str, folder: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Writes the folder of a network as transformers does, with drawn tensors; returns their shapes."""
    architecture, keys = (cases.CASES | cases.WITHOUT_HEAD)[name]
    kind = getattr(transformers, architecture)
    kind(kind.config_class(**keys)).save_pretrained(folder)
    shapes = {key: tensor.shape for key, tensor in read_safetensors(folder / "model.safetensors").items()}
    cases.write_folder(folder, json.loads((folder / "config.json").read_text()), shapes)
    return shapes


def compute(name: str, folder: pathlib.Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the logits and the taps that transformers computes with the weights of a folder."""
    kind = getattr(transformers, (cases.CASES | cases.WITHOUT_HEAD)[name][0])
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    more = {"output_hidden_states": True, "output_attentions": True}
    if "image" in inputs:
        images = torch.tensor(np.moveaxis(inputs["image"], -1, 1))
        if inputs["image"].shape[1] != model.config.image_size and "dinov2" not in name:
            more["interpolate_pos_encoding"] = True
        arguments = {"pixel_values": images}
    else:
        mask = torch.tensor(inputs["token_mask"], dtype=torch.long)
        arguments = {"input_ids": torch.tensor(inputs["tokens"], dtype=torch.long), "attention_mask": mask}
        if "segment" in inputs:
            arguments["token_type_ids"] = torch.tensor(inputs["segment"], dtype=torch.long)
        if not name.startswith("roberta"):
            arguments["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        found = model(**arguments, **more)
    states = [state.numpy() for state in found.hidden_states]
    taps = {"embed": states[0]} | {f"block{i}": state for i, state in enumerate(states[1:])}
    if name in cases.DECODERS:  # the last of the states is after the last norm
        taps["final"] = taps.pop(f"block{len(states) - 2}")
    taps |= {f"block{i}/attention": weights.numpy() for i, weights in enumerate(found.attentions)}
    named = (("last_hidden_state", "final"), ("pooler_output", "pooled"), ("logits", "logits"))
    named += (("cls_logits", "class_logits"), ("distillation_logits", "distillation_logits"))
    return taps | {ours: found[theirs].numpy() for theirs, ours in named if theirs in found}


def build_torch(name: str) -> torch.nn.Module:
    """Builds a network of torchvision or timm with drawn weights."""
    keys = cases.TORCH[name] | {"num_heads": 2, "num_classes": 3}
    if name == "torchvision_vit":
        model = torchvision.models.VisionTransformer(**keys)
    elif name == "timm_deit":
        model = timm.models.deit.VisionTransformerDistilled(**keys)
    else:
        model = timm.models.VisionTransformer(**keys, init_values=1.0 if name == "timm_dinov2" else None)
    drawn = {key: torch.tensor(cases.draw(key, tuple(x.shape))) for key, x in model.state_dict().items()}
    model.load_state_dict(drawn)
    return model.eval()


def compute_torch(model: torch.nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the logits of a network, and its last states if it gives them."""
    tensor = torch.tensor(np.moveaxis(images, -1, 1))
    with torch.no_grad():
        arrays = {"logits": model(tensor).numpy()}
        if hasattr(model, "forward_features"):
            arrays["final"] = model.forward_features(tensor).numpy()
    return arrays


def store(name: str) -> None:
    """Stores the outputs of one network."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, config = pathlib.Path(temporary), {}
        if name in cases.TORCH:
            inputs, model = cases.make_inputs("vit"), build_torch(name)
            shapes = {key: tuple(x.shape) for key, x in model.state_dict().items()}
            arrays = compute_torch(model, inputs["image"])
        else:
            shapes = write_drawn(name, folder)
            config = json.loads((folder / "config.json").read_text())
            inputs = cases.make_inputs(name, length=5, side=20 if name.startswith("dinov2") else 0)
            arrays = compute(name, folder, inputs)
        about = {"config": config, "shapes": shapes, "inputs": [*inputs]}
        arrays |= {f"input/{key}": value for key, value in inputs.items()}
        np.savez_compressed(cases.GOLDEN / f"{name}.npz", about=np.array(json.dumps(about)), **arrays)


def main(names: list[str]) -> None:
    for name in names or [*cases.CASES, *cases.TORCH]:
        store(name)


if __name__ == "__main__":
    main(sys.argv[1:])
