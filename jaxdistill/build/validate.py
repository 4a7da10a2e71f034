"""Cross-field validation of a stage, before compilation."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill import networks
from jaxdistill.build import caches
from jaxdistill.build.networks import data_class_names
from jaxdistill.build.stage import Stage
from jaxdistill.compress.views import NO_VIEWS
from jaxdistill.config import registry
from jaxdistill.config.members import compile_pattern
from jaxdistill.core import path_name
from jaxdistill.data.build import has_visible_labels
from jaxdistill.data.dataset import CHUNK
from jaxdistill.errors import UserError, check_names, unknown
from jaxdistill.generation import on_policy
from jaxdistill.networks import Source
from jaxdistill.tasks import StageParts
from jaxdistill.train import mesh, optim, partitioning
from jaxdistill.train.metrics_log import RESERVED


def check(stage: Stage) -> None:
    """Checks what every kind of stage must fulfil.

    Raises:
        UserError: for settings that contradict each other, the data or the devices.
    """
    checks = (
        caches.check_terms,
        _check_trackers,
        _check_sharding_axes,
        _check_named_networks,
        _check_memories,
        _check_pairings,
        _check_inputs,
        _check_task,
        _check_classes,
        _check_class_names,
        caches.check,
        _check_measured_task,
        _check_evaluate,
        _check_window,
        _check_fewer_classes,
    )
    for run_check in checks:
        run_check(stage)


def _check_trackers(stage: Stage) -> None:
    """Checks that trackers exist and have their libraries."""
    path = f"stages.{stage.name}.trackers"
    for name in stage.settings.trackers:
        registry.find("tracker", name, path).check(path)


def _check_task(stage: Stage) -> None:
    """Checks that kind, networks and terms fit the task of the data."""
    if stage.kind.images_only and "image" not in stage.data.task.fields:
        raise UserError(
            f"stage {stage.name!r} of kind {stage.settings.kind!r} must have images, got {stage.data.dataset.name!r}"
            f" with {[*stage.data.task.fields]}. Leave it out."
        )
    stage.data.task.check(_parts(stage))


def _check_measured_task(stage: Stage) -> None:
    """Checks that the predictions that an evaluation measures and compares are the task's."""
    stage.data.task.check_measured(stage.evaluation.needed, _parts(stage))


def _parts(stage: Stage) -> StageParts:
    axes = {name: stage.shapes.num_axes(name) for name in stage.networks}
    return StageParts(networks=stage.networks, terms=stage.terms, prediction_axes=axes)


def check_length(name: str, steps: int) -> None:
    """Raises `UserError` if a stage that trains has no steps."""
    if steps < 1:
        raise UserError(f"stage {name!r} has no length; set steps, epochs or examples")


def check_training(stage: Stage) -> None:
    """Raises `UserError` if a stage cannot train: no term, or a term that does not fit."""
    name, sources, terms = stage.name, stage.networks, stage.terms
    if not terms:
        raise UserError(
            f"stage {name!r} has no terms, so nothing to learn; add terms.task=dict(method='cross_entropy')"
        )
    learning = [n for n, source in sources.items() if source.learns]
    if not learning:
        raise UserError(f"stage {name!r} trains no network; one of {list(sources)} needs source='trained'")
    for key, term in terms.items():
        if not set(networks.dependencies(sources, [term.student])) & set(learning):
            raise UserError(f"term {key!r} teaches {term.student!r}, which does not learn; {learning} do")
    taught = {name for term in terms.values() for name in networks.dependencies(sources, [term.student])}
    idle = [name for name in learning if name not in taught]
    if idle:
        raise UserError(f"stage {name!r} trains networks {idle}, and no term teaches them; there are {list(terms)}")
    for key in terms:
        if key in sources or key in RESERVED or "/" in key:
            raise UserError(f"a term cannot be named {key!r}; {[*sources, *RESERVED]} and names with '/' are taken")
        _check_term(stage, key)


