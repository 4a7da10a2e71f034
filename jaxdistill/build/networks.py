"""The cast of a stage: from the config's entries to sources and terms."""

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxdistill import networks as sources
from jaxdistill.config import registry
from jaxdistill.config.toposort import in_order
from jaxdistill.core import Term
from jaxdistill.data.output_cache import Cache
from jaxdistill.errors import UserError, check_kind, check_least, check_names, unknown
from jaxdistill.modules import heads
from jaxdistill.networks.cached import TAILS
from jaxdistill.networks.ensemble import WEIGHTINGS
from jaxdistill.networks.preprocess import ImageSpec
from jaxdistill.networks.trained import QUANTIZATIONS
from jaxdistill.tasks import Task
from jaxdistill.train import optim


@dataclasses.dataclass(frozen=True)
class Data:
    """What networks need to know of a stage's data.

    Attributes:
        classes: how many.
        look: shape and standardisation of its images; `None` of texts.
        name: of the set, as the config has it.
        input: the field of a batch that networks take by default.
        vocabulary: of texts, the number of tokens.
        task: checks models; `None` for no check.
        made_for: the images that networks with weights were trained on, by name.
        caches: what cached networks read, by name.
    """

    classes: int
    look: ImageSpec | None
    name: str = ""
    input: str = "image"
    vocabulary: int = 0
    task: Task | None = None
    made_for: Mapping[str, ImageSpec] = dataclasses.field(default_factory=dict)
    caches: Mapping[str, Cache] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, made_for: Mapping[str, ImageSpec], caches: Mapping[str, Cache]) -> "Data":
        """Returns the data of a task."""
        return cls(
            classes=task.num_classes,
            look=task.image_spec,
            name=task.dataset.name,
            input=task.inputs[0],
            vocabulary=task.dataset.vocabulary,
            task=task,
            made_for=made_for,
            caches=caches,
        )


def networks(specs: Mapping[str, Mapping[str, Any]], data: Data) -> dict[str, sources.Source]:
    """Makes the sources that entries name, each after those it needs.

    A network with weights looks at the images as the data was standardised and shaped that it was trained on.

    Raises:
        UserError: for a source, a model or a key that is not there, or a setting that makes no sense.
    """
    if not specs:
        raise UserError("no networks are named; add networks.student=dict(source='trained', model=...)")
    for name, spec in specs.items():
        check_kind(f"network {name!r}", spec, {})
    leaders = {name: _leaders(name, spec) for name, spec in specs.items()}
    made: dict[str, sources.Source] = {}
    for name in in_order("network", leaders):
        made[name] = _network(name, dict(specs[name]), made, data)
    return made


def _leaders(name: str, spec: Mapping[str, Any]) -> list[str]:
    of, several = spec.get("of", ()), spec.get("source") == "ensemble"
    beside = [spec.get("teacher", "teacher")] if spec.get("source") == "reused_classifier" else []
    if several and (isinstance(of, str) or not of):
        raise UserError(f"network {name!r}: an ensemble is of several networks, of=('a', 'b'); got of={of!r}")
    if not several and not isinstance(of, str) and of != ():
        raise UserError(f"network {name!r}: of={of!r} is not the name of a network")
    return [of, *beside] if isinstance(of, str) else list(of)


def _network(name: str, spec: dict[str, Any], made: Mapping[str, Any], data: Data) -> sources.Source:
    kind = spec.pop("source", "trained")
    weights = spec.pop("weights", "")
    if weights is not None:
        check_kind(f"network {name!r}: weights", weights, "")
    if kind not in SOURCES:
        raise unknown(f"source for network {name!r}", kind, SOURCES)
    if kind == "frozen" and not weights:
        raise UserError(
            f"network {name!r} is frozen and has no weights, so it would speak at random; set weights='stage:NAME',"
            " or the folder of a stage of another run"
        )
    make, keys = SOURCES[kind]
    if keys is not None:
        check_names(f"network {name!r}: key", spec, keys)
        missing = [key for key in keys[: KEYS_NEEDED[kind]] if key not in spec]
        if missing:
            raise UserError(f"network {name!r} with source={kind!r} needs {missing}; it takes {list(keys)}")
    return make(name, spec, made, data)


OF_A_NETWORK = ("model", "dtype", "classes", "input", "preprocess", "sharding", "offload", "fold", "quantize")
"""What an entry says beside the fields of its model."""


