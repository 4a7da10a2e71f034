"""Teachers that are functions, or NNX modules."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import runs
import toys
from jaxdistill import core
from jaxdistill.config.members import NetworkConfig
from jaxdistill.core import Output, Term
from jaxdistill.errors import UserError
from jaxdistill.methods.kd import KD
from jaxdistill.networks import Function, Trained, run
from jaxdistill.networks.source import Context
from jaxdistill.train.step import make_step
from runs import launched


class Small(nnx.Module):
    """With batch statistics and dropout, both of which must be still."""

    def __init__(self, seed=0, classes=10, side=8):
        rngs = nnx.Rngs(seed)
        self.norm = nnx.BatchNorm(side * side, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(side * side, classes, rngs=rngs)

    def __call__(self, x):
        x = self.norm(x.reshape(x.shape[0], -1))
        return self.head(self.dropout(x)), {"pooled": x}


class Named:
    name = "a class beside nnx.Module"


class Mixed(Small, Named):
    pass


def linear(slope=1.0):
    return lambda x: slope * x[:, 0, :, 0] @ jnp.ones((8, 10))


def broken():
    raise RuntimeError("no weights here")


@pytest.fixture
def mine():
    """A user's module that can be imported."""
    sys.modules["mine_of_a_user"] = module = types.ModuleType("mine_of_a_user")
    module.Small, module.linear, module.broken, module.number = Small, linear, broken, lambda: 3
    module.nothing, module.whole = lambda: lambda x: None, lambda: lambda x: jnp.zeros((len(x), 10), jnp.int32)
    module.failing, module.Mixed = lambda: lambda x: {}["weights"], Mixed
    yield "mine_of_a_user"
    del sys.modules["mine_of_a_user"]


def test_whatever_a_function_returns_is_an_output():
    batch = toys.batch()
    for function in (lambda x: x[:, 0, :3, 0], lambda x: (x[:, 0, :3, 0], {"pooled": x[:, 0, 0]})):
        output, changed = Function(function)({}, batch, {}, None)
        assert changed == {}
        np.testing.assert_array_equal(output.logits, batch["image"][:, 0, :3, 0])
    assert output.tap("pooled").shape == (8, 1)
    half, _ = Function(lambda x: Output(x[:, 0, :3, 0].astype(jnp.bfloat16)))({}, batch, {}, None)
    assert half.logits.dtype == jnp.float32


def test_an_nnx_module_teaches_in_evaluation_mode_and_stays_as_it_is():
    module, batch = Small(classes=toys.CLASSES, side=toys.SIDE), toys.batch()
    networks = {"teacher": Function.of_nnx(module), "student": Trained(toys.Net())}
    tx, terms = optax.sgd(0.1), {"kd": Term(KD())}
    state, frozen = toys.start(networks, terms, tx, batch)
    assert set(state.params) == {"student"}
    before = jax.tree.map(np.array, frozen["teacher"]["params"])
    step = jax.jit(make_step(networks, terms, tx))
    for _ in range(2):
        state, metrics = step(state, frozen, batch)
    assert np.isfinite(metrics["loss"])
    assert toys.same(before, frozen["teacher"]["params"])
    known = core.merge_variables(state.params, state.variables, frozen)
    keys = core.fold_in(jax.random.key(0), networks)
    said = run(networks, known, batch, keys)[0]["teacher"]
    np.testing.assert_allclose(said.logits, module(batch["image"])[0], rtol=1e-5, atol=1e-6)
    assert said.tap("pooled").shape == (8, toys.SIDE**2)


CONFIG = """
from ml_collections import ConfigDict

def get_config(mode=""):
    c = ConfigDict()
    c.batch, c.steps = 64, 2
    c.data = dict(name="digits")
    c.networks = dict(
        teacher=dict(source="function", factory="{make}", settings=dict({settings})),
        student=dict(source="trained", model="mlp", widths=(8,)),
    )
    c.terms = dict(kd=dict(method="kd"))
    c.evaluate = dict(metrics=("accuracy", "agreement"))
    c.stages = dict(
        distil=dict(),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={{}}, student=dict(source="frozen", weights="stage:distil")),
            evaluate=dict(split="test", saliency=False),
        ),
    )
    return c
"""


def written(folder, make, settings=""):
    (folder / "config.py").write_text(CONFIG.format(make=make, settings=settings))
    return str(folder / "config.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "parameters"), [("Mixed", "seed=3", 2 * 64 + 64 * 10 + 10), ("linear", "", 0)]
)
def test_a_config_names_a_factory(mine, tmp_path, name, settings, parameters):
    assert launched(tmp_path / "run", config=written(tmp_path, f"{mine}:{name}", settings)) == 0
    found = {row["network"]: row for row in runs.results(tmp_path / "run")}
    teacher, student = found["teacher"], found["student"]
    assert (teacher["parameters"], teacher["agreement"]) == (parameters, 1.0)
    assert 0 < student["agreement"] < 1


def built(**options):
    settings = NetworkConfig.parse(dict(source="function", **options), "networks.teacher")
    return Function.build("teacher", settings.options, Context(classes=3, images=None, input="tokens"))


def test_a_config_names_the_function_or_the_module_itself_and_further_fields(mine):
    def pooled(tokens, token_mask):
        return jnp.stack([tokens.sum(-1), token_mask.sum(-1), tokens[:, 0]], -1).astype(jnp.float32)

    module = Small(classes=3, side=2)
    vars(sys.modules[mine]).update(pooled=pooled, module=module)
    batch = {"tokens": jnp.arange(8.0).reshape(2, 4), "token_mask": jnp.ones((2, 4))}
    output, _ = built(function=f"{mine}:pooled", keywords=("token_mask",))({}, batch, {}, None)
    np.testing.assert_array_equal(output.logits, [[6, 4, 0], [22, 4, 4]])
    source = built(function=f"{mine}:module")
    np.testing.assert_allclose(
        source(source.variables, batch, {}, None)[0].logits, module(batch["tokens"])[0], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(), r"networks\.teacher must have function or factory"),
        (dict(function="mine_of_a_user:linear", factory="mine_of_a_user:linear"), "Set one of the two"),
        (dict(function="mine_of_a_user:linear", settings=dict(slope=1.0)), "settings must be empty without factory"),
        (dict(function="mine_of_a_user:lineal"), "must be a name in mine_of_a_user, got"),
        (dict(function="numpy:pi"), r"function must be a function or an nnx\.Module, got 3\.14"),
    ],
)
def test_functions_that_a_config_cannot_name(mine, options, message):
    with pytest.raises(UserError, match=message):
        built(**options)


def test_a_field_that_the_batch_does_not_have(mine):
    with pytest.raises(UserError, match="keywords of the function of a network must be a field of the batch"):
        Function(linear(), keywords=("masks",))({}, toys.batch(), {}, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("nowhere:at_all", "got 'nowhere:at_all' with {} (ModuleNotFoundError"),
        (
            "mine_of_a_user:broken",
            "factory must be 'package.module:factory', importable from here, that returns a function of images or an"
            " nnx.Module, got 'mine_of_a_user:broken' with {} (RuntimeError: no weights here)",
        ),
        ("mine_of_a_user:number", "must return a function or an nnx.Module, got 3 from"),
        ("mine_of_a_user:nothing", "got None for images"),
        ("mine_of_a_user:whole", "got int32"),
        ("mine_of_a_user:failing", "must accept 'image'"),
    ],
)
def test_other_objects_are_refused(mine, tmp_path, capsys, make, message):
    assert launched(tmp_path / "run", config=written(tmp_path, make)) == 2
    assert message in capsys.readouterr().err
