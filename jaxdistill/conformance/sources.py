"""Promises of sources of outputs, on small networks and random images.

A source is built as a config does, beside two networks: `a`, which learns, and `b`, which is frozen. Its references are
to `a`, or to both; all other keys have their defaults, or values that are set for the check.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.config.members import parse_options
from jaxdistill.conformance.promise import NotApplicable, Promise, require, require_close
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.networks import Context, Follows, ForInference, Frozen, ImageSpec, Source, Trained, in_order, run
from jaxdistill.networks.options import reference_fields
from jaxdistill.networks.source import CachedForm, Parts

ROWS, SIDE, CLASSES = 6, 4, 3
SPEC = ImageSpec((SIDE, SIDE, 1), (0.5,), (0.25,))
NAME = "source"
"""Name of the network whose source is checked."""


class DetectionHead(nn.Module):
    """The layer `head` of `Classifier` as the rest of a detection head, on the maps of its towers."""

    classes: int = CLASSES
    width: int = 5
    tower: int = 2

    @nn.compact
    def __call__(
        self, class_maps: Mapping[str, jax.Array], box_maps: Mapping[str, jax.Array], images: Any, start: int = 0
    ) -> Output:
        x = jnp.mean(class_maps["P0"] + box_maps["P0"], (1, 2))
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.width, self.classes))
        return Output(x @ kernel + self.param("bias", nn.initializers.zeros, (self.classes,))[None])


class Classifier(nn.Module):
    """A small network with batch statistics, dropout, and taps, among them those of the towers of a detector."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        x = nn.Conv(5, (3, 3), name="conv")(x)
        feature_map = nn.relu(nn.BatchNorm(use_running_average=not train, use_fast_variance=False, name="norm")(x))
        x = nn.Dropout(0.5, deterministic=not train)(feature_map)
        pooled = jnp.mean(x, (1, 2))
        taps = {"map": feature_map, "pooled": pooled, "P0/class1": feature_map, "P0/box1": feature_map}
        return Output(nn.Dense(self.classes, name="head")(pooled), taps)

    @nn.nowrap
    def make_head(self) -> DetectionHead:
        """Returns the module of the params `head`, as a detector does."""
        return DetectionHead(self.classes, parent=None)


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


def make_batch() -> dict[str, jax.Array]:
    """Returns a batch of random images with two views, and cached logits of the source."""
    keys = jax.random.split(jax.random.key(0), 4)
    shape = (ROWS, SIDE, SIDE, 1)
    return {
        "image": jax.random.normal(keys[0], shape),
        "image2": jax.random.normal(keys[1], shape),
        "label": jax.random.randint(keys[2], (ROWS,), 0, CLASSES),
        "index": jnp.arange(ROWS),
        "view": jnp.zeros(ROWS, jnp.int32),
        "mask": jnp.ones(ROWS, jnp.float32),
        "route": jnp.arange(ROWS) % 2,
        f"{core.CACHED}{NAME}/logits": jax.random.normal(keys[3], (ROWS, CLASSES)),
    }


def make_subject(member: type[Source], **options: Any) -> Case:
    """Builds a source as a config does, and its variables.

    Args:
        member: the class.
        options: values of config keys; references are filled in.

    Raises:
        UserError: if a key is missing or refused.
    """
    references = {key: ("a", "b") if names_several else "a" for key, names_several in reference_fields(member).items()}
    context = Context(
        CLASSES,
        SPEC,
        dataset="random images",
        cached={NAME: CachedForm(CLASSES)},
        routes=("a", "b"),
        token_map=(*range(CLASSES),),
    )
    owner = f"source {member.__name__}"
    source = member.build(NAME, parse_options(member, references | options, f"networks.{NAME}", owner), context)
    source.check()
    networks, batch = in_order({"a": Trained(Classifier()), "b": Frozen(Classifier()), NAME: source}), make_batch()
    return Case(networks, batch, init_variables(networks, batch))


def init_variables(networks: Mapping[str, Source], batch: Batch) -> dict[str, Variables]:
    """Returns fresh variables of networks in order, by name."""
    zeros = jax.tree.map(jnp.zeros_like, dict(batch))
    variables: dict[str, Variables] = {}
    for position, (name, network) in enumerate(networks.items()):
        outputs = run({need: networks[need] for need in networks if need in variables}, variables, zeros, None)[0]
        variables[name] = network.init(jax.random.fold_in(jax.random.key(2), position), zeros, outputs, variables)
    return variables


require_same = functools.partial(require_close, rtol=1e-5, atol=1e-6)
"""Raises `BrokenPromise` unless two trees are equal up to rounding."""


def has_keys_with_meanings(case: Case) -> None:
    """Each config key has a line of meaning."""
    empty = [name for name, field in case.source.option_fields().items() if not field.metadata["meaning"]]
    require(not empty, f"keys {empty} must have a meaning")


def names_its_needs(case: Case) -> None:
    """Each network that it names exists, and binding it again changes nothing."""
    missing = [name for name in case.source.needs if name not in case.networks]
    require(not missing, f"needs must be names of networks, got {missing}")
    require(case.source.bind(case.networks) == case.source, "bind must leave a bound source unchanged")


def outputs_float32(case: Case) -> None:
    """Logits have a row for each example and are finite numbers in float32; taps have the same rows."""
    output = case.run()[0]
    require(core.prediction_shape(output.logits)[:1] == (ROWS,), "logits must have a row for each example")
    for name, x in {"logits": core.rows(output.logits), **output.taps}.items():
        for leaf in jax.tree.leaves(x):
            require(leaf.shape[:1] == (ROWS,), f"{name} must have a row for each example, got {leaf.shape}")
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                require(leaf.dtype == jnp.float32, f"{name} must be float32, got {leaf.dtype}")
                require(np.isfinite(leaf).all(), f"{name} must be finite")


