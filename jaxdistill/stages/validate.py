"""What makes no sense in a stage although each of its words does; told before anything is compiled."""

from jaxdistill import metrics, networks
from jaxdistill.build.stage import Stage
from jaxdistill.config import registry, sweep
from jaxdistill.data.build import shows_labels
from jaxdistill.errors import UserError, check_names, unknown
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.networks import dependencies
from jaxdistill.stages import cache, merge, modality
from jaxdistill.train import mesh, optim, partitioning
from jaxdistill.train.metrics_log import RESERVED


def built(stage: Stage) -> None:
    """Raises `UserError` for what a built stage cannot do."""
    checks = (
        _check_places,
        _check_measured,
        _check_memories,
        _check_probes,
        _check_inputs,
        modality.check,
        _check_classes,
        cache.check,
        merge.check,
        _check_evaluate,
    )
    for check in checks:
        check(stage)


def lanes(stage: Stage) -> None:
    """Raises `UserError` where lanes cannot run side by side."""
    lengths = [lane.settings["steps"] for lane in stage.lanes]
    if len(set(lengths)) > 1:
        raise UserError(
            f"the lanes of stage {stage.name!r} would have {lengths} steps, as their parts of the data differ in size;"
            " set steps in place of epochs"
        )
    for name, values in sweep.listed(stage.settings["sweep"]):
        section, _, key = name.rpartition(".")
        default = 0.0
        if section.startswith("terms.") and section.count(".") == 1 and key != "weight":
            default = registry.fields(type(stage.terms[section.split(".")[1]].method))[key]
        elif section == "optimizer":
            default = optim.fields(stage.settings["optimizer"]["name"]).get(key, 0.0)
        if not isinstance(default, float):
            raise UserError(
                f"stage {stage.name!r}: sweep.{name} has the default {default!r}; lanes differ in fractions"
            )
        if name in ("optimizer.weight_decay", "optimizer.clip") and 0 < sum(value == 0 for value in values) < len(
            values
        ):
            raise UserError(
                f"stage {stage.name!r}: sweep.{name}={values} has 0, none, beside others; give small numbers"
            )


def training(name, settings, dataset, made, terms):
    if settings["steps"] < 1:
        raise UserError(f"stage {name!r} has no length; set steps, epochs or examples")
    if not terms:
        raise UserError(
            f"stage {name!r} has no terms, so nothing to learn; add terms.task=dict(method='cross_entropy')"
        )
    learning = [n for n, source in made.items() if source.learns]
    if not learning:
        raise UserError(f"stage {name!r} trains no network; one of {list(made)} needs source='trained'")
    for key, term in terms.items():
        if not set(dependencies(made, [term.student])) & set(learning):
            raise UserError(f"term {key!r} teaches {term.student!r}, which does not learn; {learning} do")
    idle = [n for n in learning if not any(n in dependencies(made, [term.student]) for term in terms.values())]
    if idle:
        raise UserError(f"stage {name!r} trains networks {idle}, and no term teaches them; there are {list(terms)}")
    for key, term in terms.items():
        if key in made or key in RESERVED or "/" in key:
            raise UserError(f"a term cannot be named {key!r}; {[*made, *RESERVED]} and names with '/' are taken")
        if term.method.needs_whole_batch and settings["accumulate"] > 1:
            raise UserError(
                f"term {key!r} compares the examples of a batch with each other, so"
                f" accumulate={settings['accumulate']} would change its loss; set accumulate=1, or use more devices for"
                " a larger batch"
            )
        has_next_tokens = not dataset.class_names and dataset.reads == "tokens"
        if term.method.needs_labels and has_next_tokens and isinstance(term.method, LogitsMethod):
            continue
        if term.method.needs_labels and not dataset.class_names:
            raise UserError(
                f"term {key!r} must have labels, got data {settings['data']['name']!r} without any. Use labelled data,"
                " or leave the term out of the stage."
            )
        if term.method.needs_labels and not shows_labels(settings["data"]):
            raise UserError(
                f"term {key!r} learns from labels, and the training data of stage {name!r} show none; leave the term"
                " out of the stage, or let it see labels (data.unlabelled, data.weight, data.mix.NAME.labels)"
            )


def _check_places(built: Stage) -> None:
    """Rules are rules, and memory of the host can be had where it is asked for."""
    every = [built.placement.rules, *(own.rules for own in built.placement.cast.values() if own.rules)]
    for one in every:
        partitioning.check_axes(built.mesh, built.settings["mesh"], one)
    away = [name for name, own in built.placement.cast.items() if own.offload]
    if away and built.settings["kind"] == "merge":
        raise UserError(f"stage {built.name!r} merges the weights of {away}; set offload=False for them in this stage")
    kinds = sorted(memory.kind for memory in built.mesh.local_devices[0].addressable_memories())
    if away and partitioning.HOST not in kinds:
        raise UserError(
            f"networks {away} are to be offloaded, and these devices ({built.mesh.local_devices[0].device_kind}) have"
            f" no memory {partitioning.HOST!r}, only {kinds}; set offload=False, or split them with sharding=('fsdp',)"
        )


def _check_memories(built: Stage) -> None:
    """A memory with a row for each training example has that many."""
    there = len(built.train.whole)
    for name, term in built.terms.items():
        wanted = getattr(term.method, "examples", there)
        if wanted != there:
            raise UserError(
                f"term {name!r} remembers examples={wanted} by their index, and the training split has {there}; set"
                f" terms.{name}.examples={there}"
            )


