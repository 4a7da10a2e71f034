"""A task: image classification in which images of low contrast do not count."""

import dataclasses

import jax.numpy as jnp

from jaxdistill.core import Batch
from jaxdistill.tasks.image_classification import ImageClassification


@dataclasses.dataclass(frozen=True)
class Legible(ImageClassification):
    """`valid` is 0 for an image whose standardised pixels deviate by less than 0.5 from their mean."""

    def align(self, batch: Batch) -> Batch:
        batch = super().align(batch)
        contrast = jnp.std(batch["image"], axis=(1, 2, 3))
        return {**batch, "valid": batch["valid"] * (contrast >= 0.5)}
