"""Pairs of the student's layers and the teacher's: the field `layers` of every method of features.

    "stage1,stage2=stage3"   a list: the student's tap, and the teacher's if it has another name
    "uniform:block*"         student layer i of n from teacher layer (i + 1) N / n - 1 of N (TinyBERT)
    "skip:block*"            the same without the last pair, which the logits teach (Patient KD, "skip")
    "last:block*"            the student's n from the teacher's last n
    "learned:block*"         every pair, weighted by a learned softmax over the teacher's layers
    "mean:block*"            one pair: the means of all layers of each ("simple" distillation)

Layers that are averaged have one shape: blocks of a transformer, or of a stage, "mean:stage3/block*".
`*` stands for a number, so that "uniform:block*/scores" pairs the attention scores. With several pairs the values
are added: "deep" distillation.
"""

import functools
import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Method, Output, precise
from jaxdistill.errors import UserError, unknown

RULES = ("uniform", "skip", "last", "learned", "mean")
Taps = Mapping[str, Float[Array, "..."]]


def pairs(layers: str, student: Taps, teacher: Taps) -> list[tuple[str, str]]:
    """Returns the names of the paired taps, (student's, teacher's), by a rule or a list.

    Raises:
        UserError: for an unknown rule or tap, and for a student with more layers than its teacher.
    """
    rule, colon, pattern = layers.partition(":")
    if not colon:
        named = [pair.strip().partition("=") for pair in layers.split(",") if pair.strip()]
        if not named:
            raise UserError(f"layers must name taps, such as 'stage1,stage2=stage3', or a rule, got {layers!r}")
        return [(of_student, of_teacher or of_student) for of_student, _, of_teacher in named]
    if rule not in RULES:
        raise unknown("rule of layers", rule, RULES)
    of_student, of_teacher = _numbered(pattern, student), _numbered(pattern, teacher)
    if rule in ("learned", "mean"):
        return [(left, right) for left in of_student for right in of_teacher]
    if len(of_student) > len(of_teacher):
        raise UserError(
            f"layers={layers!r} must match at most as many layers of the student as of the teacher, got"
            f" {len(of_student)} and {len(of_teacher)}. Name the pairs, such as '{of_student[0]}={of_teacher[0]}'."
        )
    if rule == "last":
        return list(zip(of_student, of_teacher[-len(of_student) :], strict=True))
    count, total = len(of_student), len(of_teacher)
    uniform = [(name, of_teacher[(i + 1) * total // count - 1]) for i, name in enumerate(of_student)]
    return uniform[:-1] if rule == "skip" and len(uniform) > 1 else uniform


def _numbered(pattern: str, taps: Taps) -> list[str]:
    before, star, after = pattern.partition("*")
    shape = re.compile(re.escape(before) + r"(\d+)" + re.escape(after)) if star else None
    matches = [match for name in taps if shape and (match := shape.fullmatch(name))]
    names = [match[0] for match in sorted(matches, key=lambda match: int(match[1]))]
    if not names:
        raise UserError(
            f"layers must match taps with a number instead of '*', got {pattern!r}. There are {sorted(taps)}"
        )
    return names


def check_paired(layers: str) -> None:
    """Raises `UserError` for a rule that does not pair each layer of the student with one of the teacher's."""
    if layers.partition(":")[0] in ("learned", "mean"):
        raise UserError(f"layers must pair single layers, by names or by {list(RULES[:3])}, got {layers!r}")


def paired_taps(layers: str, student: Output, teacher: Output) -> list[tuple[Float[Array, "..."], Float[Array, "..."]]]:
    """Returns the pairs of taps themselves, for methods that compare several together."""
    return [(precise(student.tap(a)), precise(teacher.tap(b))) for a, b in pairs(layers, student.taps, teacher.taps)]


def side_taps(
    layers: str, student: Output, teacher: Output
) -> tuple[list[Float[Array, "..."]], list[Float[Array, "..."]]]:
    """Returns the layers of each side, once each, for methods that compare all with all."""
    sides = zip(*pairs(layers, student.taps, teacher.taps), strict=True)
    of_student, of_teacher = ([*dict.fromkeys(side)] for side in sides)
    return [precise(student.tap(name)) for name in of_student], [precise(teacher.tap(name)) for name in of_teacher]


def sum_over_pairs(
    method: Method,
    student: Output,
    teacher: Output,
    loss: Callable[[jax.Array, jax.Array, str], jax.Array],
    *,
    without_last: bool = False,
) -> Float[Array, "*n"]:
    """Adds `loss(student tap, teacher tap, name)` over the pairs of `method.layers`.

    Args:
        method: in its compact call; with the rule "learned" it gets params `layers`.
        student: with the taps.
        teacher: with the taps.
        loss: returns `[*n]`; `name` is usable for the pair's adapter.
        without_last: whether the rules "uniform" and "last" leave out the last of several pairs, as "skip" does.
    """
    layers = method.layers
    named = pairs(layers, student.taps, teacher.taps)
    if without_last and layers.startswith(("uniform:", "last:")) and len(named) > 1:
        named = named[:-1]
    if layers.startswith("mean:"):
        of_student, of_teacher = side_taps(layers, student, teacher)
        return loss(_mean(of_student, layers), _mean(of_teacher, layers), "mean")
    values = [loss(precise(student.tap(a)), precise(teacher.tap(b)), _name(a, b)) for a, b in named]
    if not layers.startswith("learned:"):
        return functools.reduce(jnp.add, values)
    rows = len({a for a, _ in named})
    weights = jax.nn.softmax(method.param("layers", jax.nn.initializers.zeros, (rows, len(named) // rows)))
    weighted = [weight * value for weight, value in zip(weights.reshape(-1), values, strict=True)]
    return functools.reduce(jnp.add, weighted)


def _mean(maps: list[Float[Array, "..."]], layers: str) -> Float[Array, "..."]:
    shapes = [x.shape for x in maps]
    if len(set(shapes)) > 1:
        raise UserError(
            f"layers={layers!r} must match layers of one shape, like the blocks of a stage ('mean:stage3/block*'), got"
            f" {shapes}"
        )
    return jnp.mean(jnp.stack(maps), 0)


def _name(of_student: str, of_teacher: str) -> str:
    return (of_student if of_student == of_teacher else f"{of_student}_{of_teacher}").replace("/", "_")