def _check_probes(built: Stage) -> None:
    """Derivatives are compared along the same directions, taken in the same way."""
    for name, term in built.terms.items():
        pair = [built.networks[network] for network in (term.student, term.teacher) if network]
        ways = [(p.mode, p.directions, p.step, p.seed) if isinstance(p, networks.Derivative) else None for p in pair]
        if len(set(ways)) > 1:
            raise UserError(
                f"term {name!r}: {term.student!r} and {term.teacher!r} must be two probes that agree in mode,"
                f" directions, step and seed; they have {ways}"
            )


def _check_inputs(built: Stage) -> None:
    trains = built.settings["kind"] == "train"
    # All others look at one view, the image itself.
    reads = built.dataset.reads
    images = [name for name in built.batch if name.startswith("image")] if trains else ["image"]
    images = images if reads == "image" else [reads]
    for name, source in built.networks.items():
        wanted = getattr(source, "input", reads)
        if wanted not in images and not (isinstance(source, networks.Shared) and not trains):
            remedy = "data.views=2 makes image2, 3 image3" if trains else "set its input='image' in this stage"
            remedy = remedy if reads == "image" else "there is one view of a text"
            raise UserError(
                f"stage {built.name!r}: network {name!r} looks at {wanted!r}, and there is {images}; {remedy}"
            )


def _check_classes(built: Stage) -> None:
    said = {name: built.classes_of(name) for name in built.outputs}
    for name, term in built.terms.items():
        if term.teacher and term.method.same_classes and said[term.student] != said[term.teacher]:
            raise UserError(
                f"term {name!r}: student {term.student!r} has {said[term.student]} classes and teacher"
                f" {term.teacher!r} {said[term.teacher]}; this method compares their logits, so they must be the same"
            )
        if not term.teacher and built.ranks(term.student) == 1 and said[term.student] != built.dataset.classes:
            raise UserError(
                f"term {name!r}: network {term.student!r} has {said[term.student]} classes, the data"
                f" {built.dataset.classes}; leave out `classes` and it is taken from the data"
            )


def _check_measured(built: Stage) -> None:
    """What an evaluation names is there."""
    spec, options = built.settings["evaluate"], [*built.networks]
    check_names("network in evaluate", spec["networks"], options)
    check_names("network in evaluate.reference", [spec["reference"]] if spec["reference"] else [], options)
    for pair in spec["pairs"] if built.settings["kind"] == "evaluate" else ():
        names = pair.split(":") if isinstance(pair, str) else []
        if len(names) != 2 or names[0] == names[1]:
            raise UserError(f"evaluate.pairs has {pair!r}; a pair is 'network:reference', two of {options}")
        check_names(f"network in {pair!r} of evaluate.pairs", names, options)


def _check_evaluate(built: Stage) -> None:
    spec, keep = built.settings["evaluate"], built.settings["checkpoint"]
    final = built.settings["kind"] == "evaluate"
    if final or spec["every"]:
        built.dataset.split(spec["split"])
    _check_compared(built, final)
    looked_at = dict.fromkeys([*built.measured, *(name for pair in built.pairs for name in pair)])
    again = [name for name in looked_at if isinstance(built.networks[name], networks.Shared | networks.Derivative)]
    if again:
        raise UserError(f"networks {again} are second looks at a training batch; evaluate what they look again with")
    mesh.check_batch(built.mesh, built.evaluation_batch, 1, built.part.of)
    if built.settings["kind"] in cache.KINDS:
        return
    if keep["keep"] not in ("last", "best"):
        raise unknown("way to keep a checkpoint", keep["keep"], ("last", "best"))
    check_names("evaluated number for checkpoint.by", [keep["by"]] if keep["by"] else [], built.numbers)
    if keep["keep"] == "best" and not final and not built.numbers:
        raise UserError(
            f"stage {built.name!r} is to keep what is best, and evaluates nothing; it needs evaluate.metrics, and a"
            f" split of {sorted(built.dataset.splits)} as evaluate.split, which is {spec['split']!r}"
        )


def _check_compared(built: Stage, final: bool) -> None:
    """What is compared can be: there are references, and they distinguish the same classes."""
    spec = built.settings["evaluate"]
    fidelity = {name: metric for name, metric in built.metrics().items() if metric.needs_reference}
    if final and fidelity and not built.reference and not spec["pairs"]:
        raise UserError(
            f"metrics {[*fidelity]} compare with a reference; set evaluate.reference to one of {[*built.networks]}, or"
            " evaluate.pairs to some ('network:reference', ...)"
        )
    if final and spec["pairs"] and not fidelity and not built.saliency:
        known = metrics.TOKEN_METRICS if built.per_token else metrics.METRICS
        able = [name for name, metric in known.items() if metric.needs_reference]
        raise UserError(f"evaluate.pairs compares nothing; name some of {able} in evaluate.metrics")
    by_class = [name for name, metric in fidelity.items() if metric.same_classes]
    compared = [(name, built.reference) for name in built.measured if built.reference] + built.pairs
    for pair in compared if by_class else ():
        counts = [built.classes_of(name) for name in pair]
        if counts[0] != counts[1]:
            raise UserError(
                f"stage {built.name!r}: metrics {by_class} compare {pair[0]!r} of {counts[0]} classes with {pair[1]!r}"
                f" of {counts[1]}, which must be the same; leave one of the two out of evaluate.networks and"
                " evaluate.pairs, name another evaluate.reference, or leave out those metrics"
            )
