"""Comparisons that a stage evaluates: the pairs of networks, the metrics of fidelity, their conditions."""

from jaxdistill.build.stage import Stage
from jaxdistill.errors import UserError, check_names
from jaxdistill.train.evaluate import Metric


def check_pairs(stage: Stage) -> None:
    """Raises `UserError` unless `evaluate.pairs` are pairs of two networks of the stage."""
    options = [*stage.networks]
    for pair in stage.settings.evaluate.pairs:
        names = pair.split(":") if isinstance(pair, str) else []
        if len(names) != 2 or names[0] == names[1]:
            raise UserError(f"evaluate.pairs has {pair!r}; a pair is 'network:reference', two of {options}")
        check_names(f"network in {pair!r} of evaluate.pairs", names, options)


def check_references(stage: Stage) -> None:
    """Raises `UserError` if metrics of fidelity have no reference, or pairs no such metric."""
    pairs, fidelity = stage.settings.evaluate.pairs, _fidelity(stage)
    if fidelity and not stage.reference and not pairs:
        raise UserError(
            f"metrics {[*fidelity]} compare with a reference; set evaluate.reference to one of {[*stage.networks]}, or"
            " evaluate.pairs to some ('network:reference', ...)"
        )
    if pairs and not fidelity and not stage.saliency:
        able = [name for name in stage.task.metrics if stage.task.metric(name).needs_reference]
        raise UserError(f"evaluate.pairs compares nothing; name some of {able} in evaluate.metrics")


def check_classes(stage: Stage) -> None:
    """Raises `UserError` if networks that are compared class by class have different numbers of classes."""
    by_class = [name for name, metric in _fidelity(stage).items() if metric.same_classes]
    compared = [(name, stage.reference) for name in stage.measured if stage.reference] + stage.pairs
    for pair in compared if by_class else ():
        counts = [stage.classes_of(name) for name in pair]
        if counts[0] != counts[1]:
            raise UserError(
                f"stage {stage.name!r}: metrics {by_class} compare {pair[0]!r} of {counts[0]} classes with {pair[1]!r}"
                f" of {counts[1]}, which must be the same; leave one of the two out of evaluate.networks and"
                " evaluate.pairs, name another evaluate.reference, or leave out those metrics"
            )


def _fidelity(stage: Stage) -> dict[str, Metric]:
    return {name: metric for name, metric in stage.metrics().items() if metric.needs_reference}
