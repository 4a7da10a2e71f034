"""A network that is trained, and the base class of those that run its module."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.compress.view import Model
from jaxdistill.compress.views import NO_VIEWS, Views
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, check_between, unknown
from jaxdistill.networks.meaning import Meaning, check_featurizer, check_targets, check_tokenizer, class_order
from jaxdistill.networks.model import ModelSettings, build_module, build_preprocess, build_views, inputs_of
from jaxdistill.networks.options import NetworkRef, required, select
from jaxdistill.networks.source import Context, Outputs, Parts, Source, apply


@dataclasses.dataclass(frozen=True)
class Trained(Source):
    """A network that learns: its params are the optimizer's, its batch statistics are state.

    Attributes:
        module: a Linen module that returns an `Output`.
        input: the field of the batch that the module is applied to; the first of `module.inputs`, or images, if empty.
            The other inputs of the module go with it if the batch has them: `teacher_token_mask` with `teacher_tokens`.
        preprocess: applied to images before the module.
        class_names: of the logits that the source outputs, if they are stored or given by the data.
        class_order: the position of each of these classes among the module's logits; () if they are in order.
        new_head: whether its head is drawn anew where its other variables come from elsewhere.
        views: functions of its params that are applied before the module, such as a mask.
    """

    module: nn.Module
    input: str = option("", "field of the batch that the network reads; the first that fits the model if empty")
    preprocess: Callable[[jax.Array], jax.Array] | None = None
    class_names: tuple[str, ...] = ()
    class_order: tuple[int, ...] = ()
    new_head: bool = False
    views: Views = NO_VIEWS
    learns = True
    settings = ModelSettings

    def __post_init__(self) -> None:
        if not self.input:
            object.__setattr__(self, "input", inputs_of(self.module)[0])

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        path = f"networks.{name}"
        settings = ModelSettings(**select(ModelSettings, options))
        keys = cls.option_fields()
        fields = {key: value for key, value in options.items() if key not in keys}
        module = build_module(name, settings, fields, context)
        field = options["input"] or context.input
        context.check_model(name, settings.model, module, field)
        values: dict[str, Any] = select(cls, options) | {"input": field}
        values |= {key: value for key, value in vars(settings).items() if key in cls.__dataclass_fields__}
        values["new_head"] = settings.head == "new" or bool(settings.part)
        if settings.part and settings.part not in getattr(module, "nested", ()):
            raise unknown(f"{path}.part", settings.part, getattr(module, "nested", ()), "a part of the model")
        if cls.frozen and values["new_head"]:
            key, value = ("part", settings.part) if settings.part else ("head", "new")
            raise UserError(
                f"{path}.{key} must be '' for a frozen network, whose outputs would be random, got {value!r}. Train it"
                " with its new head in a stage, and freeze that"
            )
        values["views"] = build_views(settings.compress)
        values["preprocess"] = build_preprocess(name, settings.preprocess, context)
        if not cls.frozen and settings.offload:
            raise UserError(
                f"{path}.offload must be False for a network that learns, got True. Only one with source='frozen' can"
                f" be offloaded to the host's memory; set {path}.offload=False in this stage"
            )
        data = context.meanings.get(field, context.meanings.get(context.input, Meaning()))
        stored = context.stored_meanings.get(name, Meaning())
        check_tokenizer(name, stored, data)
        check_featurizer(name, stored, data)
        check_targets(name, stored, data)
        values["class_order"] = class_order(stored, data)
        if settings.keep_classes:
            check_between(f"{path}.keep_classes", settings.keep_classes, 1, module.classes)
            values["class_order"] = values["class_order"] or tuple(range(settings.keep_classes))
        is_other = cls.frozen and not values["class_order"] and stored.class_names and data.class_names
        names = stored.class_names if is_other else data.class_names
        values["class_names"] = names if len(names) == getattr(module, "classes", 0) else ()
        return cls(module, **values)

    @property
    def module_class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of the module's logits, for checkpoints."""
        if len(self.class_order) != len(self.class_names):
            return self.class_names
        names = dict(zip(self.class_order, self.class_names, strict=True))
        return tuple(names[position] for position in sorted(names))

    def in_class_order(self, output: Output) -> Output:
        """Returns the module's output with its classes in the order of `class_names`."""
        if not self.class_order:
            return output
        order, count = self.class_order, len(self.class_order)
        classes = slice(count) if order == tuple(range(count)) else jnp.array(order)
        return dataclasses.replace(output, logits=core.select_classes(output.logits, classes))

    def main_input(self, batch: Batch) -> jax.Array:
        """Returns the images or tokens that the module is applied to, preprocessed."""
        return batch[self.input] if self.preprocess is None else self.preprocess(batch[self.input])

    def other_inputs(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the other inputs of the module that the batch has, by the names of its arguments."""
        first, *names = inputs_of(self.module)
        prefix = self.input.removesuffix(first)
        return {name: batch[prefix + name] for name in names if prefix + name in batch}

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        arguments: dict[str, Any] = {**self.other_inputs(batch), "train": False}
        return self.module.init(key, self.main_input(batch), **arguments)

    def start(self, variables: Variables, fresh: bool, batch: Batch | None = None) -> Variables:
        """Returns variables with what its views add to them; fresh ones are in the shapes that the module declares."""
        if not self.views:
            return variables
        return self.views.start(variables, fresh, None if batch is None else self.model(batch))

    def model(self, batch: Batch) -> Model:
        """Returns the module as a function of its variables and a batch, without views; `batch` may be shapes."""
        plain = Trained(self.module, self.input, self.preprocess)
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
        return Model(lambda variables, batch: plain(variables, batch, {}, None)[0].logits, shapes)

    def revise(self, variables: Variables, updates: jax.Array) -> Variables:
        """Returns the collections that its views change after optimizer update number `updates`."""
        return self.views.update(variables, updates)

    def partition(self, variables: Variables) -> Parts:
        params, rest = core.split_params(variables)
        return params, rest, {}

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        with self.views.applied(variables) as viewed:
            output, changed = apply(self.module, viewed, self.main_input(batch), key, **self.other_inputs(batch))
        return self.in_class_order(output), changed

    def predict_next(
        self, variables: Variables, cache: Variables, tokens: jax.Array, token_mask: jax.Array
    ) -> tuple[Output, Variables]:
        """Returns the output for tokens after those whose keys and values are stored, and these with the new ones.

        Args:
            variables: of the network.
            cache: the collection of stored keys and values; empty before the first call.
            tokens: int `[batch, length]`, or `[batch, 1]` of the column that the cache names.
            token_mask: `[batch, columns]`, above 0 for tokens.
        """
        with self.views.applied(variables) as viewed:
            given = {**viewed, **({"cache": cache} if cache else {})}
            output, changed = self.module.apply(given, tokens, token_mask=token_mask, mutable=["cache"])
        return self.in_class_order(output), changed["cache"]


@dataclasses.dataclass(frozen=True)
class RunsModuleOf(Source):
    """Base class of sources that run the module of another network, `base`; `in_order` sets it.

    Attributes:
        of: the name of the network.
        base: the network itself; unset until `bind`.
    """

    of: NetworkRef = required("network whose module it runs")
    base: Trained | None = dataclasses.field(default=None, repr=False, kw_only=True)

    @property
    def network(self) -> Trained:
        """The network whose module this source runs.

        Raises:
            UserError: if the source is not bound.
        """
        if self.base is None:
            raise UserError(f"of must be bound to a network, got {self.of!r} alone. Call networks.in_order first")
        return self.base

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of that network's classes."""
        return self.network.class_names

    @property
    def module_class_names(self) -> tuple[str, ...]:
        """The same in the order of the module's logits."""
        return self.network.module_class_names

    @property
    def preprocess(self) -> Callable[[jax.Array], jax.Array] | None:
        """The preprocessing of that network's images."""
        return self.network.preprocess

    def bind(self, networks: Mapping[str, Source]) -> Source:
        if self.base is not None:
            return self
        base = networks[self.of]
        if not isinstance(base, Trained):
            raise UserError(f"of must be a network with weights of its own, got {self.of!r}")
        return dataclasses.replace(self, base=base)
