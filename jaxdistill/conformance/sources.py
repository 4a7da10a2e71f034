"""Promises that every source of outputs keeps, checked on small networks and random images.

`check_source(MySource, {"tap": "pooled"})` builds a source as a config does, beside two networks `a`, which learns, and
`b`, which is frozen. Its references are to `a`, or to both; all other keys are those of `options`, or defaults.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.conformance.promise import Promise
from jaxdistill.core import Batch, LogitsForm, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks import Context, Follows, ForInference, Frozen, ImageSpec, Source, Trained, in_order, run
from jaxdistill.networks.options import reference_fields
from jaxdistill.networks.source import Parts

ROWS, SIDE, CLASSES = 6, 4, 3
SPEC = ImageSpec((SIDE, SIDE, 1), (0.5,), (0.25,))
NAME = "source"
"""Name of the network whose source is checked."""


class Classifier(nn.Module):
    """A small network with batch statistics, dropout, and the taps `map` and `pooled`."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        x = nn.Conv(5, (3, 3), name="conv")(x)
        feature_map = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = nn.Dropout(0.5, deterministic=not train)(feature_map)
        pooled = jnp.mean(x, (1, 2))
        return Output(nn.Dense(self.classes, name="head")(pooled), {"map": feature_map, "pooled": pooled})


@dataclasses.dataclass(frozen=True)
class Case:
    """A source among the networks that it needs.

    Attributes:
        networks: bound, in order; the source is `NAME`.
        batch: random images.
        variables: of the networks, by name.
    """

    networks: Mapping[str, Source]
    batch: Batch
    variables: Mapping[str, Variables]

    @property
    def source(self) -> Source:
        """The source that is checked."""
        return self.networks[NAME]

    def run(self, batch: Batch | None = None, train: bool = False) -> tuple[Output, Variables]:
        """Returns the source's output for a batch, and its updated collections."""
        keys = core.fold_in(jax.random.key(1), self.networks) if train else None
        outputs, changed = run(self.networks, self.variables, self.batch if batch is None else batch, keys)
        return outputs[NAME], changed[NAME]


def make_batch(extra: Batch) -> dict[str, jax.Array]:
    """Returns a batch of random images with two views, and further fields."""
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (ROWS, SIDE, SIDE, 1)
    batch = {
        "image": jax.random.normal(keys[0], shape),
        "image2": jax.random.normal(keys[1], shape),
        "label": jax.random.randint(keys[2], (ROWS,), 0, CLASSES),
        "index": jnp.arange(ROWS),
        "view": jnp.zeros(ROWS, jnp.int32),
        "mask": jnp.ones(ROWS, jnp.float32),
    }
    return batch | dict(extra)


def make_case(source: type[Source], options: Mapping[str, Any], extra: Batch | None = None) -> Case:
    """Builds a source as a config does, and its variables.

    Args:
        source: the class.
        options: config keys; references are filled in.
        extra: further fields of the batch.

    Raises:
        UserError: if a key is missing or refused.
    """
    references = {key: ("a", "b") if names_several else "a" for key, names_several in reference_fields(source).items()}
    context = Context(CLASSES, SPEC, dataset="random images", cached_classes={NAME: CLASSES})
    built = source.build(NAME, references | dict(options), context)
    built.check()
    networks = in_order({"a": Trained(Classifier()), "b": Frozen(Classifier()), NAME: built})
    batch = make_batch(extra or {})
    return Case(networks, batch, init_variables(networks, batch))


def make_subject(member: type[Source], **fields: Any) -> Case:
    """Builds a source with config keys."""
    return make_case(member, fields)


def init_variables(networks: Mapping[str, Source], batch: Batch) -> dict[str, Variables]:
    """Returns fresh variables of networks in order, by name."""
    zeros = jax.tree.map(jnp.zeros_like, dict(batch))
    variables: dict[str, Variables] = {}
    for position, (name, network) in enumerate(networks.items()):
        outputs = run({need: networks[need] for need in networks if need in variables}, variables, zeros, None)[0]
        variables[name] = network.init(jax.random.fold_in(jax.random.key(2), position), zeros, outputs, variables)
    return variables


def has_keys_with_meanings(case: Case) -> None:
    """Each config key has a line of meaning."""
    empty = [name for name, field in case.source.option_fields().items() if not field.metadata["meaning"]]
    expect(not empty, f"keys {empty} must have a meaning")


def names_its_needs(case: Case) -> None:
    """Each network that it names exists, and binding it again changes nothing."""
    missing = [name for name in case.source.needs if name not in case.networks]
    expect(not missing, f"needs must be names of networks, got {missing}")
    expect(case.source.bind(case.networks) == case.source, "bind must leave a bound source unchanged")


def outputs_float32(case: Case) -> None:
    """Logits have a row for each example and are finite numbers in float32; taps have the same rows."""
    output = case.run()[0]
    expect(core.prediction_shape(output.logits)[:1] == (ROWS,), "logits must have a row for each example")
    for name, x in {"logits": core.rows(output.logits), **output.taps}.items():
        for leaf in jax.tree.leaves(x):
            expect(leaf.shape[:1] == (ROWS,), f"{name} must have a row for each example, got {leaf.shape}")
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                expect(leaf.dtype == jnp.float32, f"{name} must be float32, got {leaf.dtype}")
                expect(np.isfinite(leaf).all(), f"{name} must be finite")


