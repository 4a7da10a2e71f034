"""Smaller networks that begin from larger ones: blocks, slices and principal components by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import numpy_variables
from jaxdistill.compress import importance, inherit, unit_groups
from jaxdistill.errors import UserError
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.mlp import MLP

TOKENS = np.zeros((1, 4), np.int32)


def encoder(layers, width, heads=2, seed=0, **fields):
    model = Encoder(3, vocabulary=9, layers=layers, width=width, heads=heads, length=6, segments=0, **fields)
    return model, flatten_dict(numpy_variables.draw(model, TOKENS, seed=seed), sep="/")


def inherited(teacher, student, units, **settings):
    """The arrays and names of a compiled inheritance."""
    names = []

    def derive(teacher, student):
        arrays, derived = inherit.inherit(teacher, student, units, **settings)
        names.extend(derived)
        return arrays

    return jax.jit(derive)(teacher, student), tuple(names)


@pytest.fixture(scope="module")
def teacher():
    model, variables = encoder(layers=4, width=8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    return variables, unit_groups.find(lambda v, x: model.apply(v, x).logits, shapes, TOKENS)


def test_a_table_is_projected_to_its_principal_components(teacher):
    variables, units = teacher
    # The rows lie in a plane around their mean, so that two components keep their distances.
    random = np.random.default_rng(0)
    table = random.normal(size=(9, 2)) @ random.normal(size=(2, 8)) + 1
    variables = variables | {"params/embed/embedding": table.astype(np.float32)}
    _, student = encoder(layers=1, width=2, seed=1)
    arrays, names = inherited(variables, student, units, match="embedding$")
    assert names == ("params/embed/embedding", "params/positions/embedding")

    def distances(rows):
        return np.linalg.norm(rows[:, None] - rows[None], axis=-1)

    np.testing.assert_allclose(distances(arrays["params/embed/embedding"]), distances(table), atol=1e-4)
    components = inherit.principal_components(jnp.asarray(table, jnp.float32), 2)
    np.testing.assert_allclose(components.T @ components, np.eye(2), atol=1e-5)
    projected = variables["params/positions/embedding"] @ components
    np.testing.assert_allclose(arrays["params/positions/embedding"], projected, atol=1e-5)
    kept = "params/block0/feed_forward/up/kernel"
    np.testing.assert_array_equal(arrays[kept], student[kept])


def test_components_by_hand():
    rows = jnp.array([[1.0, 0, 0], [3, 0, 0], [2, 1, 0], [2, -1, 0]])
    np.testing.assert_allclose(inherit.principal_components(rows, 1), [[1], [0], [0]], atol=1e-6)


def test_everything_but_the_norms_of_a_projected_width_is_inherited(teacher):
    variables, units = teacher
    _, student = encoder(layers=2, width=4, seed=1)
    arrays, names = inherited(variables, student, units)
    fresh = {name for name in student if name not in names}
    assert fresh == {name for name in student if "norm" in name}
    assert {name: x.shape for name, x in arrays.items()} == {name: x.shape for name, x in student.items()}
    # Reading the width and writing it cancel: V V' is the identity on the components.
    components = inherit.principal_components(jnp.asarray(variables["params/embed/embedding"]), 4)
    heads = units.groups["block1/attention/key/kernel:2"]
    best = jnp.sort(jnp.argsort(-importance.magnitude(variables, heads))[:2])
    expected = jnp.einsum("wk,whd->khd", components, variables["params/block1/attention/query/kernel"])[..., best]
    np.testing.assert_allclose(arrays["params/block0/attention/query/kernel"], expected, atol=1e-5)


def test_slices_are_units_of_the_largest_weights():
    model = MLP(3, (4,))
    x = np.ones((1, 2), np.float32)
    variables = flatten_dict(numpy_variables.draw(model, x), sep="/")
    variables["params/dense1/kernel"] = np.array([[1, 9, 2, 8], [0, 0, 0, 0]], np.float32)
    variables["params/head/kernel"] = np.zeros((4, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    units = unit_groups.find(lambda v, x: model.apply(v, x).logits, shapes, x)
    student = flatten_dict(numpy_variables.draw(MLP(3, (2,)), x), sep="/")
    arrays, _ = inherited(variables, student, units, rule="slice")
    np.testing.assert_array_equal(arrays["params/dense1/kernel"], [[9, 8], [0, 0]])
    np.testing.assert_array_equal(arrays["params/dense1/bias"], variables["params/dense1/bias"][[1, 3]])


def test_a_wider_student_has_copies_and_the_same_function():
    x = np.ones((1, 2), np.float32)
    variables = flatten_dict(numpy_variables.draw(MLP(3, (4,)), x), sep="/")
    shapes = jax.eval_shape(MLP(3, (4,)).init, jax.random.key(0), x)
    units = unit_groups.find(lambda v, x: MLP(3, (4,)).apply(v, x).logits, shapes, x)
    student = flatten_dict(numpy_variables.draw(MLP(3, (6,)), x, seed=1), sep="/")
    arrays, names = inherited(variables, student, units)
    assert set(names) == set(student)

    def logits(arrays):
        kernel, bias, head = (
            np.asarray(arrays[f"params/{name}"]) for name in ("dense1/kernel", "dense1/bias", "head/kernel")
        )
        return np.maximum(x @ kernel + bias, 0) @ head

    np.testing.assert_allclose(logits(arrays), logits(variables), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("count", "blocks"), [(2, (1, 3)), (4, (0, 1, 2, 3)), (1, (3,)), (3, (0, 1, 3))])
def test_evenly_spaced_blocks(count, blocks):
    large, small = ({f"params/block{i}/up": 0 for i in range(number)} for number in (4, count))
    sources = inherit.source_names(large, small)
    assert sources == {f"params/block{i}/up": f"params/block{block}/up" for i, block in enumerate(blocks)}
    assert inherit.source_names(large, small, blocks[::-1])["params/block0/up"] == f"params/block{blocks[-1]}/up"


def test_mistakes(teacher):
    variables, units = teacher
    _, student = encoder(layers=2, width=4, seed=1)
    with pytest.raises(UserError, match="match must match an array of both networks, got 'foo'"):
        inherit.inherit(variables, student, units, match="foo")
    with pytest.raises(UserError, match="blocks must be 2 numbers of blocks of 4, got \\(1,\\)"):
        inherit.inherit(variables, student, units, blocks=(1,))
    with pytest.raises(UserError, match="blocks must be 2 numbers of blocks of 4, got \\(1, 4\\)"):
        inherit.inherit(variables, student, units, blocks=(1, 4))
    _, wide = encoder(layers=2, width=16, seed=1)
    with pytest.raises(UserError, match="match must match an array that fits, got 'embed/embedding'"):
        inherit.inherit(variables, wide, units, match="embed/embedding")