def check_optimizer(stage: Stage) -> None:
    """Raises `UserError` if a pattern of the optimizer matches no parameter, or freezes a whole network."""
    params = stage.shapes.state.params
    for network, pattern in learning_parts(stage.settings, stage.networks).items():
        paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path({network: params[network]})]
        matched = [path for path in paths if re.search(pattern, path)]
        if not matched:
            raise optim.unmatched(f"networks.{network}.train", pattern, paths)
        if len(matched) == len(paths):
            raise UserError(
                f"networks.{network}.train must leave out a parameter, got {pattern!r}, which matches all. Leave it"
                " empty, and all learn"
            )
    shared: dict[str, Any] = {}
    for unit in stage.units:
        if unit.has_own_optimizer:
            optim.check_patterns(unit.spec, unit.select(params), f"networks.{unit.name}.optimizer")
        else:
            shared |= unit.select(params)
    if shared:
        optim.check_patterns(stage.settings.optimizer, shared, f"stage {stage.name!r}: optimizer")


def learning_parts(settings: Any, sources: Mapping[str, Source]) -> dict[str, str]:
    """Returns the key `train` of those networks that learn and set it.

    Raises:
        UserError: for a text that is no regular expression.
    """
    given = {name: network.options.get("train", "") for name, network in settings.networks.items()}
    return {
        name: compile_pattern(f"networks.{name}.train", pattern).pattern
        for name, pattern in given.items()
        if pattern and name in sources and sources[name].learns
    }


def check_views(stage: Stage) -> None:
    """Raises `UserError` for a view of a trained network whose schedule ends after the stage."""
    for name, source in stage.networks.items():
        if not source.learns:
            continue
        for view_name, view in getattr(source, "views", NO_VIEWS).entries:
            if view.last_step > stage.settings.steps:
                raise UserError(
                    f"networks.{name}.compress.{view_name} must be complete within the {stage.settings.steps} steps of"
                    f" stage {stage.name!r}, got a schedule up to step {view.last_step}. Shorten it, or add steps"
                )


def check_on_policy(stage: Stage) -> None:
    """Raises `UserError` for texts to be written that the networks or the data do not permit, and for no answers."""
    settings, path = stage.settings.on_policy, f"stage {stage.name!r}: on_policy"
    settings.check(path)
    if settings.share < 1:
        _check_answers(stage)
    if settings.share:
        on_policy.check(settings, stage.networks, stage.data.batch, path)
        if stage.settings.data.buckets:
            raise UserError(
                f"stage {stage.name!r}: data.buckets must be empty beside on_policy, got {stage.settings.data.buckets}."
                " Texts that are written have one length"
            )
    for name, term in stage.terms.items():
        if term.method.needs_samples:
            on_policy.check_samples(settings, term.student, f"stage {stage.name!r}: term {name!r}")


def _check_answers(stage: Stage) -> None:
    """Raises `UserError` for texts of which no token is to be learned, so that every loss would be 0."""
    train = stage.data.train
    if "answer_mask" not in stage.data.dataset.fields:
        return
    for start in range(0, len(train), CHUNK):  # the first has a token, as a rule
        positions = np.arange(start, min(start + CHUNK, len(train)))
        if np.any(train.take(positions)["answer_mask"] > 0):
            return
    raise UserError(
        f"stage {stage.name!r}: data must have a token to learn, got an answer_mask of 0 in all {len(train)} texts."
        " Correct it, or have all texts written by on_policy.share=1"
    )


def _check_term(stage: Stage, key: str) -> None:
    method, data, accumulate = stage.terms[key].method, stage.settings.data, stage.settings.accumulate
    if method.needs_whole_batch and accumulate > 1:
        raise UserError(
            f"term {key!r} compares the examples of a batch with each other, so"
            f" accumulate={accumulate} would change its loss; set accumulate=1, or use more devices for"
            " a larger batch"
        )
    if not method.needs_labels:
        return
    if not stage.data.task.has_labels:
        raise UserError(
            f"term {key!r} must have labels, got data {data.name!r} without any. Use labelled data, or leave the term"
            " out of the stage."
        )
    hidden = stage.data.task.reads_class_labels and not has_visible_labels(data)
    if hidden or not stage.data.shows_labels:
        raise UserError(
            f"term {key!r} learns from labels, and the training data of stage {stage.name!r} show none in"
            f" {len(stage.data.train)} examples; fill them in, let it see labels (data.unlabelled, data.weight,"
            " data.mix.NAME.labelled), or leave the term out of the stage"
        )


