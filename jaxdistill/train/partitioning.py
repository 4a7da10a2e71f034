"""Which array is split over which axis of the mesh: rules over names, and ready sets of them.

Names are paths with the role first: `params/student/stage1/Conv_0/kernel` for what the optimizer moves,
`opt_state/0/trace/student/...`, `variables/student/batch_stats/...` for what else the step changes, and
`frozen/teacher/params/...`. The optimizer's and a follower's copies of a parameter go where it goes, unless a rule
names them. What no rule splits is whole on every device.

    ("kernel$", (None, "fsdp"))  a regex, and for each dimension of the array an axis or `None`
    "fsdp", "fsdp:LEAST"         every array of LEAST numbers or more, on its largest dimension that can be divided
    "tensor"                     heads, hidden units and vocabularies of transformers, output channels of other networks
    "whole"                      nothing is split
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdistill.core import path_name
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.train.mesh import AXES

SETS = ("fsdp", "tensor", "whole")
LARGE = 2**16
"""From how many numbers on "fsdp" splits an array: gathering a smaller one takes longer than holding it."""

PARALLEL = ("heads", "hidden", "vocabulary", "outputs")
"""Names of dimensions that "tensor" splits: a head, or a hidden unit, is on one device, so that a transformer's block
needs two sums over devices (Shoeybi et al., "Megatron-LM", 2019, https://arxiv.org/abs/1909.08053, section 3)."""

HOST = "pinned_host"
"""The kind of memory that offloaded networks live in."""

LAYERS = "layers"
"""The name of a dimension that counts scanned layers: never split, since each turn of the scan reads one of them."""

Spec = Sequence[str | None]
Names = Sequence[tuple[str, Sequence[str]]]
"""`(regex, name of each dimension)`, as transformers have it in their attribute `axes`."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """A setting `sharding`, read."""

    named: tuple[tuple[str, Spec], ...] = ()
    sets: tuple[str, ...] = ()
    large: int = LARGE

    @classmethod
    def of(cls, entries: Sequence[Any], what: str = "sharding") -> "Rules":
        """Reads a setting.

        Raises:
            UserError: for what is neither a rule nor the name of a set.
        """
        named, sets, large = [], [], LARGE
        for entry in entries:
            if isinstance(entry, str):
                name, _, number = entry.partition(":")
                if name not in SETS:
                    raise unknown(f"set of sharding rules in {what}", name, [*SETS, "(regex, spec)"])
                if number and (name != "fsdp" or not number.isdecimal()):
                    raise UserError(f"{what}: {entry!r} is not understood; a number goes as in 'fsdp:{LARGE}'")
                large = int(number) if number else large
                check_least(f"{what}: the number of {entry!r}", large, 1)
                sets.append(name)
            else:
                named.append(_rule(entry))
        if "whole" in sets and len(entries) > 1:
            raise UserError(f"{what}={tuple(entries)} says 'whole' and more; leave out the one or the other")
        return cls(tuple(named), tuple(sets), large)


def _rule(rule: Any) -> tuple[str, Spec]:
    whole = isinstance(rule, (tuple, list)) and len(rule) == 2 and isinstance(rule[0], str)
    if not whole or not isinstance(rule[1], (tuple, list)):
        raise UserError(f"sharding rule {rule!r} is not (regex, spec), such as ('kernel$', (None, 'fsdp'))")
    try:
        re.compile(rule[0])
    except re.error as error:
        raise UserError(f"sharding rule {rule[0]!r} is not a regular expression: {error}") from error
    axes = [axis for axis in rule[1] if axis is not None]
    for axis in axes:
        if axis not in AXES:
            raise unknown("mesh axis", axis, AXES)
    if len(set(axes)) < len(axes):
        raise UserError(f"sharding rule {rule!r} splits two dimensions over one axis")
    return rule[0], tuple(rule[1])


def check_axes(mesh: Mesh, sizes: Mapping[str, int], rules: Rules) -> None:
    """Raises `UserError` where a ready set is asked for, and the mesh was told to have no such axis."""
    for axis in rules.sets:
        if axis != "whole" and mesh.size > 1 and sizes.get(axis, 1) == 1:
            raise UserError(
                f"sharding={axis!r} splits arrays over the mesh's axis {axis!r}, which has one device; set"
                f" mesh.{axis} (the devices are {dict(mesh.shape)}), or leave {axis!r} out"
            )


@dataclasses.dataclass(frozen=True)
class Own:
    """What is particular to the arrays of one network.

    Attributes:
        rules: its own, in place of the stage's; `None` where it has none.
        axes: names of dimensions, by regex over its arrays' names; `None` for one that is no network.
        leader: the network that it follows: its params go where those go.
        offload: whether it lives in the host's memory, when it is frozen.
    """

    rules: Rules | None = None
    axes: Names | None = None
    leader: str = ""
    offload: bool = False


class Placement:
    """Gives arrays their shardings.

    Args:
        mesh: the devices.
        rules: for all that have none of their own.
        cast: what is particular to a network, by its name.
    """

    def __init__(self, mesh: Mesh, rules: Rules, cast: Mapping[str, Own] | None = None):
        self.mesh, self.rules, self.cast = mesh, rules, dict(cast or {})
        self.used: set[tuple[str, Any]] = set()
        """The rules that placed something, as `(network or "", regex or set)`."""

    def __call__(self, tree: Any) -> Any:
        """Returns the shardings of a tree of shapes, a `State` or `{"frozen": ...}`.

        Raises:
            UserError: for a dimension that its axis cannot divide.
        """
        leaves = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
        own = {name: self._own(name, leaf) for name, leaf in leaves if not name.startswith("opt_state/")}
        params = {n.removeprefix("params/"): (leaf, own[n]) for n, leaf in leaves if n.startswith("params/")}

        def place(path, leaf):
            name = path_name(path)
            _, who, *rest = f"{name}/".split("/", 2)
            leader = self.cast.get(who, Own()).leader
            if name.startswith("opt_state/"):
                spec = self._copied(name, leaf, params)
            elif leader and name.startswith(f"variables/{who}/params/"):
                spec = self._copied(f"{leader}/{rest[0].removeprefix('params/').rstrip('/')}", leaf, params, name)
            else:
                spec = own[name]
            offload = name.startswith("frozen/") and self.cast.get(who, Own()).offload
            kind = {"memory_kind": HOST} if offload else {}
            return NamedSharding(self.mesh, PartitionSpec(*spec), **kind)

        return jax.tree_util.tree_map_with_path(place, tree)

    def _copied(self, path: str, leaf: Any, params: Mapping[str, Any], name: str = "") -> Spec:
        """Where a copy of a parameter goes, whose path ends with the parameter's own."""
        parts = path.split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        end = next((end for end in ends if end in params), None)
        found = None if end is None else params[end]
        named = self._by_name(name or path, leaf, end and end.partition("/")[0])
        if named is not None or found is None or found[0].shape != leaf.shape:
            return named if named is not None else self._own(name or path, leaf)
        return found[1]

    def _rules(self, name: str, who: str | None = None) -> tuple[str, Rules]:
        who = who or f"{name}/".split("/")[1]
        own = self.cast.get(who, Own()).rules
        return ("", self.rules) if own is None else (who, own)

    def _own(self, name: str, leaf: Any) -> Spec:
        named = self._by_name(name, leaf)
        return self._by_set(name, leaf) if named is None else named

    def _by_name(self, name: str, leaf: Any, who: str | None = None) -> Spec | None:
        who, rules = self._rules(name, who)
        for regex, spec in rules.named:
            # A statistic of a parameter (a factored moment) carries its name but not its shape.
            if re.search(regex, name) and len(spec) == leaf.ndim:
                self.used.add((who, regex))
                return self._divides(name, leaf.shape, spec)
        return None

    def _by_set(self, name: str, leaf: Any) -> Spec:
        (who, rules), names = self._rules(name), self._names(name, leaf.ndim)
        spec: list[str | None] = [None] * leaf.ndim
        ways = self.mesh.shape
        for place, size in enumerate(leaf.shape if "tensor" in rules.sets else ()):
            if names[place] in PARALLEL and size % ways["tensor"] == 0 and "tensor" not in spec:
                spec[place] = "tensor"
                self.used.add((who, "tensor"))
        if "fsdp" in rules.sets and math.prod(leaf.shape) >= rules.large:
            free = [p for p, size in enumerate(leaf.shape) if size % ways["fsdp"] == 0 and names[p] != LAYERS]
            free = [p for p in free if spec[p] is None]
            if free:
                spec[max(free, key=lambda place: leaf.shape[place])] = "fsdp"
                self.used.add((who, "fsdp"))
        return tuple(spec)

    def _names(self, name: str, ndim: int) -> Sequence[str]:
        """The names of an array's dimensions, "" for those that have none."""
        axes = self.cast.get(f"{name}/".split("/")[1], Own()).axes
        for regex, names in axes or ():
            if re.search(regex, name) and len(names) in (ndim, ndim - 1):
                return (*[LAYERS] * (ndim - len(names)), *names)
        plain = axes is not None and not axes and ndim > 1 and name.endswith("/kernel")
        return (*[""] * (ndim - 1), "outputs") if plain else ("",) * ndim

    def _divides(self, name: str, shape: Sequence[int], spec: Spec) -> Spec:
        for size, axis in zip(shape, spec, strict=True):
            if axis is not None and size % self.mesh.shape[axis]:
                raise UserError(
                    f"{name} {tuple(shape)} cannot be split over {axis!r}: {size} is not a multiple of"
                    f" {self.mesh.shape[axis]}"
                )
        return spec

    def unused(self) -> Iterator[tuple[str, Any, Spec | None]]:
        """The rules that placed nothing, as `(network or "", regex or set, spec)`."""
        for who, rules in {"": self.rules, **{n: o.rules for n, o in self.cast.items() if o.rules}}.items():
            every = [*rules.named, *((axis, None) for axis in rules.sets if self.mesh.shape.get(axis, 1) > 1)]
            yield from ((who, what, spec) for what, spec in every if (who, what) not in self.used)


def nowhere(who: str, what: str, spec: Spec | None, rules: Rules, tree: Any) -> UserError:
    """Returns what is to be raised for a rule that places no array."""
    whose = f" of network {who!r}" if who else ""
    if spec is None:
        least = f" of {rules.large:,} numbers or more ('fsdp:LEAST' sets another)" if what == "fsdp" else ""
        return UserError(f"sharding={what!r}{whose} splits no array: there is none{least} with a dimension to divide")
    some = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    some = [name for name in some if not who or f"/{who}/" in name][:8]
    return UserError(
        f"sharding rule {what!r} -> {tuple(spec)}{whose} matches no array of {len(spec)} dimensions; names look like"
        f" {some}"
    )


def shardings(mesh: Mesh, tree: Any, entries: Sequence[Any], cast: Mapping[str, Own] | None = None) -> Any:
    """Returns the shardings of a tree of shapes by the entries of a setting `sharding`; each must place something.

    Raises:
        UserError: for what is no rule, places nothing, or does not divide.
    """
    placement = Placement(mesh, Rules.of(entries), cast)
    placed = placement(tree)
    for who, what, spec in placement.unused():
        raise nowhere(who, what, spec, placement.rules, tree)
    return placed
