"""Formats by the prefix of a reference."""

from jaxdistill.pretrained.formats import FORMATS, describe, open_weights
from pretrained_folders import write_bert


def test_a_reference_describes_its_network(tmp_path):
    write_bert(tmp_path)
    keys = describe("hf", tmp_path, f"hf:{tmp_path}")
    assert keys["model"] == "encoder"
    assert keys["classes"] == 3
    assert open_weights("hf", tmp_path, f"hf:{tmp_path}").path == f"hf:{tmp_path}"
    assert "torch" in FORMATS
