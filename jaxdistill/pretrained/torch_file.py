"""Files of tensors with the names of torchvision or timm, from which the model and its sizes are inferred."""

import importlib
import pathlib
import pkgutil

from jaxdistill.errors import UserError
from jaxdistill.pretrained import families
from jaxdistill.pretrained.pickles import refuse_pickles
from jaxdistill.pretrained.pretrained import Pretrained
from jaxdistill.pretrained.tensors import read_safetensors


def open_file(path: pathlib.Path, reference: str) -> Pretrained:
    """Returns the weights in a safetensors file.

    Args:
        path: of the file.
        reference: as the config names it, for messages.

    Raises:
        UserError: for another file, and names of tensors that are no family's.
    """
    refuse_pickles(path, reference)
    if not path.is_file():
        raise UserError(f"weights must be a safetensors file, got {reference!r}. There is no file {path}")
    tensors = read_safetensors(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    names = [info.name for info in pkgutil.iter_modules(families.__path__)]
    modules = {name: importlib.import_module(f"{families.__name__}.{name}") for name in names}
    readers = {name: module.from_shapes for name, module in modules.items() if hasattr(module, "from_shapes")}
    for reader in readers.values():
        correspondence = reader(shapes)
        if correspondence is not None:
            return Pretrained(reference, (path,), tensors, correspondence)
    raise UserError(
        f"weights={reference!r} must have the names of torchvision or timm of one of {sorted(readers)}, got"
        f" {[*shapes][:6]}. Rename the tensors, or write a Hugging Face folder"
    )
