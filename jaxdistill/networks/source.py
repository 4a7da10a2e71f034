"""The interface of a source: a network, or anything else that returns an `Output` for a batch.

A source is called as `source(variables, batch, outputs, key) -> (Output, changed)`: `variables` are its own,
`outputs` are those of the networks before it, and `changed` holds the collections that it has updated. `key=None` is
inference: fixed statistics, no dropout, nothing changed. Outputs are in float32, whatever dtype a network computes
in; logits that are not computed yet (`core.Unembedding`) stay as they are.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import flax.linen as nn
import jax

from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.networks.batch_sharding import keep_rows_split, split_rows
from jaxdistill.networks.meaning import Meaning
from jaxdistill.networks.options import option_fields, reference_fields, select

Outputs = Mapping[str, Output]
Parts = tuple[Any, Variables, Variables]
"""(params for the optimizer, variables that the step changes, frozen variables)."""


@dataclasses.dataclass(frozen=True)
class CachedForm:
    """The form of cached outputs.

    Attributes:
        classes: number of classes.
        shared: shapes of the arrays that all outputs share.
    """

    classes: int
    shared: Mapping[str, jax.ShapeDtypeStruct] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Context:
    """The data of a stage, as far as sources are built for it.

    Attributes:
        classes: number of classes.
        images: shape and standardisation of the images; `None` for texts.
        dataset: name of the dataset, for messages.
        input: the field of a batch that networks take by default.
        vocabulary: number of tokens of texts.
        trained_on: images that networks with weights were trained on, by name.
        meanings: classes and tokenizer of the data, by the field that a network reads.
        stored_meanings: those that networks with weights were trained on, by name.
        check_model: raises `UserError` for a module that does not fit the task, `check_model(network, model, module,
            input)`.
        keeps_size: whether networks get the images in their size, since predictions are of places in them.
        cached: classes and shared arrays of cached outputs, by name of the network.
        token_map: for each token the teacher's token of the same bytes, -1 for none; () for texts without spans.
        routes: the values of the column that chooses a network for an example, in the order of their numbers.
    """

    classes: int
    images: ImageSpec | None
    dataset: str = ""
    input: str = "image"
    vocabulary: int = 0
    trained_on: Mapping[str, ImageSpec] = dataclasses.field(default_factory=dict)
    meanings: Mapping[str, Meaning] = dataclasses.field(default_factory=dict)
    stored_meanings: Mapping[str, Meaning] = dataclasses.field(default_factory=dict)
    check_model: Callable[[str, str, nn.Module, str], None] = lambda network, model, module, field: None
    keeps_size: bool = False
    cached: Mapping[str, CachedForm] = dataclasses.field(default_factory=dict)
    token_map: tuple[int, ...] = ()
    routes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """Base class of sources, one file each; the fields with a meaning are the config keys.

    Every source has four hooks: `needs`, `init`, `partition` and `__call__`. What only some have is a protocol below.

    Class attributes:
        learns: whether it has params that the optimizer moves.
        frozen: whether its variables come from elsewhere, never change and are never saved.
        differentiable: whether its output has a gradient by the input.
        computed: whether its outputs are computed here, and so have a cost.
        reads_labels: whether its output depends on the labels of the batch.
        evaluable: whether it can be evaluated; not if it is a second pass over a training batch.
        evaluated_by_default: whether a stage that trains evaluates it, unless it is named.
        needs_weights: whether it is useless without weights from elsewhere.
        needs_fields: fields that an example must have for it.
        fitted: whether a stage of kind "pca" fits it.
        settings: a dataclass of further config keys, which are not fields.
    """

    learns = False
    frozen = False
    differentiable = True
    computed = True
    reads_labels = False
    evaluable = True
    evaluated_by_default = True
    needs_weights = False
    needs_fields: ClassVar[tuple[str, ...]] = ()
    fitted = False
    settings: ClassVar[type | None] = None

    @classmethod
    def option_fields(cls) -> dict[str, dataclasses.Field]:
        """Returns the fields that are config keys, by name; those of a model are not among them."""
        return option_fields(cls, *([cls.settings] if cls.settings else []))

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        """Makes the source from a config.

        Args:
            name: of the network.
            options: its parsed entry (`NetworkConfig.options`), with a value for each key.
            context: the data of the stage.

        Raises:
            UserError: for values that do not fit the data.
        """
        return cls(**select(cls, options))

    def check(self) -> None:
        """Checks the fields, before anything is compiled.

        Raises:
            UserError: for a field with a value that it cannot have.
        """

    def bind(self, networks: Mapping[str, "Source"]) -> "Source":
        """Returns the source with the networks that it needs beyond their outputs; `networks` precede it."""
        return self

    @property
    def pairing(self) -> Mapping[str, Any]:
        """Settings in which a student and a teacher must agree, if they are compared."""
        return {}

    @property
    def needs(self) -> tuple[str, ...]:
        """The networks that run before this one: those that its fields of type `NetworkRef` name."""
        names: list[str] = []
        for field, is_tuple in _reference_fields(type(self)).items():
            names += getattr(self, field) if is_tuple else [getattr(self, field)]
        return tuple(names)

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        """Returns fresh variables.

        Args:
            key: for random numbers.
            batch: zeros of the shapes of a batch.
            outputs: of the networks that it needs.
            variables: of the networks that it needs, by name.
        """
        return {}

    def partition(self, variables: Variables) -> Parts:
        """Splits variables into params for the optimizer, variables that the step changes, and frozen ones."""
        return {}, {}, {}

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        """Returns the output for a batch, and the collections of variables that were updated."""
        raise NotImplementedError


_reference_fields = functools.cache(reference_fields)


@runtime_checkable
class Follows(Protocol):
    """A source whose variables follow those of the network `of` after each optimizer update."""

    of: str

    def follow(self, variables: Variables, base: Variables, updates: jax.Array) -> Variables:
        """Returns the new variables after optimizer update number `updates`; `base` are those of the network `of`."""
        ...


@runtime_checkable
class Starts(Protocol):
    """A source that adds to the variables of its module what follows from them."""

    def start(self, variables: Variables, fresh: bool, batch: Batch | None = None) -> Variables:
        """Returns all variables; `fresh` ones are those that `init` has returned for a batch."""
        ...


@runtime_checkable
class Revises(Protocol):
    """A source that changes variables of its own after each optimizer update."""

    def revise(self, variables: Variables, updates: jax.Array) -> Variables:
        """Returns the changed collections after optimizer update number `updates`; `variables` are the new ones."""
        ...


@runtime_checkable
class Borrows(Protocol):
    """A source that is called with the variables of another network besides its own, as `variables["borrowed"]`."""

    @property
    def borrows(self) -> str:
        """The name of that network."""
        ...


@runtime_checkable
class Divides(Protocol):
    """A source whose output is of several networks, by example; terms log the part of their loss that each has."""

    def divide(self, batch: Batch) -> Mapping[str, jax.Array]:
        """Returns whether each example is of a network, bool `[batch]`, by its name; each is of one."""
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """A source whose networks `in_turn` compute one after the other."""

    in_turn: tuple[str, ...]


@runtime_checkable
class BringsVariables(Protocol):
    """A source whose variables are its own field `variables`, so that it needs none from elsewhere."""

    variables: Variables


@runtime_checkable
class ForInference(Protocol):
    """A frozen source that converts its variables once, before the first step.

    Attributes:
        is_reduced_precision: whether it then computes below float32.
        full_precision: the same source in float32, without conversion.
    """

    @property
    def is_reduced_precision(self) -> bool: ...

    @property
    def full_precision(self) -> Source: ...

    def for_inference(self, variables: Variables, batch: Batch) -> Variables:
        """Returns the variables that it is called with; `batch` may be shapes."""
        ...


def apply(
    module: nn.Module, variables: Variables, x: jax.Array, key: jax.Array | None, **inputs: jax.Array
) -> tuple[Output, Variables]:
    """Applies a Linen module that returns an `Output`; returns it in float32, and the updated collections."""
    output, changed = apply_module(module, variables, x, key, **inputs)
    if not isinstance(output, Output):
        raise UserError(
            f"module {type(module).__name__} must return an Output, got {type(output).__name__}. Return"
            " Output(logits, taps), from jaxdistill.core; taps may be left out."
        )
    return output.in_float32(), changed


def apply_module(
    module: nn.Module, variables: Variables, x: jax.Array, key: jax.Array | None, **inputs: jax.Array
) -> tuple[Any, Variables]:
    """Applies a Linen module, in inference mode if `key` is `None`; returns its value and the updated collections."""
    rows = x.shape[0]  # of an exported program a symbol, which `len` refuses
    x = split_rows(x, rows)
    with keep_rows_split(rows):
        if key is None:
            arguments: dict[str, Any] = {**inputs, "train": False}
            return module.apply(variables, x, **arguments), {}
        mutable = [name for name in variables if name != "params"]
        arguments: dict[str, Any] = {**inputs, "train": True, "rngs": {"dropout": key}, "mutable": mutable}
        return module.apply(variables, x, **arguments)
