"""Partition rules: the arrays that are split over axes of the mesh, by regexes over names and by ready sets of rules.

Names are paths with the role first: `params/student/stage1/Conv_0/kernel` for what the optimizer moves,
`opt_state/0/trace/student/...`, `variables/student/batch_stats/...` for what else the step changes, and
`frozen/teacher/params/...`. The copies of a parameter in the optimizer and in an average of weights are split as the
parameter is, unless a rule names them. Arrays that no rule splits are replicated on every device.

    ("kernel$", (None, "fsdp"))  a regex, and for each dimension of the array an axis or `None`
    "fsdp", "fsdp:LEAST"         every array of LEAST numbers or more, on its largest dimension that can be divided
    "tensor"                     heads, hidden units and vocabularies of transformers, output channels of other networks
    "replicated"                 nothing is split
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdistill.core import path_name
from jaxdistill.errors import UserError, check_least, unknown
from jaxdistill.train.mesh import AXES

SETS = ("fsdp", "tensor", "replicated")
LARGE = 2**16
"""The number of elements from which "fsdp" splits an array: gathering a smaller one takes longer than storing it."""

PARALLEL = ("heads", "hidden", "vocabulary", "outputs")
"""Names of dimensions that "tensor" splits: a head, or a hidden unit, is on one device, so that a transformer's block
needs two sums over devices (Shoeybi et al., "Megatron-LM", 2019, https://arxiv.org/abs/1909.08053, section 3)."""

HOST = "pinned_host"
"""The kind of memory that offloaded networks live in."""

LAYERS = "layers"
"""The name of a dimension that counts scanned layers: never split, since each turn of the scan reads one of them."""

GROUPED = "grouped"
"""The name of the dimensions of a grouped or depthwise convolution's kernel, never split: XLA computes these where
their kernels are, and would bring all rows of a few channels to each device."""

Spec = Sequence[str | None]
DimensionNames = Sequence[tuple[str, Sequence[str]]]
"""`(regex, name of each dimension)`, as transformers have it in their attribute `axes`."""

Match = tuple[str, str]
"""A rule that split an array, as `(network whose rules they are, or "" for the stage's; its regex or set)`."""

NO_MATCH: frozenset[Match] = frozenset()


@dataclasses.dataclass(frozen=True)
class Rules:
    """A parsed setting `sharding`.

    Attributes:
        named: rules by name, `(regex, spec)`.
        sets: the ready sets.
        large: the least number of elements of an array that "fsdp" splits.
    """

    named: tuple[tuple[str, Spec], ...] = ()
    sets: tuple[str, ...] = ()
    large: int = LARGE

    @classmethod
    def parse(cls, entries: Sequence[Any], path: str = "sharding") -> "Rules":
        """Parses a setting.

        Raises:
            UserError: for an entry that is neither a rule nor the name of a set.
        """
        named, sets, large = [], [], LARGE
        for entry in entries:
            if isinstance(entry, str):
                name, _, number = entry.partition(":")
                if name not in SETS:
                    raise unknown(path, name, [*SETS, "(regex, spec)"], "a set of sharding rules")
                if number and (name != "fsdp" or not number.isdecimal()):
                    raise UserError(f"{path} must have a number in the form 'fsdp:{LARGE}', got {entry!r}")
                large = int(number) if number else large
                check_least(f"{path}: the number of {entry!r}", large, 1)
                sets.append(name)
            else:
                named.append(_parse_rule(entry, path))
        if "replicated" in sets and len(entries) > 1:
            raise UserError(
                f"{path} must be 'replicated' alone or without it, got {tuple(entries)}. Remove 'replicated', or all"
                " other entries"
            )
        return cls(tuple(named), tuple(sets), large)

    def active(self, mesh: Mesh) -> list[tuple[str, Spec | None]]:
        """Returns the rules that can split an array on a mesh, with the spec of those by name."""
        return [*self.named, *((axis, None) for axis in self.sets if mesh.shape.get(axis, 1) > 1)]


def _parse_rule(rule: Any, path: str) -> tuple[str, Spec]:
    is_pair = isinstance(rule, (tuple, list)) and len(rule) == 2 and isinstance(rule[0], str)
    if not is_pair or not isinstance(rule[1], (tuple, list)):
        raise UserError(f"{path} must have rules (regex, spec) such as ('kernel$', (None, 'fsdp')), got {rule!r}")
    try:
        re.compile(rule[0])
    except re.error as error:
        raise UserError(f"{path} must have a regular expression in a rule, got {rule[0]!r} ({error})") from error
    axes = [axis for axis in rule[1] if axis is not None]
    for axis in axes:
        if axis not in AXES:
            raise unknown(path, axis, AXES, "a mesh axis")
    if len(set(axes)) < len(axes):
        raise UserError(f"{path} must have each axis once in a rule, got two dimensions over one axis in {rule!r}")
    return rule[0], tuple(rule[1])


def check_axes(mesh: Mesh, sizes: Mapping[str, int], rules: Rules) -> None:
    """Raises `UserError` for a ready set over an axis that `sizes`, the setting `mesh`, gives one device."""
    for axis in rules.sets:
        if axis != "replicated" and mesh.size > 1 and sizes.get(axis, 1) == 1:
            raise UserError(
                f"sharding={axis!r} must split arrays over several devices, got the mesh's axis {axis!r}, which has one"
                f" device. Set mesh.{axis} (the devices are {dict(mesh.shape)}), or leave {axis!r} out"
            )


@dataclasses.dataclass(frozen=True)
class NetworkRules:
    """The rules for the arrays of one network.

    Attributes:
        rules: its own, in place of the stage's; `None` for the stage's.
        axes: names of dimensions, by regex over its arrays' names; `None` for what is not a network.
        leader: the network whose weights it averages: its params are split as that network's are.
        offload: whether it lives in the host's memory, when it is frozen.
    """

    rules: Rules | None = None
    axes: DimensionNames | None = None
    leader: str = ""
    offload: bool = False


@dataclasses.dataclass(frozen=True)
class ArrayName:
    """The name of an array, parsed: `ROLE/NETWORK/PATH`; of the optimizer's arrays all after the role is the path."""

    text: str
    role: str
    network: str
    path: str

    @classmethod
    def parse(cls, text: str) -> "ArrayName":
        if text.startswith("opt_state/"):
            return cls(text, "opt_state", "", text.removeprefix("opt_state/"))
        role, network, path = f"{text}//".split("/", 2)
        return cls(text, role, network, path.rstrip("/"))


class Partition(NamedTuple):
    """The shardings of a tree, and the rules that split some of its arrays."""

    shardings: Any
    matched: frozenset[Match]


class _Choice(NamedTuple):
    spec: Spec
    matched: frozenset[Match] = NO_MATCH


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """Partitions trees of arrays over a mesh.

    Attributes:
        mesh: the devices.
        rules: for the networks that have none of their own.
        networks: the rules of single networks, by name.
    """

    mesh: Mesh
    rules: Rules = Rules()
    networks: Mapping[str, NetworkRules] = dataclasses.field(default_factory=dict)

    def partition(self, tree: Any) -> Partition:
        """Returns the partition of a tree of shapes: of a `State`, or of `{"frozen": ...}`.

        Raises:
            UserError: for a dimension that its axis cannot divide.
        """
        paths, treedef = jax.tree_util.tree_flatten_with_path(tree)
        leaves = [(ArrayName.parse(path_name(path)), leaf) for path, leaf in paths]
        params = {f"{name.network}/{name.path}": (name, leaf) for name, leaf in leaves if name.role == "params"}
        choices = [self._choose(name, leaf, params) for name, leaf in leaves]
        shardings = [self._sharding(name, choice.spec) for (name, _), choice in zip(leaves, choices, strict=True)]
        matched = NO_MATCH.union(*(choice.matched for choice in choices))
        return Partition(jax.tree_util.tree_unflatten(treedef, shardings), matched)

    def unmatched(self, matched: Iterable[Match]) -> Iterator[tuple[str, str, Spec | None]]:
        """Yields the rules that split nothing, as `(network or "", regex or set, spec)`."""
        for network, rules in self.all_rules().items():
            for rule, spec in rules.active(self.mesh):
                if (network, rule) not in matched:
                    yield network, rule, spec

    def all_rules(self) -> dict[str, Rules]:
        """Returns the stage's rules as "", and those of networks that have their own."""
        return {
            "": self.rules,
            **{name: network.rules for name, network in self.networks.items() if network.rules is not None},
        }

    def _network(self, name: str) -> NetworkRules:
        return self.networks.get(name, NetworkRules())

    def _rules_of(self, network: str) -> tuple[str, Rules]:
        """Returns the rules for a network's arrays, and the network whose they are, "" for the stage's."""
        rules = self._network(network).rules
        return ("", self.rules) if rules is None else (network, rules)

    def _sharding(self, name: ArrayName, spec: Spec) -> NamedSharding:
        offloaded = name.role == "frozen" and self._network(name.network).offload
        return NamedSharding(self.mesh, PartitionSpec(*spec), **({"memory_kind": HOST} if offloaded else {}))

    def _choose(self, name: ArrayName, leaf: Any, params: Mapping[str, tuple[ArrayName, Any]]) -> _Choice:
        default = None if name.role == "opt_state" else self._by_rules(name, leaf)
        origin = self._origin(name, params)
        if origin is None:
            return default or self._by_rules(name, leaf)
        parameter, original = params[origin]
        choice = self._by_name(name, leaf, parameter.network)
        if choice is None and original.shape == leaf.shape:
            choice = self._by_rules(parameter, original)
        choice = choice or default or self._by_rules(name, leaf)
        return _Choice(choice.spec, choice.matched | (default.matched if default else NO_MATCH))

    def _origin(self, name: ArrayName, params: Mapping[str, Any]) -> str | None:
        """Returns the parameter that an array is a copy of, as its key in `params`; `None` if it is none."""
        if name.role == "opt_state":
            parts = name.path.split("/")
            suffixes = ("/".join(parts[start:]) for start in range(len(parts)))
            return next((suffix for suffix in suffixes if suffix in params), None)
        leader = self._network(name.network).leader
        if not leader or name.role != "variables" or not name.path.startswith("params/"):
            return None
        copied = f"{leader}/{name.path.removeprefix('params/')}"
        return copied if copied in params else None

    def _by_rules(self, name: ArrayName, leaf: Any) -> _Choice:
        return self._by_name(name, leaf, name.network) or self._by_set(name, leaf)

    def _by_name(self, name: ArrayName, leaf: Any, network: str) -> _Choice | None:
        """Returns the choice of the first rule by name that applies; `network` selects the rules."""
        owner, rules = self._rules_of(network)
        for regex, spec in rules.named:
            # A statistic of a parameter (a factored moment) carries its name but not its shape.
            if re.search(regex, name.text) and len(spec) == leaf.ndim:
                self._check_divides(name, leaf.shape, spec)
                return _Choice(spec, frozenset([(owner, regex)]))
        return None

    def _by_set(self, name: ArrayName, leaf: Any) -> _Choice:
        (owner, rules), dimensions = self._rules_of(name.network), self._dimensions(name, leaf.ndim)
        spec: list[str | None] = [None] * leaf.ndim
        devices, matched = self.mesh.shape, set()
        for axis, size in enumerate(leaf.shape if "tensor" in rules.sets else ()):
            if dimensions[axis] in PARALLEL and size % devices["tensor"] == 0 and "tensor" not in spec:
                spec[axis] = "tensor"
                matched.add((owner, "tensor"))
        if "fsdp" in rules.sets and math.prod(leaf.shape) >= rules.large:
            divisible = [a for a, size in enumerate(leaf.shape) if size % devices["fsdp"] == 0]
            free = [axis for axis in divisible if spec[axis] is None and dimensions[axis] not in (LAYERS, GROUPED)]
            if free:
                spec[max(free, key=lambda axis: leaf.shape[axis])] = "fsdp"
                matched.add((owner, "fsdp"))
        return _Choice(tuple(spec), frozenset(matched))

    def _dimensions(self, name: ArrayName, ndim: int) -> Sequence[str]:
        """Returns the names of an array's dimensions, "" for those without."""
        axes = self._network(name.network).axes
        for regex, names in axes or ():
            if re.search(regex, name.text) and len(names) in (ndim, ndim - 1):
                return (*[LAYERS] * (ndim - len(names)), *names)
        is_plain = axes is not None and not axes and ndim > 1 and name.text.endswith("/kernel")
        return (*[""] * (ndim - 1), "outputs") if is_plain else ("",) * ndim

    def _check_divides(self, name: ArrayName, shape: Sequence[int], spec: Spec) -> None:
        for size, axis in zip(shape, spec, strict=True):
            if axis is not None and size % self.mesh.shape[axis]:
                raise UserError(
                    f"{name.text} {tuple(shape)} cannot be split over {axis!r}: {size} is not a multiple of"
                    f" {self.mesh.shape[axis]}"
                )


def unmatched_rule(network: str, rule: str, spec: Spec | None, *, rules: Rules, tree: Any) -> UserError:
    """Returns the error of a rule that splits no array of a tree.

    Args:
        network: the network whose rule it is; "" for the stage's.
        rule: the regex or the set.
        spec: of a rule by name; `None` for a set.
        rules: those that it belongs to.
        tree: the arrays that it was applied to.
    """
    owner = f" of network {network!r}" if network else ""
    if spec is None:
        least = f" of {rules.large:,} numbers or more ('fsdp:LEAST' sets another)" if rule == "fsdp" else ""
        return UserError(f"sharding={rule!r}{owner} splits no array: none{least} has a dimension to divide")
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    examples = [name for name in names if not network or f"/{network}/" in name][:8]
    return UserError(
        f"sharding rule {rule!r} -> {tuple(spec)}{owner} matches no array of {len(spec)} dimensions; examples of names:"
        f" {examples}"
    )


def shardings(mesh: Mesh, tree: Any, entries: Sequence[Any]) -> Any:
    """Returns the shardings of a tree of shapes by the entries of a setting `sharding`, all of which must match.

    Raises:
        UserError: for an entry that is no rule, that splits nothing, or whose axis does not divide a dimension.
    """
    partitioner = Partitioner(mesh, Rules.parse(entries))
    partition = partitioner.partition(tree)
    for network, rule, spec in partitioner.unmatched(partition.matched):
        raise unmatched_rule(network, rule, spec, rules=partitioner.rules, tree=tree)
    return partition.shardings
