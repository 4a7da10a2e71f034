"""Images of noise for label-free distillation, each a function of its index alone.

Nayak, Mopuri, Chakraborty, "Effectiveness of Arbitrary Transfer Sets for Data-free Knowledge Distillation", WACV 2021,
https://arxiv.org/abs/2011.09113, distil on random noise, among other sets that the teacher has never seen.
"""

import dataclasses

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Split
from jaxdistill.errors import UserError, check_least, unknown

KINDS = ("uniform", "gaussian", "shuffled")
"""Independent values, uniform in [0, 1] or N(1/2, 1/4) clipped to it; or the pixels of an image in another order."""


@dataclasses.dataclass(frozen=True)
class Noise(Split):
    """`count` unlabelled images uint8 `[*shape]` of one of `KINDS`, drawn from `(seed, index)`.

    `source` is the split whose images are shuffled, each as often as the others; they keep its type.
    """

    shape: tuple[int, int, int]
    count: int
    kind: str = "uniform"
    seed: int = 0
    source: Split | None = None

    def __post_init__(self) -> None:
        check_least("noise.count", self.count, 1)
        check_least("noise.seed", self.seed, 0)
        if self.kind not in KINDS:
            raise unknown("noise.kind", self.kind, KINDS, "a kind of noise")
        if self.kind == "shuffled" and self.source is None:
            raise UserError(
                "noise.kind='shuffled' shuffles the pixels of a set's images; mix it into that set, as"
                " data.mix.noise=dict(name='noise', noise=dict(kind='shuffled')), with data.weight=0 for it alone"
            )

    def __len__(self) -> int:
        return self.count

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        generators = [np.random.default_rng([self.seed, int(position)]) for position in positions]
        label = np.full(len(positions), UNLABELLED, np.int32)
        if self.source is not None and self.kind == "shuffled":
            images = self.source.take(np.asarray(positions) % len(self.source))["image"]
            pairs = zip(generators, images, strict=True)
            shuffled = [g.permutation(x.reshape(-1, x.shape[-1])).reshape(x.shape) for g, x in pairs]
            return {"image": np.stack(shuffled), "label": label}
        if self.kind == "uniform":
            image = [g.integers(0, 256, self.shape, np.uint8) for g in generators]
        else:
            image = [np.round(255 * np.clip(g.normal(1 / 2, 1 / 4, self.shape), 0, 1)) for g in generators]
        return {"image": np.stack(image).astype(np.uint8), "label": label}

    def labels(self) -> np.ndarray:
        return np.full(self.count, UNLABELLED, np.int32)
