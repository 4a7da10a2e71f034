"""Correspondence of the arrays of a model with the tensors of another format."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxdistill.pretrained.layouts import SAME, Layout

BLOCK = re.compile(r"(\w+\.block)(\d+)(\..*)")
"""Names of arrays of blocks: what is before the number, the number, and what is after it."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array of a model, and the tensor that holds it.

    Attributes:
        name: of the array, such as `params.block0.attention.query.kernel`.
        tensor: the name of the tensor.
        layout: the order of its axes.
        part: the position of the array among `parts` of the tensor.
        parts: the number of equal parts of the tensor along `axis`, such as 3 of fused query, key and value.
        axis: of the tensor.
        head: whether the array belongs to the head, which another number of classes replaces.
        shape: of the tensor, if the array and the layout do not determine it; one size may be -1, for what is left.
    """

    name: str
    tensor: str
    layout: Layout = SAME
    part: int = 0
    parts: int = 1
    axis: int = 0
    head: bool = False
    shape: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Correspondence:
    """A model with its fields, and for each of its arrays the tensor that holds it.

    Attributes:
        model: its name in a config.
        fields: its config keys, `classes` among them.
        entries: of all arrays that the format has.
        ignored: regular expressions of whole names of tensors that no array needs.
        head: beginnings of the names of arrays of the head.
        part: the part of a larger model that the arrays are of; "" for all of it.
    """

    model: str
    fields: Mapping[str, Any]
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()
    head: tuple[str, ...] = ("params.head.",)
    part: str = ""

    def as_part(self, part: str, tail: re.Pattern[str]) -> "Correspondence":
        """Returns the correspondence of a larger model, which has this one as a part of that name.

        Args:
            part: such as "encoder"; all arrays outside of it are its head, which is not in the file.
            tail: names of arrays that the part does not have; their tensors are ignored.
        """
        entries, left_out = [], []
        for entry in self.entries:
            collection, _, rest = entry.name.partition(".")
            if entry.head or tail.match(entry.name):
                left_out.append(re.escape(entry.tensor))
            entries.append(dataclasses.replace(entry, name=f"{collection}.{part}.{rest}"))
        return dataclasses.replace(self, entries=tuple(entries), ignored=(*self.ignored, *left_out), part=part)

    def is_ignored(self, tensor: str) -> bool:
        """Whether no array needs a tensor."""
        return any(re.fullmatch(pattern, tensor) for pattern in self.ignored)

    def is_head(self, name: str) -> bool:
        """Whether an array belongs to the head."""
        if self.part:
            return not name.partition(".")[2].startswith(f"{self.part}.")
        return name.startswith(self.head)

    @property
    def block_count(self) -> int:
        """The number of blocks, one after the other, that `taking` chooses from; 0 for a model without them."""
        matches = [BLOCK.match(entry.name) for entry in self.entries]
        return max((int(match[2]) + 1 for match in matches if match), default=0)

    def taking(self, blocks: Collection[int]) -> "Correspondence":
        """Returns the correspondence of a model of some of the blocks, in their order; entries of others are left out.

        The tensors of the blocks that are left out are ignored.
        """
        if not blocks:
            return self
        entries: list[Entry] = []
        ignored = list(self.ignored)
        for entry in self.entries:
            match = BLOCK.match(entry.name)
            places = [new for new, old in enumerate(blocks) if match is None or int(match[2]) == old]
            if match is None:
                entries.append(entry)
            elif not places:
                ignored.append(re.escape(entry.tensor))
            else:
                entries += [dataclasses.replace(entry, name=f"{match[1]}{place}{match[3]}") for place in places]
        return dataclasses.replace(self, entries=tuple(entries), ignored=tuple(ignored))
