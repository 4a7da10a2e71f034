"""Names sorted so that each follows those it needs."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from jaxdistill.errors import UserError, unknown


def in_order(kind: str, needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Sorts names so that each comes after those it needs; the given order breaks ties.

    Raises:
        UserError: for a need that does not exist, and for a circle, with its names.
    """
    for name, names_needed in needs.items():
        for need in names_needed:
            if need not in needs:
                raise unknown(f"{kind} (which {name!r} needs)", need, needs)
    try:
        return [*TopologicalSorter(needs).static_order()]
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise UserError(f"{kind}s need each other in a circle: {circle}") from error