def _module(name: str, spec: dict[str, Any], data: Data):
    if "model" not in spec:
        raise UserError(f"network {name!r} names no model; there are {registry.names('model')}")
    own = {key: value for key, value in spec.items() if key not in OF_A_NETWORK}
    check_kind(f"network {name!r}: classes", spec.get("classes", 0), 0)
    check_kind(f"network {name!r}: sharding", spec.get("sharding", ()), ())
    member = registry.find("model", spec["model"])
    # The classes of a model of texts without a field `vocabulary` are the tokens.
    over_tokens = getattr(member, "inputs", ("image",))[0] == "tokens" and "vocabulary" not in registry.fields(member)
    wanted = spec.get("classes", 0) or (data.vocabulary if over_tokens else 0) or data.classes
    if not wanted:
        raise UserError(
            f"networks.{name}.classes must be set, got 0. {data.name!r} has no labels whose classes could be counted."
        )
    module = registry.make(
        "model", spec["model"], own, classes=wanted, dtype=registry.dtype(spec.get("dtype", "float32"))
    )
    if data.task:
        models = {option: registry.find("model", option) for option in registry.names("model")}
        data.task.check_model(name, spec["model"], module, models)
    return module, spec.get("input", data.input), _preprocess(name, spec, data)


def _preprocess(name: str, spec: Mapping[str, Any], data: Data):
    """What the network does to images first: what its entry says, else what fits them to those it was trained on."""
    if data.look is None:
        if spec.get("preprocess"):
            raise UserError(f"network {name!r}: preprocess is of images, and {data.name!r} has texts; leave it out")
        return None
    given, made_for = spec.get("preprocess", {}), data.made_for.get(name, data.look)
    check_kind(f"network {name!r}: preprocess", given, {})
    check_names(f"network {name!r}: key of preprocess", given, ("size", "channels", "mean", "std"))
    size, channels = given.get("size", 0), given.get("channels", 0)
    check_kind(f"network {name!r}: preprocess.size", size, 0)
    check_kind(f"network {name!r}: preprocess.channels", channels, 0)
    check_least(f"network {name!r}: preprocess.size", size, 0)
    check_least(f"network {name!r}: preprocess.channels", channels, 0)
    for key in ("mean", "std"):
        check_kind(f"network {name!r}: preprocess.{key}", given.get(key, ()), ())
        for number in given.get(key, ()):
            check_kind(f"network {name!r}: a number of preprocess.{key}", number, 0.5)
    shape = (*((size, size) if size else made_for.shape[:2]), channels or made_for.shape[-1])
    if channels and channels != made_for.shape[-1] and not {"mean", "std"} <= given.keys():
        raise UserError(f"network {name!r}: preprocess.channels={channels} needs mean and std of as many numbers")
    mean, std = (tuple(map(float, given.get(key, getattr(made_for, key)))) for key in ("mean", "std"))
    if not len(mean) == len(std) == shape[-1] or min(std) <= 0 or not all(map(math.isfinite, (*mean, *std))):
        raise UserError(
            f"network {name!r}: preprocess.mean={mean} and std={std}; give {shape[-1]} numbers each, std above 0"
        )
    try:
        return sources.preprocess(data.look, ImageSpec(shape, mean, std))
    except UserError as error:
        raise UserError(f"network {name!r}: {error}") from error


def _trained(name, spec, made, data):
    if spec.get("offload", False):
        raise UserError(
            f"network {name!r} learns, and only one with source='frozen' can be offloaded to the host's memory; set"
            f" networks.{name}.offload=False in this stage"
        )
    return sources.Trained(*_module(name, spec, data))


def _frozen(name, spec, made, data):
    offload, fold, quantize = spec.get("offload", False), spec.get("fold", True), spec.get("quantize", "")
    check_kind(f"network {name!r}: offload", offload, False)
    check_kind(f"network {name!r}: fold", fold, True)
    if quantize not in QUANTIZATIONS:
        raise unknown(f"quantization of network {name!r}", quantize, QUANTIZATIONS)
    return sources.Frozen(*_module(name, spec, data), offload, fold, quantize)


def _function(name, spec, made, data):
    factory, settings = spec["factory"], spec.get("settings", {})
    check_kind(f"network {name!r}: factory", factory, "")
    check_kind(f"network {name!r}: settings", settings, {})
    module, _, attribute = factory.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)(**settings)
    except Exception as error:  # another's code may raise anything
        raise UserError(
            f"network {name!r}: factory={factory!r} with {dict(settings)} gives no teacher"
            f" ({type(error).__name__}: {error}); it is 'package.module:factory', importable from here, and returns a"
            " function of images or an nnx.Module"
        ) from error
    more = {"input": spec.get("input", data.input), "preprocess": _preprocess(name, spec, data)}
    if any(member.__module__.startswith("flax.nnx") for member in type(function).__mro__):
        return sources.Function.of_nnx(function, **more)
    if not callable(function):
        raise UserError(f"network {name!r}: {factory} returns {function!r}, which is no function and no nnx.Module")
    return sources.Function(function, **more)


