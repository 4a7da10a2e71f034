"""What needs another comes after it."""

from collections.abc import Iterable, Mapping

from jaxdistill.errors import UserError, unknown


def in_order(kind: str, needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Sorts names so that each comes after those it needs; the given order breaks ties.

    Raises:
        UserError: for a need that is not there, and for a circle, naming it.
    """
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]):
        if name in path:
            raise UserError(f"{kind}s need each other in a circle: {' -> '.join([*path, name])}")
        for other in needs[name]:
            if other not in needs:
                raise unknown(f"{kind} (which {name!r} needs)", other, needs)
            visit(other, (*path, name))
        if name not in done:
            done.append(name)

    for name in needs:
        visit(name, ())
    return done
