"""Which of the student's layers meets which of the teacher's: the field `layers` of every method of features.

    "stage1,stage2=stage3"   these: the student's tap, and the teacher's where that has another name
    "uniform:block*"         student layer i of n from teacher layer (i + 1) N / n - 1 of N (TinyBERT)
    "skip:block*"            the same but for the last pair, which the logits teach (Patient KD, "skip")
    "last:block*"            the student's n from the teacher's last n
    "learned:block*"         every pair, weighed by a learned softmax over the teacher's layers
    "mean:block*"            one pair: the means of all layers of each ("simple" distillation)

Layers that are averaged have one shape: blocks of a transformer, or of a stage, "mean:stage3/block*".
`*` stands for a number, so that "uniform:block*/scores" pairs the attention scores. With several pairs the values
are added: "deep" distillation.
"""

import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxdistill.core import Method, Output, precise
from jaxdistill.errors import UserError, unknown

RULES = ("uniform", "skip", "last", "learned", "mean")


def pairs(layers: str, student: Mapping[str, jax.Array], teacher: Mapping[str, jax.Array]) -> list[tuple[str, str]]:
    """Names the pairs of taps, (student's, teacher's), that a rule or a list stands for.

    Raises:
        UserError: for a rule or a tap that is not there, and for a student with more layers than its teacher.
    """
    rule, colon, pattern = layers.partition(":")
    if not colon:
        named = [pair.strip().partition("=") for pair in layers.split(",") if pair.strip()]
        if not named:
            raise UserError(f"layers={layers!r} names none; give names of taps, 'stage1,stage2=stage3', or a rule")
        return [(own, theirs or own) for own, _, theirs in named]
    if rule not in RULES:
        raise unknown("rule of layers", rule, RULES)
    own, theirs = _numbered(pattern, student), _numbered(pattern, teacher)
    if rule in ("learned", "mean"):
        return [(mine, other) for mine in own for other in theirs]
    if len(own) > len(theirs):
        raise UserError(
            f"layers={layers!r} finds {len(own)} of the student's and {len(theirs)} of the teacher's; name the pairs,"
            f" like '{own[0]}={theirs[0]}'"
        )
    if rule == "last":
        return list(zip(own, theirs[-len(own) :], strict=True))
    uniform = [(name, theirs[(i + 1) * len(theirs) // len(own) - 1]) for i, name in enumerate(own)]
    return uniform[:-1] if rule == "skip" and len(uniform) > 1 else uniform


def _numbered(pattern: str, taps: Mapping[str, jax.Array]) -> list[str]:
    before, star, after = pattern.partition("*")
    shape = re.compile(re.escape(before) + r"(\d+)" + re.escape(after)) if star else None
    found = {name: shape.fullmatch(name) for name in taps} if shape else {}
    names = sorted((name for name, match in found.items() if match), key=lambda name: int(found[name][1]))
    if not names:
        raise UserError(f"no taps like {pattern!r}, with a number in the place of '*'; there are {sorted(taps)}")
    return names


def check_paired(layers: str) -> None:
    """Raises `UserError` for a rule that does not pair each layer of the student with one of the teacher's."""
    if layers.partition(":")[0] in ("learned", "mean"):
        raise UserError(f"layers={layers!r} pairs no layer with one other; name the pairs, or use {list(RULES[:3])}")


def taps(layers: str, student: Output, teacher: Output) -> list[tuple[jax.Array, jax.Array]]:
    """Returns the pairs of taps themselves, for methods that look at several at once."""
    return [(precise(student.tap(a)), precise(teacher.tap(b))) for a, b in pairs(layers, student.taps, teacher.taps)]


def sides(layers: str, student: Output, teacher: Output) -> tuple[list[jax.Array], list[jax.Array]]:
    """Returns the layers of each side, once each, for methods in which all of them meet."""
    names = zip(*pairs(layers, student.taps, teacher.taps), strict=True)
    own, theirs = ([*dict.fromkeys(side)] for side in names)
    return [precise(student.tap(name)) for name in own], [precise(teacher.tap(name)) for name in theirs]


def over(
    method: Method, student: Output, teacher: Output, loss: Callable[[jax.Array, jax.Array, str], jax.Array]
) -> jax.Array:
    """Adds `loss(student tap, teacher tap, name)` over the pairs that `method.layers` stands for.

    Args:
        method: in its compact call; its own params, where the rule is "learned", are named `layers`.
        loss: returns `[*n]`; `name` is one that the pair's adapter can have.
    """
    layers = method.layers
    found = pairs(layers, student.taps, teacher.taps)
    if layers.startswith("mean:"):
        own, theirs = sides(layers, student, teacher)
        return loss(_mean(own, layers), _mean(theirs, layers), "mean")
    total = [loss(precise(student.tap(a)), precise(teacher.tap(b)), _name(a, b)) for a, b in found]
    if not layers.startswith("learned:"):
        return sum(total[1:], total[0])
    own = len({a for a, _ in found})
    weights = jax.nn.softmax(method.param("layers", jax.nn.initializers.zeros, (own, len(found) // own)))
    return sum(weight * value for weight, value in zip(weights.reshape(-1), total, strict=True))


def _mean(maps: list[jax.Array], layers: str) -> jax.Array:
    shapes = [x.shape for x in maps]
    if len(set(shapes)) > 1:
        raise UserError(
            f"layers={layers!r} averages layers of one shape, like the blocks of a stage ('mean:stage3/block*'); these"
            f" are {shapes}"
        )
    return jnp.mean(jnp.stack(maps), 0)


def _name(own: str, theirs: str) -> str:
    return (own if own == theirs else f"{own}_{theirs}").replace("/", "_")
