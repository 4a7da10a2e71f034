"""Terms of the loss from a config, with schedules of their weights and fields."""

from collections.abc import Mapping

from jaxdistill.config import registry
from jaxdistill.config.members import ScheduleConfig, TermConfig
from jaxdistill.core import Term
from jaxdistill.errors import UserError, check_names
from jaxdistill.networks import Source
from jaxdistill.train import optim


def build_term(name: str, config: TermConfig, steps: int, networks: Mapping[str, Source]) -> Term:
    """Makes a term.

    Args:
        name: of the term.
        config: its settings.
        steps: the length of the run, for schedules.
        networks: of the stage, by name.

    Raises:
        UserError: for a network that does not exist, and values that the method refuses.
    """
    method = registry.find("method", config.method, f"terms.{name}.method")
    student, teacher = config.student, config.teacher or None
    check_names(f"network for term {name!r}, student", [student], networks)
    if method.needs_teacher and teacher is None:
        raise UserError(f"term {name!r} needs a teacher; there are {[*networks]}")
    check_names(f"network for term {name!r}, teacher", [teacher] if teacher else [], networks)
    if student == teacher:
        raise UserError(f"term {name!r}: {student!r} cannot be its own teacher; there are {[*networks]}")
    changing = {key: value for key, value in config.fields.items() if isinstance(value, ScheduleConfig)}
    schedules = {key: optim.schedule(value, steps, f"terms.{name}.{key}") for key, value in changing.items()}
    moments = {step for value in changing.values() for step in optim.moments(value, steps)} | {0}
    try:
        for now in sorted(moments, reverse=True):
            values = {key: float(schedule(now)) for key, schedule in schedules.items()}
            built = method(**(config.fields | values))
            built.check()
    except UserError as error:
        key, text = str(error).partition(" ")[0], str(error)
        if key not in config.fields:
            raise UserError(f"term {name!r}: {error}") from error
        default = registry.fields(method)[key]
        remedy = "" if default is None or ". " in text else f". Leave it out, which is {default!r}"
        raise UserError(f"terms.{name}.{text}{remedy}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"terms.{name} must have fields that {config.method!r} takes, got an error: {error}") from error
    weight = optim.schedule(config.weight, steps, f"terms.{name}.weight")
    return Term(built, student, teacher, weight=weight, schedules=schedules)
