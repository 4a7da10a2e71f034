"""Programs in programs, derivatives and devices, by the definition of a call and by oneDNN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxdistill.runtime.onednn import library, program
from jaxdistill.train import mesh as sharding
from models.contract_test import SMALL
from onednn_calls import (
    NUMBERS,
    EveryGeometry,
    count_calls,
    count_equations,
    define_call,
    draw,
    gradients,
    largest_difference,
)

needs_onednn = pytest.mark.skipif(library.find_parts() is None, reason=f"needs {library.EXTRA}")


def convolve(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NUMBERS)


def scanned(x, w):
    def loss(x, w):
        return jnp.sum(jax.lax.scan(lambda x, _: (jnp.tanh(convolve(x, w)), None), x, length=3)[0] ** 2)

    return jax.value_and_grad(loss, (0, 1))(x, w)


def branched(x, w):
    return jax.lax.cond(x[0, 0, 0, 0] > 0, convolve, lambda x, w: x, x, w)


def recomputed(x, w):
    return jax.grad(lambda x, w: jnp.sum(jax.checkpoint(jax.jit(convolve))(x, w) ** 2), (0, 1))(x, w)


def second_derivative(x, w):
    return jax.jvp(lambda w: jax.grad(lambda w: jnp.sum(convolve(x, w) ** 3))(w), (w,), (jnp.ones_like(w),))


PROGRAMS = {
    "scan": (scanned, 3),
    "cond": (branched, 1),
    "remat": (recomputed, 3),
    "jvp of grad": (second_derivative, 4),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_convolutions_in_inner_programs_are_replaced(name):
    run, calls = PROGRAMS[name]
    rewritten = program.use_onednn(run, EveryGeometry())
    assert count_calls(rewritten, *draw((2, 4, 4, 3), (3, 3, 3, 3))) == calls


def test_a_program_without_convolutions_is_as_it_was():
    run = lambda a, b: {"product": a @ b, "a": a}  # noqa: E731
    a, b = draw((2, 3), (3, 4))
    rewritten = program.use_onednn(run, EveryGeometry())
    assert str(jax.make_jaxpr(rewritten)(a, b)) == str(jax.make_jaxpr(run)(a, b))
    assert rewritten(a, b).keys() == {"product", "a"}


def split_over_devices(library, axes):
    """Runs a convolution with its gradients whose rows are split over four devices; returns both, and its calls."""
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 1} | axes)
    rows = PartitionSpec([axis for axis in ("data", "fsdp") if mesh.shape[axis] > 1])
    x, w = draw((8, 6, 6, 8), (3, 3, 8, 8))
    run = sharding.traced_on(mesh, gradients(2, "SAME"))
    split = jax.jit(program.use_onednn(run, library))
    placed = jax.device_put(x, NamedSharding(mesh, rows)), jax.device_put(w, NamedSharding(mesh, PartitionSpec()))
    return jax.jit(gradients(2, "SAME"))(x, w), split(*placed), count_equations("shard_map", split, *placed)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs devices")
def test_rows_stay_on_their_devices(monkeypatch):
    monkeypatch.setattr(jax.ffi, "ffi_call", define_call)
    expected, outputs, calls = split_over_devices(EveryGeometry(), {"data": -1})
    assert calls == 3
    assert largest_difference(expected, outputs) < 2e-6
    assert outputs[0].sharding.spec[0] == ("data", "fsdp")


@pytest.mark.skipif(jax.device_count() < 8, reason="needs devices")
def test_channels_over_devices_are_xlas():
    assert split_over_devices(EveryGeometry(), {"tensor": 2})[2] == 0


@pytest.fixture(scope="module")
def onednn():
    return library.load()


@needs_onednn
@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_onednn_in_inner_programs(name, onednn):
    run, _ = PROGRAMS[name]
    arrays = draw((2, 8, 8, 16), (3, 3, 16, 16))
    outputs = jax.jit(program.use_onednn(run, onednn))(*arrays)
    assert largest_difference(jax.jit(run)(*arrays), outputs) < 2e-6


@needs_onednn
@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 8, reason="needs devices")
def test_onednn_on_several_devices(onednn):
    expected, outputs, calls = split_over_devices(onednn, {"data": -1})
    assert calls == 3
    assert largest_difference(expected, outputs) < 2e-6


@needs_onednn
@pytest.mark.slow
def test_every_run_has_the_same_bits_with_other_programs_beside_it(onednn):
    """Eight programs at the same time, on the threads and primitives that they share."""
    import concurrent.futures

    run = jax.jit(program.use_onednn(gradients(1, "SAME"), onednn))
    arrays = [draw((16, 16, 16, 16), (3, 3, 16, width)) for width in (8, 16, 24, 32)]
    expected = [[np.asarray(y) for y in run(*pair)] for pair in arrays]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        repeated = list(threads.map(lambda index: (index % 4, run(*arrays[index % 4])), range(64)))
    for index, outputs in repeated:
        for y, z in zip(expected[index], outputs, strict=True):
            np.testing.assert_array_equal(y, z)


WITHOUT_CONVOLUTIONS = ("mlp", "vit", "mlp_segmenter", "encoder", "bilstm", "bag_of_embeddings", "decoder")
CONVOLUTIONAL = [name for name in SMALL if name not in WITHOUT_CONVOLUTIONS]


@needs_onednn
@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_family_of_models_has_the_values_and_gradients_of_xla(name, onednn):
    """Dropout-free training mode; a gradient may differ by the rounding of a sum over the images."""
    from jaxdistill.conformance.models import ToyModel

    toy = ToyModel(SMALL[name])
    x = toy.x

    def run(variables, x):
        def loss(params):
            output, new = toy.model.apply(
                variables | {"params": params},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves((output.logits, output.taps))), (output.taps, new)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    variables = jax.tree.map(jnp.asarray, toy.variables)
    rewritten = program.use_onednn(run, onednn)
    assert count_calls(rewritten, variables, x) >= 1
    (value, aux), grads = jax.jit(rewritten)(variables, x)
    (expected, expected_aux), expected_grads = jax.jit(run)(variables, x)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected_grads))
    assert abs(value - expected) < 1e-5 * max(abs(expected), 1)
    assert largest_difference(expected_aux, aux) < 1e-4
    for left, right in zip(jax.tree.leaves(expected_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5 * scale)