def has_shapes_that_can_be_traced(case: Case) -> None:
    """Its shapes are those of an abstract evaluation, and it can be compiled."""
    for train in (False, True):
        shapes = jax.eval_shape(functools.partial(case.run, train=train), case.batch)
        values = jax.jit(functools.partial(case.run, train=train))(case.batch)
        described = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), values)
        require(described == shapes, f"shapes must be those of eval_shape, got {described}, not {shapes}")


def partitions_all_variables(case: Case) -> None:
    """Its params, changing and frozen variables are all its variables, each once, as `learns` and `frozen` state."""
    source, variables = case.source, case.variables[NAME]
    params, changing, frozen = parts = source.partition(variables)
    require(count(parts) == count(variables), "partition must place each array once")
    require(bool(params) == source.learns, f"learns must be True for a source with params alone, got {source.learns}")
    require(not (source.frozen and (params or changing)), "a frozen source must have frozen variables alone")
    require(not (frozen and not source.frozen), "variables must be frozen only if the source is")


def is_deterministic_in_inference(case: Case) -> None:
    """Without a key it returns the same again, and updates nothing."""
    (first, changed), (second, _) = case.run(), case.run()
    require(not changed, f"inference must update nothing, got {[*changed]}")
    require_close(first, second, "inference must be deterministic", rtol=0)


def ignores_labels_in_inference(case: Case) -> None:
    """The output of a source that can be evaluated does not depend on labels."""
    if not case.source.evaluable:
        raise NotApplicable("the source cannot be evaluated")
    labels = (case.batch["label"] + 1) % CLASSES
    require_same(case.run()[0], case.run(case.batch | {"label": labels})[0], "inference must not depend on labels")


def states_that_it_reads_labels(case: Case) -> None:
    """The output in training depends on labels only if `reads_labels` states it."""
    if case.source.reads_labels:
        raise NotApplicable("the source reads labels")
    labels = (case.batch["label"] + 1) % CLASSES
    first, second = case.run(train=True)[0], case.run(case.batch | {"label": labels}, train=True)[0]
    require_same(first, second, "reads_labels must be True for a source whose output depends on labels")


def keeps_rows_apart_in_inference(case: Case) -> None:
    """An example's output does not depend on the other rows, such as padding."""
    padded = {name: x.at[0].set(x[1]) for name, x in case.batch.items()}
    first, second = (jax.tree.map(lambda x: x[1:], case.run(batch)[0]) for batch in (case.batch, padded))
    require_same(first, second, "inference must keep the rows of a batch apart")


def states_its_gradient(case: Case) -> None:
    """Logits have a gradient by the images only if `differentiable` states it."""
    if case.source.differentiable:
        raise NotApplicable("the source is differentiable")

    def total(image: jax.Array) -> jax.Array:
        return jnp.sum(core.dense(case.run(case.batch | {"image": image})[0].logits))

    gradient = jax.grad(total)(case.batch["image"])
    require(not np.any(gradient), "differentiable must be True for a source whose logits have a gradient")


def follows_its_base(case: Case) -> None:
    """A follower keeps the shapes and dtypes of its variables, and equals its base if it already does."""
    if not isinstance(case.source, Follows):
        raise NotApplicable("the source follows no other")
    variables, base = case.variables[NAME], case.variables[case.source.of]
    followed = case.source.follow(variables, base, jnp.int32(7))
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (variables, followed)]
    require(shapes[0] == shapes[1], "follow must keep shapes and dtypes")
    copied = {name: base[name] for name in variables}
    require_same(case.source.follow(copied, base, jnp.int32(7)), copied, "follow must keep a copy of the base")


def converts_for_inference(case: Case) -> None:
    """Variables converted for inference give the same output, if the precision is not reduced."""
    source = case.source
    if not isinstance(source, ForInference) or source.is_reduced_precision:
        raise NotApplicable("the source converts no variables, or to another precision")
    converted = source.for_inference(case.variables[NAME], case.batch)
    output = dataclasses.replace(case, variables={**case.variables, NAME: converted}).run()[0]
    require_close(case.run()[0], output, "for_inference must keep the output", rtol=1e-3, atol=1e-5)


PROMISES = (
    Promise("every config key has a line of meaning", has_keys_with_meanings),
    Promise("the networks that it needs exist, and a bound source stays as it is", names_its_needs),
    Promise("logits and taps are finite float32 with a row for each example", outputs_float32),
    Promise("it can be traced and compiled, with the shapes of its values", has_shapes_that_can_be_traced),
    Promise("its variables are trained, changing or frozen, each once", partitions_all_variables),
    Promise("inference is deterministic and updates nothing", is_deterministic_in_inference),
    Promise("inference does not depend on labels", ignores_labels_in_inference),
    Promise("the output depends on labels only if reads_labels is True", states_that_it_reads_labels),
    Promise("in inference no example depends on the other rows", keeps_rows_apart_in_inference),
    Promise("logits have a gradient by the images only if differentiable is True", states_its_gradient),
    Promise("a follower keeps shapes, dtypes and copies of its base", follows_its_base),
    Promise("variables for inference give the same output", converts_for_inference),
)
"""The properties that every source has."""


def count(parts: Parts | Variables) -> int:
    """Returns the number of arrays in a tree."""
    return len(jax.tree.leaves(parts))