def _check_sharding_axes(stage: Stage) -> None:
    """Checks sharding rules against the mesh, and that host memory exists for offloading."""
    rules = stage.shapes.partitioner.all_rules().values()
    for rule in rules:
        partitioning.check_axes(stage.mesh, vars(stage.settings.mesh), rule)
    offloaded = [name for name, rules in stage.shapes.partitioner.networks.items() if rules.offload]
    device = stage.mesh.local_devices[0]
    kinds = sorted(memory.kind for memory in device.addressable_memories())
    if offloaded and partitioning.HOST not in kinds:
        raise UserError(
            f"networks {offloaded} are to be offloaded, and these devices ({device.device_kind}) have"
            f" no memory {partitioning.HOST!r}, only {kinds}; set offload=False, or split them with sharding=('fsdp',)"
        )


def _check_memories(stage: Stage) -> None:
    """Checks that a memory with a row for each training example has the size of the training split."""
    examples = len(stage.data.train.base)
    for name, term in stage.terms.items():
        rows = getattr(term.method, "examples", examples)
        if rows != examples:
            raise UserError(
                f"term {name!r} remembers examples={rows} by their index, and the training split has {examples}; set"
                f" terms.{name}.examples={examples}"
            )


def _check_pairings(stage: Stage) -> None:
    """Checks that compared networks agree in the settings that their sources name."""
    for name, term in stage.terms.items():
        pair = [stage.networks[network] for network in (term.student, term.teacher) if network]
        settings = [network.pairing for network in pair]
        if any(setting != settings[0] for setting in settings):
            raise UserError(
                f"terms.{name}: student and teacher must agree in {[*(settings[0] or settings[1])]}, got"
                f" {term.student!r} with {settings[0]} and {term.teacher!r} with {settings[1]}"
            )


def _check_inputs(stage: Stage) -> None:
    trains = stage.kind.trains
    # All other kinds show one view, the image itself.
    main = stage.data.task.inputs[0]
    inputs = stage.data.task.network_inputs(augmented=trains)
    for name, source in stage.networks.items():
        field = getattr(source, "input", main)
        if field not in inputs and (trains or source.evaluable):
            remedy = "data.views=2 makes image2, 3 image3" if trains else f"Set its input={main!r} in this stage"
            remedy = remedy if main == "image" else "A text has one view"
            raise UserError(
                f"stage {stage.name!r}: the input of network {name!r} must be one of {inputs}, got {field!r}. {remedy}"
            )


def _check_classes(stage: Stage) -> None:
    classes = {name: stage.shapes.num_classes(name) for name in stage.shapes.outputs}
    for name, term in stage.terms.items():
        if term.teacher and term.method.same_classes and classes[term.student] != classes[term.teacher]:
            raise UserError(
                f"term {name!r}: student {term.student!r} has {classes[term.student]} classes and teacher"
                f" {term.teacher!r} {classes[term.teacher]}; this method compares their logits, so they must be the"
                f" same. {_remedy_of_classes(stage, classes[term.student], classes[term.teacher])}"
            )
        expected, is_per_example = stage.data.task.num_classes, stage.shapes.num_axes(term.student) == 1
        if not term.teacher and is_per_example and classes[term.student] != expected:
            raise UserError(
                f"term {name!r}: network {term.student!r} has {classes[term.student]} classes, the data"
                f" {expected}; leave out `classes` and it is taken from the data"
            )


def _check_fewer_classes(stage: Stage) -> None:
    """Checks that no network that is measured, or learns labels, has fewer classes than the data."""
    expected = stage.data.task.num_classes
    learned = {term.student: f"term {key!r}" for key, term in stage.terms.items() if term.method.needs_labels}
    for name, use in (dict.fromkeys(stage.evaluation.networks, "evaluate") | learned).items():
        number = stage.shapes.num_classes(name)
        if number < expected:
            raise UserError(
                f"stage {stage.name!r}: {use}: network {name!r} must have the {stage.data.task.choices} of the"
                f" data, got {number}. Leave out `classes`, which is taken from the data, or the network"
            )


def _remedy_of_classes(stage: Stage, student: int, teacher: int) -> str:
    if stage.data.task.reads_class_labels:
        return "Set the student's `classes`, or take a method that compares features"
    vocabulary, fewer = stage.data.task.num_classes, min(student, teacher)
    if fewer < vocabulary:
        return "Take a method for other tokens, such as 'uld'"
    return (
        f"If the larger is padded, set keep_classes={fewer} for that network, which then outputs the logits of the"
        f" first {fewer} tokens"
    )