def _leader(name: str, of: str, made: Mapping[str, Any]) -> sources.Trained:
    if not isinstance(made[of], sources.Trained):
        raise UserError(f"network {name!r} follows {of!r}, which has no weights of its own")
    return made[of]


def _moving(name: str, of: str, made: Mapping[str, Any]) -> sources.Trained:
    if made[of].frozen:
        raise UserError(f"network {name!r} follows {of!r}, which is frozen and never moves; name one that learns")
    return _leader(name, of, made)


def _head(name, spec, made, data):
    head, own = spec.get("head", "linear"), {}
    if head not in HEADS:
        raise unknown(f"head for network {name!r}", head, HEADS)
    make, settings = HEADS[head]
    check_names(f"network {name!r} with head {head!r}: key", spec, ["of", "tap", "head", "frozen", *settings])
    for key, default in settings.items():
        own[key] = spec.get(key, default)
        check_kind(f"network {name!r}: {key}", own[key], default)
    frozen = spec.get("frozen", head == "pca")
    check_kind(f"network {name!r}: frozen", frozen, True)
    return sources.Head(spec["of"], spec["tap"], make(data.classes, **own), frozen)


def _pca(classes, components):
    check_least("components", components, 1)
    return heads.PCA(components)


def _paraphraser(classes, fraction, norm):
    if not fraction > 0:
        raise UserError(f"fraction={fraction} makes no sense; a factor has some channels for those of the tap: > 0")
    return heads.Paraphraser(fraction, norm)


HEADS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "linear": (lambda classes, dtype: heads.Linear(classes, registry.dtype(dtype)), {"dtype": "float32"}),
    "none": (lambda classes: None, {}),
    "pca": (_pca, {"components": 16}),
    "paraphraser": (_paraphraser, {"fraction": 0.5, "norm": False}),
}
"""head -> how to make it from the number of classes and its keys, and these with their defaults."""


def _reused_classifier(name, spec, made, data):
    teacher = spec.get("teacher", "teacher")
    check_names(f"network for network {name!r}, teacher", [teacher], made)
    tap = spec.get("tap", "stage3")
    return sources.ReusedClassifier(spec["of"], tap, teacher, spec.get("teacher_tap", tap), heads.Projector)


def _derivative(name, spec, made, data):
    mode, defaults = spec.get("mode", "jvp"), {"directions": 1, "step": 1e-2, "seed": 0}
    if mode not in ("vjp", "jvp", "difference"):
        raise unknown(f"mode of differentiation for network {name!r}", mode, ("vjp", "jvp", "difference"))
    own = {key: spec.get(key, default) for key, default in defaults.items()}
    for key, default in defaults.items():
        check_kind(f"network {name!r}: {key}", own[key], default)
    check_least(f"network {name!r}: directions", own["directions"], 1)
    if not own["step"] > 0:
        raise UserError(f"network {name!r}: step={own['step']} makes no sense; it is greater than 0")
    leader = _leader(name, spec["of"], made)
    if mode == "difference" and getattr(leader, "is_narrow", False):
        raise UserError(
            f"network {name!r} takes differences of {spec['of']!r}, which speaks in bfloat16 or int8: they would be"
            " those of its rounding; take mode='jvp', or that network in float32"
        )
    return sources.Derivative(leader, spec["of"], mode, **own)


def _ema(name, spec, made, data):
    decay = spec.get("decay", 0.999)
    check_kind(f"network {name!r}: decay", decay, 0.999)
    if not 0 <= decay <= 1:
        raise UserError(f"network {name!r}: decay={decay} makes no sense; it is between 0 and 1")
    return sources.Ema(_moving(name, spec["of"], made), spec["of"], decay)


def _delayed(name, spec, made, data):
    every = spec.get("every", 50)
    check_kind(f"network {name!r}: every", every, 50)
    check_least(f"network {name!r}: every", every, 1)
    return sources.Delayed(_moving(name, spec["of"], made), spec["of"], every)


