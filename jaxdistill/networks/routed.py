"""Several networks of which each example has one, by a column of the data."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.modules import routed_logits
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.source import Context, Outputs, Source

ROUTE = "route"
"""The field of a batch, int32 `[batch]`: the number of the value that the column `data.route` has for an example."""


@dataclasses.dataclass(frozen=True)
class Routed(Source):
    """The output of one of several networks for each example: of the one that serves its value of `data.route`.

    Logits are of the form that the networks have; of decoders, a chunk of them is computed by the heads of all
    (`modules.routed_logits`). Taps are those that all networks have in one shape. Every network computes all rows of a
    batch, whichever it serves.

    With `resident="one"` the networks compute one after the other, and each brings its weights to the device and
    leaves them there no longer: memory holds those of one. They must be in the host's memory. Outputs are the same;
    heads of decoders, which the loss computes, are all on the device unless the networks have `dense=True`.

    Attributes:
        routes: for each value of the data, the position of its network among `members`.
        in_turn: the frozen networks, which compute one after the other, also if all have their weights on the device:
            so the bits are the same. `bind` sets it.
        notes: on values that no row of the data has.
    """

    of: tuple[NetworkRef, ...] = required("networks; one that serves several values comes several times")
    values: tuple[int | str, ...] = option((), "value of data.route that each serves; the networks' names if empty")
    resident: str = option(
        "all", "networks with weights on the device at a time: 'all' or 'one'", choices=("all", "one")
    )
    routes: tuple[int, ...] = ()
    in_turn: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        path, of = f"networks.{name}", options["of"]
        values = [str(value) for value in options["values"] or of]
        if len(values) != len(of) or len({*values}) < len(values):
            raise UserError(
                f"{path}.values must be {len(of)} different values of data.route, one for each network of {of}, got"
                f" {tuple(values)}. A network that serves several comes several times in {path}.of"
            )
        if not context.routes:
            raise UserError(
                f"data.route must be a column whose values choose a network of networks.{name}, got '' or data without"
                f" it ({context.dataset!r}). Name the column"
            )
        missing = [value for value in context.routes if value not in values]
        if missing:
            raise UserError(
                f"{path}.values must be all values of data.route, got none of {missing[:20]} among {tuple(values)}. Add"
                f" a network for each to {path}.of, or leave these rows out of the data"
            )
        members = [*dict.fromkeys(of)]
        routes = tuple(members.index(of[values.index(value)]) for value in context.routes)
        unused = [value for value in values if value not in context.routes]
        notes = (f"values has {unused[:20]}, which no row of the data has in the column data.route",) if unused else ()
        return cls(**{key: options[key] for key in ("of", "values", "resident")}, routes=routes, notes=notes)

    def bind(self, networks: Mapping[str, Source]) -> Source:
        offloads = {name: getattr(networks[name], "offload", None) for name in self.members}
        for name, offload in offloads.items() if self.resident == "one" else ():
            if not networks[name].frozen or offload is False:
                raise UserError(
                    f"of must be frozen networks in the host's memory with resident='one', got {name!r}. Set"
                    f" networks.{name}.source='frozen' and offload=True, or resident='all'"
                )
        frozen = [name for name, offload in offloads.items() if offload is not None and networks[name].frozen]
        return dataclasses.replace(self, in_turn=tuple(frozen))

    @property
    def members(self) -> tuple[str, ...]:
        """The networks, each once."""
        return tuple(dict.fromkeys(self.of))

    def divide(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns whether each example has the output of a network, bool `[batch]`, by its name."""
        member = self._number(batch)
        return {name: member == position for position, name in enumerate(self.members)}

    def _number(self, batch: Batch) -> jax.Array:
        if ROUTE not in batch:
            raise UserError(f"a batch must have the field {ROUTE!r}, got {sorted(batch)}. Set data.route to a column")
        return jnp.array(self.routes, jnp.int32)[batch[ROUTE]]

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        member, members = self._number(batch), [outputs[name] for name in self.members]
        # Computed apart, as those of networks that compute one after the other are: the bits are the same.
        apart = {name: jax.tree.map(jax.lax.optimization_barrier, outputs[name].logits) for name in self.members}
        logits = routed_logits.choose_logits(apart, member)
        shapes = [{tap: x.shape for tap, x in output.taps.items()} for output in members]
        common = [tap for tap in shapes[0] if all(shape.get(tap) == shapes[0][tap] for shape in shapes)]
        taps = routed_logits.select([{tap: output.taps[tap] for tap in common} for output in members], member)
        return Output(logits, taps), {}
