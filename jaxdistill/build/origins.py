"""Origins of the weights that networks start from: a stage of the run that is built, or an existing checkpoint."""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import jax

from jaxdistill.build import lanes, weights
from jaxdistill.build.stage import Stage
from jaxdistill.build.weights import Place
from jaxdistill.compress.views import NO_VIEWS, Views, view_of
from jaxdistill.config import references
from jaxdistill.config.references import WeightsRef
from jaxdistill.data.tables.featurizer import FILE
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import ImageSpec, brought_variables
from jaxdistill.networks.meaning import Meaning
from jaxdistill.train.checkpoint import flatten_structs


class Origin(Protocol):
    """The origin of the weights of one network.

    Attributes:
        ref: the reference in the config.
    """

    ref: WeightsRef

    @property
    def image_spec(self) -> ImageSpec | None:
        """The images that the weights were trained on; `None` if that is not stored, or of texts."""

    @property
    def meaning(self) -> Meaning:
        """The classes and the tokenizer that the weights were trained on."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata of their checkpoint, by which `lanes` counts its lanes."""

    @property
    def views(self) -> set[str]:
        """The views whose arrays come with the weights."""

    def check(self, path: str, shapes: Mapping[str, Any], lane: int | None) -> None:
        """Raises `UserError` unless the weights have these shapes, and `lane` if the reference names none."""


@dataclasses.dataclass(frozen=True)
class StageOrigin:
    """A network of a stage of this run, which may not have run yet."""

    ref: WeightsRef
    stage: Stage
    network: str

    @property
    def image_spec(self) -> ImageSpec | None:
        return image_specs(self.stage).get(self.network)

    @property
    def meaning(self) -> Meaning:
        meaning = meanings(self.stage).get(self.network, Meaning())
        return meaning.without_classes() if self.ref.new_head else meaning

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.stage.runs.checkpoint_metadata

    @property
    def views(self) -> set[str]:
        template = self.stage.kind.template(self.stage, self.network)
        return {view_of(name) for name in flatten_structs(self.stage.shapes.variables[template])}

    def check(self, path: str, shapes: Mapping[str, Any], lane: int | None) -> None:
        saved = self.stage.kind.saved(self.stage)
        if self.network not in saved:
            raise unknown(f"trained network in stage {self.ref.stage!r}", self.network, saved)
        lanes.choose_lane(path, self.metadata, self.ref.lane, lane)
        template = self.stage.kind.template(self.stage, self.network)
        weights.check_same_shapes(path, self.stage.shapes.variables[template], shapes, self.ref)


@dataclasses.dataclass(frozen=True)
class StoredOrigin:
    """A network of an existing checkpoint, of which of several lanes the first stands for all, or in another format."""

    ref: WeightsRef
    checkpoint: Place

    @property
    def image_spec(self) -> ImageSpec | None:
        return self.checkpoint.image_spec

    @property
    def meaning(self) -> Meaning:
        return self.checkpoint.meaning

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.checkpoint.metadata

    @property
    def views(self) -> set[str]:
        return {*self.checkpoint.views}

    def check(self, path: str, shapes: Mapping[str, Any], lane: int | None) -> None:
        lanes.choose_lane(path, self.metadata, self.ref.lane, lane)
        self.checkpoint.check(shapes)


def find_origins(settings: Mapping[str, Any], stages: Mapping[str, Stage], workdir: pathlib.Path) -> dict[str, Origin]:
    """Returns the origins of the networks of a stage that start from weights.

    Args:
        settings: of the stage.
        stages: the stages before it.
        workdir: the folder of the run.

    Raises:
        UserError: for weights that do not exist.
    """
    origins: dict[str, Origin] = {}
    for name, refs in references.parse_networks(settings.networks).items():
        ref = refs.get("weights")
        if ref is None:
            continue
        if ref.stage:
            saved = stages[ref.stage].kind.saved(stages[ref.stage])
            only = saved[0] if len(saved) == 1 else name
            origins[name] = StageOrigin(ref, stages[ref.stage], ref.network or (name if name in saved else only))
        else:
            origins[name] = StoredOrigin(ref, weights.find(ref, name, workdir, lane=0))
    return origins


