"""Stages that several configs share."""

from typing import Any

CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "nll", "ece", "agreement", "confusion", "reliability")
"""Metrics of a final table of classifiers."""

DETECTION = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large", "map_per_class"),
    "box_agreement",
)
"""Metrics of a final table of detectors."""

TABLE_CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "nll", "ece", "agreement", "kl", "confusion")
"""Metrics of a final table of classifiers of few examples."""

SEGMENTATION = ("mean_iou", "accuracy", "boundary_f1", "nll", "agreement", "kl", "per_class_iou", "confusion")
"""Metrics of a final table of networks that predict every pixel."""


def teacher_alone_distil(metrics: tuple[str, ...], **teacher: Any) -> dict[str, Any]:
    """Returns stages: a teacher is trained, then a student without it and with it, and the three are evaluated.

    The config's networks are `teacher` and `student`, its terms `task` and `kd`.

    Args:
        metrics: of the final evaluation, on the test split.
        teacher: further keys of the teacher's stage, such as `epochs`.
    """
    networks = dict(
        teacher={},
        alone=dict(like="student", source="frozen", weights="stage:alone"),
        distilled=dict(like="student", source="frozen", weights="stage:distil"),
    )
    return dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher", weight=1.0)),
            **teacher,
        ),
        alone=dict(networks=dict(student={}), terms=dict(task=dict(weight=1.0))),
        distil=dict(),
        evaluate=dict(
            kind="evaluate",
            networks=networks,
            evaluate=dict(split="test", networks=tuple(networks), metrics=metrics),
        ),
    )


def finetune_alone_distil(metrics: tuple[str, ...], **teacher: Any) -> dict[str, Any]:
    """Returns the same stages for a teacher that starts from pretrained weights, with a new head, and is fine-tuned.

    The config's network `teacher` is `dict(source="trained", weights="hf:...", head="new")`.

    Args:
        metrics: of the final evaluation, on the test split.
        teacher: further keys of the teacher's stage, such as `epochs`.
    """
    stages = teacher_alone_distil(metrics, **teacher)
    frozen = dict(source="frozen", weights="stage:teacher")
    stages["teacher"]["networks"] = dict(teacher={})
    stages["distil"] = dict(networks=dict(teacher=frozen, student={}))
    stages["evaluate"]["networks"]["teacher"] = frozen
    return stages


def alone_distil(teachers: tuple[str, ...], metrics: tuple[str, ...], measured: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns stages: a student is trained without the teachers and with them, and all are evaluated.

    The config's network is `student`, its term of the labels `task`; the teachers are networks of the config.

    Args:
        teachers: names of the teachers' networks, members of ensembles too.
        metrics: of the final evaluation, on the test split.
        measured: those of the teachers that are in the table; all if empty.
    """
    networks = dict(
        {name: {} for name in teachers},
        alone=dict(like="student", source="frozen", weights="stage:alone"),
        distilled=dict(like="student", source="frozen", weights="stage:distil"),
    )
    evaluated = (*(measured or teachers), "alone", "distilled")
    return dict(
        alone=dict(networks=dict(student={}), terms=dict(task={})),
        distil={},
        evaluate=dict(
            kind="evaluate",
            networks=networks,
            evaluate=dict(split="test", networks=evaluated, metrics=metrics),
        ),
    )


def prune_distil_quantize(
    pruned: dict[str, Any],
    rounded: dict[str, Any],
    metrics: tuple[str, ...],
    *,
    export: dict[str, Any],
    teacher: dict[str, Any],
) -> dict[str, Any]:
    """Returns stages: a teacher is trained, pruned, distilled, quantised, measured after each step, and exported.

    The config's network is `teacher`, its terms `task` and `kd`. The teacher of the quantised network is the pruned one
    in float32.

    Args:
        pruned: views that remove units.
        rounded: views that quantise.
        metrics: of the final evaluation, on the test split.
        export: the export.
        teacher: further keys of the teacher's stage.
    """
    dense = dict(source="frozen", weights="stage:teacher")
    small, quantized = (dict(like="teacher", head="", compress=views) for views in (pruned, pruned | rounded))
    distilled = dict(small, source="frozen", weights="stage:distil#student")
    networks = dict(
        teacher=dense,
        pruned=dict(small, source="frozen", weights="stage:prune"),
        distilled=distilled,
        rounded=dict(quantized, source="frozen", weights="stage:distil#student"),
        quantized=dict(quantized, source="frozen", weights="stage:quantize#student"),
    )
    return dict(
        teacher=dict(networks=dict(teacher={}), terms=dict(task=dict(student="teacher")), **teacher),
        prune=dict(
            kind="compress",
            networks=dict(teacher=dense, student=dict(small, source="trained", weights="")),
            compress=dict(network="teacher", into="student"),
        ),
        distil=dict(networks=dict(teacher=dense, student=dict(small, source="trained", weights="stage:prune"))),
        quantize=dict(
            networks=dict(teacher=distilled, student=dict(quantized, source="trained", weights="stage:distil#student")),
        ),
        evaluate=dict(
            kind="evaluate",
            networks=networks,
            evaluate=dict(split="test", networks=tuple(networks), metrics=metrics, cost=True),
        ),
        export=dict(
            kind="export", networks=dict(quantized=networks["quantized"]), export=dict(network="quantized", **export)
        ),
    )
