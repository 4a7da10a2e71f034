"""Files with the names of torchvision or timm that are no family's."""

import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.pretrained.tensors import write_safetensors
from jaxdistill.pretrained.torch_file import open_file


def test_unknown_names_are_refused_with_the_families(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", {"my.weight": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match=r"names of torchvision or timm of one of .*got \['my.weight'\]"):
        open_file(tmp_path / "w.safetensors", "torch:w.safetensors")


def test_missing_files_and_pickles_are_refused(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        open_file(tmp_path / "w.safetensors", "torch:w.safetensors")
    with pytest.raises(UserError, match="a pickle"):
        open_file(tmp_path / "w.pth", "torch:w.pth")