def _check_class_names(stage: Stage) -> None:
    """Checks that networks whose logits are compared or measured have the classes of the data."""
    names = data_class_names(stage.data.task)
    uses = dict.fromkeys(stage.evaluation.needed, "evaluate")
    for key, term in stage.terms.items():
        if term.method.same_classes and term.teacher:
            uses |= dict.fromkeys([term.student, term.teacher], f"term {key!r}")
    for network, use in uses.items():
        source = stage.networks[network]
        members = [network, *(source.needs if isinstance(source, (networks.Ensemble, networks.Routed)) else ())]
        for member in members if names else ():
            present = getattr(stage.networks[member], "class_names", ())
            if present and present != names:
                missing = [name for name in present if name not in names][:5]
                raise UserError(
                    f"stage {stage.name!r}: {use}: network {member!r} must have the classes of"
                    f" {stage.data.dataset.name!r}, such as {list(names[:5])}, got others, such as {missing}. Take"
                    " weights of these classes, a method that compares features, or data with its class_names"
                )


def _check_named_networks(stage: Stage) -> None:
    """Checks the networks that `evaluate` names."""
    evaluate, options = stage.settings.evaluate, [*stage.networks]
    check_names("network in evaluate", evaluate.networks, options)
    check_names("network in evaluate.reference", [evaluate.reference] if evaluate.reference else [], options)


def _check_evaluate(stage: Stage) -> None:
    evaluate, final = stage.settings.evaluate, stage.kind.writes_results
    if (final or evaluate.every) and evaluate.split not in stage.data.dataset.splits:
        raise unknown("evaluate.split", evaluate.split, stage.data.dataset.splits, "a split of the data")
    _check_compared_classes(stage)
    views = [name for name in stage.evaluation.compared if not stage.networks[name].evaluable]
    if views:
        raise UserError(
            f"networks {views} compute on a second view of a training batch, or for some tokens of a text alone; leave"
            " them out of evaluate.networks and evaluate.reference, and evaluate the networks of theirs"
        )
    mesh.check_batch(stage.mesh, stage.data.evaluation_batch_size, 1)
    if not stage.kind.trains:
        return
    checkpoint = stage.settings.checkpoint
    if checkpoint.keep not in ("last", "best"):
        raise unknown("way to keep a checkpoint", checkpoint.keep, ("last", "best"))
    ranking = stage.evaluation.ranking
    numbers = [*ranking, *dict.fromkeys(number.rpartition("/")[2] for number in ranking)]
    check_names("evaluated number for checkpoint.metric", [checkpoint.metric] if checkpoint.metric else [], numbers)
    if checkpoint.keep == "best" and not final and not ranking:
        raise UserError(
            f"stage {stage.name!r} is to keep the best checkpoint, and evaluates nothing; it needs evaluate.metrics,"
            f" and a split of {sorted(stage.data.dataset.splits)} as evaluate.split, which is {evaluate.split!r}"
        )


def _check_window(stage: Stage) -> None:
    """Raises `UserError` for windows of another task than one of pixels, or that do not fit into the images."""
    window, task = stage.settings.evaluate.window, stage.data.task
    if not window:
        return
    if len(task.axes) != 3:
        raise UserError(f"evaluate.window must be () for the task {task.name!r}, got {window}. Leave it out")
    size = stage.data.dataset.shape[:2]
    if len(window) != 2 or any(not 1 <= part <= side for part, side in zip(window, size, strict=True)):
        raise UserError(
            f"evaluate.window must be a height and a width of at most {tuple(size)}, the size of the images, got"
            f" {window}"
        )


def _check_compared_classes(stage: Stage) -> None:
    """Checks that networks that are compared class by class have the same number of classes."""
    evaluation = stage.evaluation
    by_class = [name for name, metric in evaluation.fidelity_metrics.items() if metric.same_classes]
    to_reference = [(name, evaluation.reference) for name in evaluation.networks if evaluation.reference]
    for pair in [*to_reference, *evaluation.pairs] if by_class else ():
        counts = [stage.shapes.num_classes(name) for name in pair]
        if counts[0] != counts[1]:
            raise UserError(
                f"stage {stage.name!r}: metrics {by_class} compare {pair[0]!r} of {counts[0]} classes with {pair[1]!r}"
                f" of {counts[1]}, which must be the same; leave one of the two out of evaluate.networks and"
                " evaluate.pairs, name another evaluate.reference, or leave out those metrics"
            )
