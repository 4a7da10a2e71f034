"""Images that nobody took: noise to ask a teacher about, each a function of its index alone.

Nayak, Mopuri, Chakraborty, "Effectiveness of Arbitrary Transfer Sets for Data-free Knowledge Distillation", WACV 2021,
https://arxiv.org/abs/2011.09113, distil on random noise, among other sets that the teacher has never seen.
"""

import dataclasses

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Split
from jaxdistill.errors import UserError, check_least, unknown

KINDS = ("uniform", "gaussian", "shuffled")
"""Each value by itself: uniform in [0, 1], or N(1/2, 1/4) clipped to it; or the pixels of an image in another order."""


@dataclasses.dataclass(frozen=True)
class Noise(Split):
    """`count` unlabelled images uint8 `[*shape]` of one of `KINDS`, drawn from `(seed, index)`.

    `of` is the split whose images are shuffled, each as often as the others; they keep its type.
    """

    shape: tuple[int, int, int]
    count: int
    kind: str = "uniform"
    seed: int = 0
    of: Split | None = None

    def __post_init__(self):
        check_least("noise.count", self.count, 1)
        check_least("noise.seed", self.seed, 0)
        if self.kind not in KINDS:
            raise unknown("kind of noise", self.kind, KINDS)
        if self.kind == "shuffled" and self.of is None:
            raise UserError(
                "noise.kind='shuffled' shuffles the pixels of a set's images; mix it into that set, as"
                " data.mix.noise=dict(name='noise', noise=dict(kind='shuffled')), with data.weight=0 for it alone"
            )

    def __len__(self):
        return self.count

    def take(self, places):
        generators = [np.random.default_rng([self.seed, int(place)]) for place in places]
        if self.kind == "shuffled":
            images = self.of.take(np.asarray(places) % len(self.of))["image"]
            pairs = zip(generators, images, strict=True)
            image = [g.permutation(x.reshape(-1, x.shape[-1])).reshape(x.shape) for g, x in pairs]
        elif self.kind == "uniform":
            image = [g.integers(0, 256, self.shape, np.uint8) for g in generators]
        else:
            image = [np.round(255 * np.clip(g.normal(1 / 2, 1 / 4, self.shape), 0, 1)) for g in generators]
        image = np.stack(image)
        return {
            "image": image if self.kind == "shuffled" else image.astype(np.uint8),
            "label": np.full(len(places), UNLABELLED, np.int32),
        }

    def labels(self):
        return np.full(self.count, UNLABELLED, np.int32)
