"""Terms of the loss from a config, with schedules of their weights and fields."""

from collections.abc import Mapping
from typing import Any

from jaxdistill.config import registry
from jaxdistill.core import Term
from jaxdistill.errors import UserError, check_kind, check_names
from jaxdistill.networks import Source
from jaxdistill.train import optim


def build_term(name: str, spec: Mapping[str, Any], steps: int, networks: Mapping[str, Source]) -> Term:
    """Makes a term.

    Args:
        name: of the term.
        spec: its entry.
        steps: the length of the run, for schedules.
        networks: of the stage, by name.

    Raises:
        UserError: for a method, a network or a key that does not exist, and values that the method refuses.
    """
    check_kind(f"term {name!r}", spec, {})
    spec = dict(spec)
    if "method" not in spec:
        raise UserError(f"term {name!r} names no method; there are {registry.names('method')}")
    kind = spec.pop("method")
    method = registry.find("method", kind, f"terms.{name}.method")
    student, weight = spec.pop("student", "student"), spec.pop("weight", 1.0)
    teacher = spec.pop("teacher", "teacher" if method.needs_teacher else "") or None
    check_names(f"network for term {name!r}, student", [student], networks)
    if method.needs_teacher and teacher is None:
        raise UserError(f"term {name!r} needs a teacher; there are {[*networks]}")
    check_names(f"network for term {name!r}, teacher", [teacher] if teacher else [], networks)
    if student == teacher:
        raise UserError(f"term {name!r}: {student!r} cannot be its own teacher; there are {[*networks]}")
    schedules = _schedules(name, registry.fields(method), spec, steps)
    moments = {step for key in schedules for step in optim.moments(spec[key], steps)} | {0}
    try:
        for now in sorted(moments, reverse=True):
            values = {key: float(schedule(now)) for key, schedule in schedules.items()}
            built = registry.make("method", kind, spec | values)
            built.check()
    except UserError as error:
        raise UserError(f"term {name!r}: {error}") from error
    return Term(built, student, teacher, optim.schedule(weight, steps, f"term {name!r}: weight"), schedules)


def _schedules(term: str, fields: Mapping[str, Any], spec: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The fields of a method that change from step to step: numbers that are given as sections."""
    numbers = [key for key, default in fields.items() if isinstance(default, float)]
    changing = [key for key, value in spec.items() if isinstance(value, Mapping) and key in numbers]
    return {key: optim.schedule(spec[key], steps, f"term {term!r}: {key}") for key in changing}