def has_shapes_that_can_be_traced(case: Case) -> None:
    """Its shapes are those of an abstract evaluation, and it can be compiled."""
    for train in (False, True):
        shapes = jax.eval_shape(functools.partial(case.run, train=train), case.batch)
        values = jax.jit(functools.partial(case.run, train=train))(case.batch)
        described = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), values)
        expect(described == shapes, f"shapes must be those of eval_shape, got {described}, not {shapes}")


def partitions_all_variables(case: Case) -> None:
    """Its params, changing and frozen variables are all its variables, each once, as `learns` and `frozen` state."""
    source, variables = case.source, case.variables[NAME]
    params, changing, frozen = parts = source.partition(variables)
    expect(count(parts) == count(variables), "partition must place each array once")
    expect(bool(params) == source.learns, f"learns must be True for a source with params alone, got {source.learns}")
    expect(not (source.frozen and (params or changing)), "a frozen source must have frozen variables alone")
    expect(not (frozen and not source.frozen), "variables must be frozen only if the source is")


def is_deterministic_in_inference(case: Case) -> None:
    """Without a key it returns the same again, and updates nothing."""
    (first, changed), (second, _) = case.run(), case.run()
    expect(not changed, f"inference must update nothing, got {[*changed]}")
    compare(first, second, "inference must be deterministic")


def ignores_labels_in_inference(case: Case) -> None:
    """The output of a source that can be evaluated does not depend on labels."""
    if case.source.evaluable:
        labels = (case.batch["label"] + 1) % CLASSES
        compare(case.run()[0], case.run(case.batch | {"label": labels})[0], "inference must not depend on labels")


def states_that_it_reads_labels(case: Case) -> None:
    """The output in training depends on labels only if `reads_labels` states it."""
    if not case.source.reads_labels:
        labels = (case.batch["label"] + 1) % CLASSES
        first, second = case.run(train=True)[0], case.run(case.batch | {"label": labels}, train=True)[0]
        compare(first, second, "reads_labels must be True for a source whose output depends on labels")


def keeps_rows_apart_in_inference(case: Case) -> None:
    """An example's output does not depend on the other rows, such as padding."""
    padded = {name: x.at[0].set(x[1]) for name, x in case.batch.items()}
    first, second = (jax.tree.map(lambda x: x[1:], case.run(batch)[0]) for batch in (case.batch, padded))
    compare(first, second, "inference must keep the rows of a batch apart")


def states_its_gradient(case: Case) -> None:
    """Logits have a gradient by the images only if `differentiable` states it."""
    if isinstance(case.run()[0].logits, LogitsForm):
        return
    if not case.source.differentiable:
        gradient = jax.grad(lambda x: jnp.sum(case.run(case.batch | {"image": x})[0].logits))(case.batch["image"])
        expect(not np.any(gradient), "differentiable must be True for a source whose logits have a gradient")


def follows_its_base(case: Case) -> None:
    """A follower keeps the shapes and dtypes of its variables, and equals its base if it already does."""
    if isinstance(case.source, Follows):
        variables, base = case.variables[NAME], case.variables[case.source.of]
        followed = case.source.follow(variables, base, jnp.int32(7))
        shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (variables, followed)]
        expect(shapes[0] == shapes[1], "follow must keep shapes and dtypes")
        same = {name: base[name] for name in variables}
        compare(case.source.follow(same, base, jnp.int32(7)), same, "follow must keep a copy of the base")


def converts_for_inference(case: Case) -> None:
    """Variables converted for inference give the same output, if the precision is not reduced."""
    source = case.source
    if isinstance(source, ForInference) and not source.is_reduced_precision:
        converted = source.for_inference(case.variables[NAME], case.batch)
        output = dataclasses.replace(case, variables={**case.variables, NAME: converted}).run()[0]
        compare(case.run()[0], output, "for_inference must keep the output", rtol=1e-3, atol=1e-5)


PROMISES = tuple(
    Promise(inspect.cleandoc(promise.__doc__).rstrip("."), promise)
    for promise in (
        has_keys_with_meanings,
        names_its_needs,
        outputs_float32,
        has_shapes_that_can_be_traced,
        partitions_all_variables,
        is_deterministic_in_inference,
        ignores_labels_in_inference,
        states_that_it_reads_labels,
        keeps_rows_apart_in_inference,
        states_its_gradient,
        follows_its_base,
        converts_for_inference,
    )
)
"""The name of each is the docstring of its function, which raises `UserError` for a case that breaks it."""


def check_source(source: type[Source], options: Mapping[str, Any] | None = None, extra: Batch | None = None) -> None:
    """Checks every promise of a source.

    Args:
        source: the class.
        options: config keys that have no default.
        extra: further fields of the batch that it reads.

    Raises:
        UserError: for the first promise that is broken.
    """
    case = make_case(source, options or {}, extra)
    for promise in PROMISES:
        promise.check(case)


def expect(holds: Any, message: str) -> None:
    """Raises `UserError` unless a promise holds."""
    if not holds:
        raise UserError(message)


def compare(left: Any, right: Any, message: str, *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Raises `UserError` unless two trees are equal up to rounding."""
    for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        expect(np.allclose(x, y, rtol=rtol, atol=atol), message)


def count(parts: Parts | Variables) -> int:
    """Returns the number of arrays in a tree."""
    return len(jax.tree.leaves(parts))
