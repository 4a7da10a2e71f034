"""Images or texts: whether the networks, terms and numbers of a stage are for the kind of its data.

A network of texts says one class of each text, logits `[batch, classes]`, or what each next token is, `[batch, length,
vocabulary]`; methods and metrics are of the one or of the other.
"""

from jaxdistill import networks
from jaxdistill.build.stage import Stage
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.modules.next_token import NextToken

OF_IMAGES = ("classifier", "components")
"""Kinds of stages that look at images alone."""


def check(stage: Stage) -> None:
    """Raises `UserError` for what cannot be done with the kind of data that a stage has."""
    if stage.dataset.reads == "image":
        for name, term in stage.terms.items():
            if isinstance(term.method, NextToken) and not term.method.needs_teacher:
                raise UserError(
                    f"term {name!r}: method {type(term.method).__name__} learns next tokens, and"
                    f" {stage.settings['data']['name']!r} has images; take cross_entropy, or data of texts"
                )
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
    kind, merge = stage.settings["kind"], stage.settings["merge"]
    what = f"stage {stage.name!r} is of kind {kind!r}"
    has = f"{stage.settings['data']['name']!r} has texts"
    if kind in OF_IMAGES:
        raise UserError(f"{what}, which is for images, and {has}")
    if kind == "merge" and (
        merge["rule"] == "fisher" or merge["align"] or (merge["rule"] == "soup" and stage.per_token)
    ):
        raise UserError(
            f"{what}, and its rule {merge['rule']!r}{' with align=True' * merge['align']} looks at images with labels,"
            f" and {has}; take a rule that looks at weights alone, such as 'average'"
        )


def _check_term(stage: Stage, name: str, term: Term) -> None:
    """A method of next tokens is for networks that say them, and one of classes for those that say a class."""
    what, method = f"term {name!r}: method {type(term.method).__name__}", term.method
    for network in filter(None, (term.student, term.teacher)):
        of_tokens = stage.ranks(network) > 1
        module = getattr(stage.networks[network], "module", None)
        if isinstance(method, NextToken) and not method.needs_teacher and getattr(module, "bidirectional", False):
            raise UserError(
                f"{what} asks for the next token, and network {network!r}, of {type(module).__name__}, reads it before"
                " it answers; take a decoder"
            )
        if isinstance(method, NextToken) and not of_tokens:
            raise UserError(
                f"{what} compares next tokens, and network {network!r} says one class of each text; take cross_entropy,"
                " kd or another method of classification"
            )
        if not isinstance(method, NextToken) and method.domain != "encoder" and of_tokens:
            raise UserError(
                f"{what} compares what is said of an example, and network {network!r} says what each next token is;"
                " take next_token_cross_entropy, forward_kl or another method of language models"
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
