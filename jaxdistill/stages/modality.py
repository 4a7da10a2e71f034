"""Images or texts: whether the networks, terms and numbers of a stage are for the kind of its data.

A network of texts says one class of each text, logits `[batch, classes]`, or what each next token is, `[batch, length,
vocabulary]`; methods and metrics are of the one or of the other.
"""

from jaxdistill import networks
from jaxdistill.build.stage import Stage
from jaxdistill.core import Term, prediction_shape
from jaxdistill.errors import UserError
from jaxdistill.modules.logits_method import LogitsMethod


def check(stage: Stage) -> None:
    """Raises `UserError` for what cannot be done with the kind of data that a stage has."""
    if stage.dataset.reads == "image":
        return
    _check_kind(stage)
    for name, source in stage.networks.items():
        if isinstance(source, networks.Derivative | networks.ReusedClassifier):
            raise UserError(
                f"network {name!r} is a {type(source).__name__.lower()}, which is of images, and"
                f" {stage.settings['data']['name']!r} has texts; leave it out"
            )
    for name, term in stage.terms.items():
        _check_term(stage, name, term)
    _check_compared(stage)


def _check_kind(stage: Stage) -> None:
    if stage.kind.images_only:
        raise UserError(
            f"stage {stage.name!r} is of kind {stage.settings.kind!r}, which is for images, and"
            f" {stage.settings.data.name!r} has texts"
        )


def _check_term(stage: Stage, name: str, term: Term) -> None:
    """Labels must be aligned with the student's predictions, and next tokens be unseen by it."""
    method, student = term.method, term.student
    if not isinstance(method, LogitsMethod) or not method.needs_labels:
        return
    what = f"term {name!r}: method {type(method).__name__}"
    module = getattr(stage.networks[student], "module", None)
    if stage.ranks(student) > 1 and getattr(module, "bidirectional", False):
        raise UserError(
            f"{what} learns the next token, but network {student!r}, {type(module).__name__}, attends to it. Use a"
            " decoder."
        )
    predicted, labels = prediction_shape(stage.outputs[student].logits), stage.batch["label"].shape
    if predicted != labels:
        raise UserError(
            f"{what} must have one label for each prediction, got labels {list(labels)} and predictions"
            f" {list(predicted)} of network {student!r}. Use a network that predicts "
            + ("next tokens." if len(labels) > 1 else "one class of each text.")
        )


def _check_compared(stage: Stage) -> None:
    """What an evaluation measures and compares is of one kind."""
    named = [*stage.measured, *([stage.compared] if stage.measured and stage.compared else [])]
    named += [name for pair in stage.pairs for name in pair]
    ranks = {name: stage.ranks(name) for name in dict.fromkeys(named)}
    if len(set(ranks.values())) > 1:
        classes, tokens = ([name for name, rank in ranks.items() if (rank > 1) == of] for of in (False, True))
        raise UserError(
            f"stage {stage.name!r} evaluates {classes}, which say a class of each text, beside {tokens}, which say"
            " next tokens; set evaluate.networks and evaluate.reference to networks of one kind"
        )
