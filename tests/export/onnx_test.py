"""ONNX files: without the converter one message, with it the same function, packed integers and the same bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exported_networks import examples_of, exported_of, half_size, image_predictor, text_predictor
from jaxdistill.errors import UserError
from jaxdistill.export import onnx
from jaxdistill.export.loaded import open_export
from jaxdistill.export.reload import predict
from jaxdistill.export.weights import variables_of
from jaxdistill.export.write import write_export
from jaxdistill.models.mlp import MLP


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx, "MODULES", ("numpy", "jax2onnx_of_another_name"))
    with pytest.raises(
        UserError, match=r"got none of \['jax2onnx_of_another_name'\]\. pip install 'jaxdistill\[onnx\]'"
    ):
        write_export(tmp_path / "out", exported_of(image_predictor()), "onnx", {})
    assert [*tmp_path.iterdir()] == []


PREDICTORS = {
    "image": image_predictor(half_size(), widths=(160, 160)),
    "text": text_predictor(),
}


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("name", PREDICTORS)
def test_a_file_is_the_same_function_and_the_same_bytes(tmp_path, name, bits):
    pytest.importorskip("jax2onnx")
    exported = exported_of(PREDICTORS[name], bits=bits)
    examples = examples_of(exported.predictor)
    for folder in ("first", "second"):
        lines = write_export(tmp_path / folder, exported, "onnx", examples)
        assert "read again by onnxruntime on 24 examples" in lines[1]
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    network = open_export(tmp_path / "first" / onnx.FILE)
    main = examples if name == "text" else examples["image"]
    expected = predict(exported.predictor, variables_of(exported.weights), examples)
    assert np.allclose(network.probabilities(main), expected, atol=1e-5)
    if name == "image" and bits == 4:
        kernels = 12 * 160 + 160 * 160
        assert kernels // 2 < (tmp_path / "first" / onnx.FILE).stat().st_size < kernels


class Sorted(MLP):
    """A perceptron with an operation that the converter does not have."""

    def __call__(self, x, train=False):
        output = super().__call__(x, train)
        return output.replace(logits=output.logits * jnp.linalg.svd(output.logits[:, None])[1])


@pytest.mark.slow
def test_an_operation_that_cannot_be_converted_is_named(tmp_path):
    pytest.importorskip("jax2onnx")
    predictor = image_predictor()
    source = type(predictor.source)(Sorted(3, (7,)))
    predictor = type(predictor)("student", "sorted", source, predictor.signature, predictor.images)
    with pytest.raises(UserError, match="sorted must consist of operations that jax2onnx converts, got .*svd"):
        write_export(tmp_path / "out", exported_of(predictor), "onnx", examples_of(predictor))
    assert [*tmp_path.iterdir()] == []
    assert jax.config.jax_enable_x64 is False
