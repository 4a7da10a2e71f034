"""Networks of a stage as functions of raw inputs."""

import dataclasses

from jaxdistill.build.networks import data_class_names
from jaxdistill.build.stage import Stage
from jaxdistill.data.packing import DOCUMENT
from jaxdistill.data.tokenized_texts import TEACHER
from jaxdistill.errors import UserError
from jaxdistill.export.predictor import Predictor
from jaxdistill.export.signature import BYTES, Input, Signature
from jaxdistill.networks import Frozen, Trained
from jaxdistill.networks.model import inputs_of
from jaxdistill.networks.trained import RunsModuleOf


def make_predictor(stage: Stage, name: str) -> Predictor:
    """Returns a network of a stage as a function of the raw inputs of its data.

    Raises:
        UserError: for a network without a model of its own.
    """
    source = stage.networks[name]
    config = stage.settings.networks[name]
    if isinstance(source, RunsModuleOf):
        config, source = stage.settings.networks[source.of], source.network
    if not isinstance(source, Trained):
        kind = type(source).__name__.lower()
        raise UserError(f"network must be one with a model of its own, got {name!r}, a {kind}. Name another")
    dataset, task, data = stage.data.dataset, stage.data.task, stage.settings.data
    prefix = TEACHER if source.input.startswith(TEACHER) else ""
    main = task.inputs[0]
    others = [field for field in inputs_of(source.module)[1:] if field != DOCUMENT]  # a raw input is one text
    names = [main, *(field for field in others if prefix + field in dataset.fields)]
    shapes = {field: dataset.fields[prefix + field] for field in names}
    tokenizer = data.teacher_tokenizer if prefix else data.tokenizer
    signature = Signature(
        inputs={field: Input(tuple(shape), dtype.name) for field, (shape, dtype) in shapes.items()},
        predictions=task.predictions,
        class_names=source.class_names or data_class_names(task),
        tokenizer=tokenizer or (BYTES if dataset.of_bytes else ""),
        featurizer=dataset.featurizer,
        targets=dataset.targets,
    )
    fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(Trained)}
    frozen = Frozen(**(fields | {"input": main}), quantize=getattr(source, "quantize", ""))
    return Predictor(
        name=name,
        model=config.options["model"],
        source=frozen,
        signature=signature,
        images=task.image_spec,
        compress=config.options["compress"],
    )