def _ensemble(name, spec, made, data):
    average, weighting = spec.get("average", "probabilities"), spec.get("weighting", "")
    weights, of = spec.get("member_weights", ()), tuple(spec["of"])
    check_kind(f"network {name!r}: member_weights", weights, ())
    for weight in weights:
        check_kind(f"network {name!r}: a weight of member_weights", weight, 1.0)
    if average not in ("probabilities", "logits"):
        raise unknown(f"average for network {name!r}", average, ("probabilities", "logits"))
    if weighting not in WEIGHTINGS:
        raise unknown(f"weighting for network {name!r}", weighting, WEIGHTINGS)
    if weights and not (len(weights) == len(of) and min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise UserError(f"network {name!r}: member_weights={weights}; give {len(of)} of 0 or more, not all 0")
    return sources.Ensemble(of, average, weighting, tuple(weights))


def _cached(name, spec, made, data):
    tail = spec.get("tail", "uniform")
    if tail not in TAILS:
        raise unknown(f"tail of a top-k for network {name!r}", tail, TAILS)
    check_kind(f"network {name!r}: teacher", spec.get("teacher", ""), "")
    return sources.Cached(name, data.caches[name].header.classes, tail)


SOURCES: dict[str, tuple[Callable[..., sources.Source], tuple[str, ...] | None]] = {
    "trained": (_trained, None),
    "frozen": (_frozen, None),
    "function": (_function, ("factory", "settings", "input", "preprocess")),
    "cached": (_cached, ("cache", "tail", "teacher")),
    "ema": (_ema, ("of", "decay")),
    "delayed": (_delayed, ("of", "every")),
    "ensemble": (_ensemble, ("of", "average", "weighting", "member_weights")),
    "head": (_head, ("of", "tap", "head", "frozen", *dict.fromkeys(key for _, own in HEADS.values() for key in own))),
    "derivative": (_derivative, ("of", "mode", "directions", "step", "seed")),
    "reused_classifier": (_reused_classifier, ("of", "tap", "teacher", "teacher_tap")),
    "shared": (
        lambda n, spec, made, _: sources.Shared(_leader(n, spec["of"], made), spec["of"], spec.get("input", "image2")),
        ("of", "input"),
    ),
}
"""source -> how to make it, and its keys; `None` for those whose keys are their model's."""

KEYS_NEEDED = {
    "cached": 1,
    "delayed": 1,
    "derivative": 1,
    "ema": 1,
    "ensemble": 1,
    "function": 1,
    "head": 2,
    "reused_classifier": 1,
    "shared": 1,
}


def term(name: str, spec: Mapping[str, Any], steps: int, cast: Mapping[str, sources.Source]) -> Term:
    """Makes a term; `steps` is the length of the run, for its weight's schedule.

    Raises:
        UserError: for a method, a network or a key that is not there, or a setting that makes no sense.
    """
    check_kind(f"term {name!r}", spec, {})
    spec = dict(spec)
    if "method" not in spec:
        raise UserError(f"term {name!r} names no method; there are {registry.names('method')}")
    method = registry.find("method", spec.pop("method"))
    student, weight = spec.pop("student", "student"), spec.pop("weight", 1.0)
    teacher = spec.pop("teacher", "teacher" if method.needs_teacher else "") or None
    check_names(f"network for term {name!r}, student", [student], cast)
    if method.needs_teacher and teacher is None:
        raise UserError(f"term {name!r} needs a teacher; there are {list(cast)}")
    check_names(f"network for term {name!r}, teacher", [teacher] if teacher else [], cast)
    if student == teacher:
        raise UserError(f"term {name!r}: {student!r} cannot be its own teacher; there are {list(cast)}")
    kind = method.__module__.rpartition(".")[2]
    schedules = _schedules(name, registry.fields(method), spec, steps)
    moments = {step for key in schedules for step in optim.moments(spec[key], steps)} | {0}
    try:
        for now in sorted(moments, reverse=True):
            values = {key: float(schedule(now)) for key, schedule in schedules.items()}
            made = registry.make("method", kind, spec | values)
            made.check()
    except UserError as error:
        raise UserError(f"term {name!r}: {error}") from error
    return Term(made, student, teacher, optim.schedule(weight, steps, f"term {name!r}: weight"), schedules)


def _schedules(term: str, fields: Mapping[str, Any], spec: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The fields of a method that change from step to step: numbers that are given as sections."""
    numbers = [key for key, default in fields.items() if isinstance(default, float)]
    changing = [key for key, value in spec.items() if isinstance(value, Mapping) and key in numbers]
    return {key: optim.schedule(spec[key], steps, f"term {term!r}: {key}") for key in changing}
