"""Pickles are refused with the command that converts them."""

import pytest

from jaxdistill.errors import UserError
from jaxdistill.pretrained.pickles import SUFFIXES, refuse_pickles


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pickle_is_refused(tmp_path, suffix):
    path = tmp_path / f"resnet{suffix}"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"a pickle.*save_file.*resnet.safetensors"):
        refuse_pickles(path, f"torch:{path}")


def test_arguments_of_a_training_are_no_weights(tmp_path):
    (tmp_path / "training_args.bin").write_bytes(b"")
    refuse_pickles(tmp_path, f"hf:{tmp_path}")
