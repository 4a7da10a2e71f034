"""Promises of models, on four small images or texts."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.conformance.promise import BrokenPromise, NotApplicable, Promise, require, require_close, require_finite
from jaxdistill.core import Output, Variables

CLASSES, EXAMPLES = 3, 4
IMAGES = jax.random.normal(jax.random.key(1), (EXAMPLES, 8, 8, 3))
FLOAT32 = ("pooled", "locations", "distances", "boxes", "centerness", "edges")
"""Taps that are float32 always: the input of a classifier, and predictions."""

TOKENS = jnp.array([[0, 1, 2, 1], [1, 1, 0, 2], [2, 0, 0, 1], [2, 2, 1, 0]])


@dataclasses.dataclass(frozen=True)
class ToyModel:
    """A model, with four examples of its input."""

    model: nn.Module

    @property
    def x(self) -> jax.Array:
        """Four images or texts."""
        return IMAGES if getattr(self.model, "inputs", ("image",))[0] == "image" else TOKENS

    @functools.cached_property
    def variables(self) -> Variables:
        """Random variables, drawn by numpy since compiling an initialisation takes seconds; variances are positive."""
        shapes = jax.eval_shape(functools.partial(self.model.init, train=False), jax.random.key(0), self.x)
        draw = np.random.default_rng(0)

        def fill(tree: Any, low: float) -> Any:
            return jax.tree.map(lambda leaf: jnp.asarray(draw.uniform(low, 0.3, leaf.shape), leaf.dtype), tree)

        return {name: fill(tree, -0.3 if name == "params" else 0.1) for name, tree in shapes.items()}

    @functools.cached_property
    def infer(self) -> Callable[[Variables, jax.Array], Output]:
        """The compiled model in inference."""
        return jax.jit(functools.partial(self.model.apply, train=False))

    @functools.cached_property
    def output(self) -> Output:
        """The output in inference for all examples."""
        return self.infer(self.variables, self.x)


def make_subject(member: Callable[..., nn.Module], **fields: Any) -> ToyModel:
    """Makes a model of three classes.

    Args:
        member: its class.
        fields: other values than the defaults.
    """
    missing = {"classes", "dtype"} - {field.name for field in dataclasses.fields(member)}
    require(not missing, f"fields must include classes and dtype, got none of {sorted(missing)}")
    return ToyModel(member(**{"classes": CLASSES} | fields))


def output_of_classes(toy: ToyModel) -> None:
    result = jax.eval_shape(functools.partial(toy.model.apply, train=False), toy.variables, toy.x)
    require(isinstance(result, Output), f"the result must be a jaxdistill.core.Output, got {type(result).__name__}")
    shape = core.prediction_shape(result.logits)
    require(
        shape[:1] == (EXAMPLES,),
        f"predictions must have one row per example, [{EXAMPLES}, ...], got {list(shape)}",
    )
    classes = core.num_classes(result.logits)
    require(classes == toy.model.classes, f"logits must be of {toy.model.classes} classes, got {classes}")


def finite_output(toy: ToyModel) -> None:
    require_finite(toy.output, "logits and taps")
    dtype = core.dense(toy.output.logits).dtype
    require(dtype == jnp.float32, f"logits must be float32, got {dtype}")


def one_row_per_example(toy: ToyModel) -> None:
    for name, tap in toy.output.taps.items():
        require(tap.shape[:1] == (EXAMPLES,), f"tap {name!r} must be [{EXAMPLES}, ...], got {list(tap.shape)}")


def logits_of_pooled(toy: ToyModel) -> None:
    logits, head = toy.output.logits, toy.variables["params"].get("head", {})
    if "pooled" not in toy.output.taps or "bias" not in head or getattr(logits, "ndim", 0) != 2:
        raise NotApplicable("the model has no linear classifier 'head' of the tap 'pooled'")
    expected = np.asarray(toy.output.tap("pooled")) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    require_close(logits, expected, "logits", rtol=1e-4)


def bfloat16(toy: ToyModel) -> None:
    """Computation is in bfloat16; variables, `pooled`, attention scores, predicted boxes and logits are float32."""
    model = toy.model.clone(dtype=jnp.bfloat16)
    output, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), toy.x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        require(leaf.dtype == jnp.float32, f"variable {core.path_name(path)} must be float32, got {leaf.dtype}")
    for name, tap in output.taps.items():
        dtype = jnp.float32 if name in FLOAT32 or name.endswith("/scores") else jnp.bfloat16
        require(tap.dtype == dtype, f"tap {name!r} must be {jnp.dtype(dtype)}, got {tap.dtype}")
    if not isinstance(output.logits, core.LogitsForm):
        require(output.logits.dtype == jnp.float32, f"logits must be float32, got {output.logits.dtype}")


def examples_are_independent(toy: ToyModel) -> None:
    """In inference, the first two examples alone have the output that they have among the others."""
    first = jax.tree.map(lambda leaf: leaf[:2], (core.dense(toy.output.logits), dict(toy.output.taps)))
    cut = toy.infer(toy.variables, toy.x[:2])
    require_close((core.dense(cut.logits), dict(cut.taps)), first, "output of the first examples", rtol=1e-4, atol=1e-4)


def training_keeps_params(toy: ToyModel) -> None:
    mutable = [name for name in toy.variables if name != "params"]
    train = functools.partial(toy.model.apply, train=True, mutable=mutable)
    output, _ = jax.eval_shape(train, toy.variables, toy.x, rngs={"dropout": jax.random.key(0)})
    require(
        {name: tap.shape for name, tap in output.taps.items()}
        == {name: tap.shape for name, tap in toy.output.taps.items()},
        "taps must be the same in training as in inference",
    )


def batch_statistics(toy: ToyModel) -> None:
    if "batch_stats" not in toy.variables:
        raise NotApplicable("the model has no batch statistics")

    def is_changed(variables: Variables, train: bool) -> Any:
        rngs = {"dropout": jax.random.key(0)}
        _, new = toy.model.apply(variables, toy.x, train=train, mutable=["batch_stats"], rngs=rngs)
        return jax.tree.map(lambda a, b: jnp.any(a != b), new["batch_stats"], variables["batch_stats"])

    for train in (True, False):
        leaves = jax.tree.leaves(jax.jit(functools.partial(is_changed, train=train))(toy.variables))
        if not all(bool(leaf) == train for leaf in leaves):
            raise BrokenPromise(f"train={train} must {'' if train else 'not '}change every statistic")


PROMISES = (
    Promise("the result is an Output of the predictions and classes", output_of_classes),
    Promise("logits and taps are finite, and logits are float32", finite_output),
    Promise("taps have one row per example", one_row_per_example),
    Promise("logits of a linear classifier are those of the tap 'pooled'", logits_of_pooled),
    Promise("in bfloat16, variables, pooled and logits stay float32", bfloat16),
    Promise("examples do not depend on each other in inference", examples_are_independent),
    Promise("training runs with a key for dropout, and has the same taps", training_keeps_params),
    Promise("batch statistics change in training only", batch_statistics),
)
