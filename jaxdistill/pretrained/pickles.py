"""Refusal of pickled weights, which run code when they are read, with the command that converts them."""

import pathlib

from jaxdistill.errors import UserError

SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle")

CONVERT = (
    "python -c \"import torch, safetensors.torch as st; w = torch.load({path!r}, map_location='cpu',"
    " weights_only=True); w = w.get('state_dict', w); st.save_file({{k: v.contiguous().clone() for k, v in w.items()}},"
    ' {new!r})"'
)


def refuse_pickles(path: pathlib.Path, reference: str) -> None:
    """Raises `UserError` for a pickled file, or a folder of such, with the command that makes it a safetensors file."""
    pickled = [path] if path.suffix in SUFFIXES else []
    if path.is_dir():
        pickled = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.stem != "training_args")
    if not pickled:
        return
    name = "model.safetensors" if path.is_dir() else f"{path.stem}.safetensors"
    command = CONVERT.format(path=str(pickled[0]), new=str(pickled[0].with_name(name)))
    raise UserError(
        f"weights={reference!r} must be safetensors, got {pickled[0].name}, a pickle, which can run any code when it is"
        f" read. Convert it where you trust it, with torch and safetensors installed: {command}"
    )