def check(stage: Stage, origins: Mapping[str, Origin]) -> None:
    """Raises `UserError` unless each network of a stage finds the weights that it must start from."""
    initialised = stage.kind.initialised(stage)
    for name in stage.settings.networks:
        shapes = stage.shapes.variables.get(name)
        if name in origins:
            if shapes is None:
                raise UserError(
                    f"stage {stage.name!r}: network {name!r} has no variables of its own; leave out its weights"
                )
            path = f"stage {stage.name!r}: {origins[name].ref} for network {name!r}"
            if origins[name].ref.new_head and not stage.kind.trains:
                raise UserError(
                    f"stage {stage.name!r}: networks.{name}.head must be '' where nothing is trained, got 'new', whose"
                    " outputs would be random. Set its weights to the stage that trained it, 'stage:NAME'"
                )
            origins[name].check(path, shapes, stage.runs.numbers_of(name)[0])
        elif shapes is not None and name not in {*initialised, *stage.data.caches} and not _brings(stage, name):
            raise UserError(f"stage {stage.name!r} does not train network {name!r}; set its weights, 'stage:NAME'")
        if stage.kind.trains or name in origins:
            _check_calibrated(stage, name, origins[name].views if name in origins else set())


def _brings(stage: Stage, name: str) -> bool:
    """Returns whether a network comes with its variables."""
    return bool(brought_variables(stage.networks[name]))


def _check_calibrated(stage: Stage, name: str, fitted: Collection[str]) -> None:
    """Raises `UserError` if a view of a network needs data, and no stage before has fitted it."""
    views: Views = getattr(stage.networks[name], "views", NO_VIEWS)
    for view in views.needing_data:
        if view not in fitted:
            raise UserError(
                f"networks.{name}.weights must be those of a stage of kind 'compress', or of one after it, in stage"
                f" {stage.name!r}, since compress.{view} needs data, got weights without it. Add such a stage, and set"
                " weights='stage:NAME'"
            )


def image_specs(stage: Stage) -> dict[str, ImageSpec]:
    """Returns the images that each network with a module gets, after its preprocessing; none for texts.

    Networks that the stage saves and does not have, such as a merged one, get those of their template.
    """
    spec = stage.data.task.image_spec
    if spec is None:
        return {}
    steps = {name: source.preprocess for name, source in stage.networks.items() if hasattr(source, "preprocess")}
    new = [name for name in stage.kind.saved(stage) if name not in stage.networks]
    steps |= {name: steps.get(stage.kind.template(stage, name)) for name in new}
    return {name: preprocess.wanted if preprocess else spec for name, preprocess in steps.items()}


def meanings(stage: Stage) -> dict[str, Meaning]:
    """Returns the classes and the tokenizer of each network that the stage saves, as `image_specs` does the images."""
    dataset, result = stage.data.dataset, {}
    for name in stage.kind.saved(stage):
        source = stage.networks.get(name, stage.networks.get(stage.kind.template(stage, name)))
        field = getattr(source, "input", "tokens")
        tokenizer = dataset.teacher_tokenizer if field == "teacher_tokens" else dataset.tokenizer
        featurizer = dataset.featurizer.digest() if dataset.featurizer else ""
        names = getattr(source, "module_class_names", ())
        result[name] = Meaning(names, tokenizer, featurizer, dataset.target_units)
    return result


def saved_metadata(stage: Stage) -> dict[str, Any]:
    """Returns what a checkpoint of a stage stores about its networks: their names, images, classes and tokenizers."""
    names = sorted(stage.kind.saved(stage))
    specs = {name: dataclasses.asdict(x) for name, x in image_specs(stage).items() if name in names}
    described = {name: dataclasses.asdict(x) for name, x in meanings(stage).items()}
    return {"stage": stage.name, "networks": names, "image_specs": specs, "meanings": described}


def save_featurizer(stage: Stage, folder: pathlib.Path) -> None:
    """Writes the fitted transforms of a stage's features into its folder, for those who read its checkpoints."""
    featurizer = stage.data.dataset.featurizer
    if featurizer is not None and jax.process_index() == 0:
        featurizer.save(folder / FILE)
