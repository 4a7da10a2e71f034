"""Datasets: splits by role, each a number of examples that are taken by their positions.

An example is an image, a text or a row of a table. Images are `[n, height, width, channels]`, uint8, or float32 in
[0, 1] from an `.npz` of floats. Texts are `tokens` int32 `[n, length]`, with further fields of tokens. Rows of tables
are `features`, float32 `[n, width]`. Labels are int32 `[n]`, `core.UNLABELLED` if hidden or missing. Examples with
several labels have `labels`, float32 `[n, classes]`, 1 or 0, and those with numbers to be predicted `target`, float32
`[n, targets]`, standardised. NaN is a missing one, and `label` is 0, or `core.UNLABELLED` if all are hidden or missing.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jaxdistill.config.schema import DataConfig, MemberConfig
from jaxdistill.errors import UserError, unknown

if TYPE_CHECKING:
    from jaxdistill.data.tables.featurizer import Featurizer

CHUNK = 256
"""Number of examples decoded at once: TFDS reads groups about twice as fast as single examples."""


class Split(Protocol):
    """Examples by position, 0 to `len(split) - 1`.

    An example also has an `index`, its position in the `base` that the split is part of. Memories and caches keep
    values under that number, whichever part of the data an example is sampled from.
    """

    def __len__(self) -> int: ...

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the fields of some examples, such as `image` `[n, height, width, channels]` and `label` `[n]`."""
        ...

    def labels(self) -> np.ndarray:
        """Returns every label, int32 `[len(self)]`, without decoding an image."""
        ...

    @property
    def base(self) -> "Split":
        """The split that this one is part of; by default itself."""
        return self

    def index(self, positions: np.ndarray) -> np.ndarray:
        """Returns the positions in the base of the examples at `positions`, int32."""
        return np.asarray(positions, np.int32)

    @property
    def token_counts(self) -> np.ndarray | None:
        """The number of tokens of each text, int32 `[len(self)]`; `None` if examples are of one size."""
        return None

    @property
    def is_mapped(self) -> bool:
        """Whether examples are too large for memory and are read from a file as they are used (`data.spilled`)."""
        return False


def take_arrays(arrays: Mapping[str, np.ndarray], positions: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the rows of arrays at `positions`."""
    return {name: array[positions] for name, array in arrays.items()}


@dataclasses.dataclass(frozen=True)
class Arrays(Split):
    """A split in memory; `supervision` is the `labels` or `target` of the examples, by name."""

    image: np.ndarray
    label: np.ndarray
    supervision: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        taken = {"image": self.image[positions], "label": self.label[positions]}
        return taken | take_arrays(self.supervision, positions)

    def labels(self) -> np.ndarray:
        return self.label


@dataclasses.dataclass(frozen=True)
class Target:
    """A number to be predicted, standardised by the training split.

    Attributes:
        name: of its column.
        mean: that was subtracted.
        scale: that it was divided by.
    """

    name: str
    mean: float
    scale: float


TARGET_CLASS = "0"
"""The only class of examples with targets: an example without a label has missing or hidden targets."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Splits by role (`train`, `validation`, `test`) and their common properties.

    Attributes:
        class_names: of the labels; none without labels.
        shape: of an image, `(height, width, channels)`, of a text, `(length,)`, or of features, `(width,)`.
        vocabulary: of texts, the number of tokens; 0 of images.
        of_bytes: whether a token is a byte of a text.
        name: as a config names it; "" if it has none.
        tokenizer: a name of the tokenizer of texts, such as "bytes"; "" if it is not given.
        mask_token: the token of that tokenizer that stands for a hidden one; -1 if it has none.
        teacher_tokenizer, teacher_vocabulary: name and vocabulary of the tokenizer of `teacher_tokens`.
        featurizer: the fitted transforms of a table; `None` for images and texts.
        is_sparse: whether its features are sparse until they are taken.
        targets: the numbers to be predicted, in the order of `target`; none for labels.
        keys: keys of a `data` section that its reader takes, beside those of its kind of examples.
        cut_texts: the numbers of texts that lose tokens to `length`, and of all, by role; empty if not counted.
        token_map: for each token of the student the one of the teacher of the same bytes, int32 `[vocabulary]`, -1 for
            none; `None` without spans.
        routes: the values of the column `data.route`, in the order of the numbers that examples have for them.
    """

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    vocabulary: int = 0
    of_bytes: bool = False
    name: str = ""
    tokenizer: str = ""
    mask_token: int = -1
    teacher_tokenizer: str = ""
    teacher_vocabulary: int = 0
    featurizer: "Featurizer | None" = None
    is_sparse: bool = False
    targets: tuple[Target, ...] = ()
    keys: tuple[str, ...] = ()
    cut_texts: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    token_map: np.ndarray | None = None
    routes: tuple[str, ...] = ()

    @property
    def target_units(self) -> str:
        """The units that targets are standardised in, by name; "" without targets."""
        return ", ".join(f"{x.name} ({x.mean:.6g} + {x.scale:.6g} y)" for x in self.targets)

    @property
    def classes(self) -> int:
        """Number of classes of the labels; of texts without labels, the number of tokens."""
        return len(self.class_names) or self.vocabulary

    @functools.cached_property
    def fields(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and dtype of each field of an example."""
        example = self.split("train").take(np.arange(1))
        return {name: (array.shape[1:], array.dtype) for name, array in example.items()}

    @property
    def example_bytes(self) -> int:
        """Bytes of an example on the device, without its label."""
        if {*self.fields} == {"image", "label"}:
            return math.prod(self.shape)
        fields = [field for name, field in self.fields.items() if name != "label"]
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in fields)

    def split(self, role: str) -> Split:
        """Returns the split of a role, or raises `UserError` with the existing roles."""
        if role not in self.splits:
            raise unknown("split", role, self.splits)
        return self.splits[role]


@dataclasses.dataclass(frozen=True)
class NoiseSettings:
    """Settings of the dataset "noise"; its attributes are those of `config.schema.NoiseConfig`."""

    kind: str = "uniform"
    count: int = 50_000
    seed: int = 0
    classes: int = 0


@dataclasses.dataclass(frozen=True)
class DenseSettings:
    """Settings of masks and boxes.

    Attributes:
        annotations: "masks" or "boxes", of a dataset that has both.
        width: that images are resized to if `size` is their height; 0 for the same.
        class_names: of masks, in the order of their values without `void`; numbers if empty.
        void: values of masks that are of no class.
        boxes: number of rows for the boxes of an image; 0 for the largest number of them.
    """

    annotations: str = ""
    width: int = 0
    class_names: tuple[str, ...] = ()
    void: tuple[int, ...] = (255,)
    boxes: int = 0

    def check_no_void(self, name: str) -> None:
        """Raises `UserError` if void is set for a dataset, of this name, whose masks are drawn."""
        if self.void != DenseSettings.void:
            raise UserError(
                f"data.void must be {DenseSettings.void} for {name!r}, whose masks are drawn, got"
                f" {self.void}. Remove it"
            )


@dataclasses.dataclass(frozen=True)
class AnswerSettings:
    """Settings of texts with answers; its attributes are keys of `config.schema.DataConfig`."""

    answer: str = ""
    messages: str = ""
    template: str = ""
    end: str = ""
    teacher_text: str = ""
    spans: bool = False


@dataclasses.dataclass(frozen=True)
class DatasetSettings:
    """Settings that determine a dataset, hashable; `datasets.load` describes them.

    Attributes:
        splits: pairs `(role, split)`; none for the dataset's own.
        split_seed: by which rows are put in order before parts are taken; -1 for their own order.
    """

    name: str
    data_dir: str = ""
    path: str = ""
    splits: tuple[tuple[str, str], ...] = ()
    size: int = 0
    channels: int = 0
    length: int = 0
    text: str = ""
    pair: str = ""
    label: str = ""
    tokenizer: str = ""
    teacher_tokenizer: str = ""
    noise: NoiseSettings = NoiseSettings()
    target: str = ""
    labels: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    featurizer: str = ""
    dense: DenseSettings = DenseSettings()
    answers: AnswerSettings = AnswerSettings()
    packing: bool = False
    image: str = ""
    route: str = ""
    split_seed: int = -1

    @classmethod
    def of(cls, section: DataConfig | MemberConfig, length: int = 0) -> "DatasetSettings":
        """Returns the settings of a section of a config."""
        splits = {role: getattr(section.splits, role) for role in ("train", "validation", "test")}
        noise = section.noise
        return cls(
            name=section.name,
            data_dir=section.data_dir,
            path=section.path,
            splits=tuple(splits.items()) if any(splits.values()) else (),
            split_seed=section.splits.seed,
            size=section.size,
            channels=section.channels,
            length=length,
            noise=NoiseSettings(noise.kind, noise.count, noise.seed, noise.classes),
            **(_rows_settings(section) if isinstance(section, DataConfig) else {}),
        )

    def check_no_images(self) -> None:
        """Raises `UserError` if a size or channels are set for a dataset that has no images."""
        if self.size or self.channels or self.length:
            raise UserError(
                f"data.size, data.channels and data.length must be left out for {self.name!r}, which is a table, got"
                f" {self.size}, {self.channels} and {self.length}"
            )

    def check_no_splits(self) -> None:
        """Raises `UserError` if splits are set for a dataset that has its own."""
        named = {role: split for role, split in self.splits if split}
        if named:
            raise UserError(
                f"data.splits must be left out for {self.name!r}, which has its own, got {named}. They are"
                " for datasets of TFDS, 'images', 'table', 'text', 'text_rows', 'answers', 'coco' and 'voc'"
            )

    def check_no_path(self) -> None:
        """Raises `UserError` if a file is set for a dataset that reads none."""
        if self.path:
            raise UserError(
                f"data.path must be left out for {self.name!r}, which reads no file, got {self.path!r}. It is the file"
                " of 'npz', 'images', 'table', 'text', 'text_rows' or 'answers', or the folder of 'coco' or 'voc'"
            )

    def check_no_folder(self) -> None:
        """Raises `UserError` if the folder of TFDS is set for another dataset."""
        if self.data_dir:
            raise UserError(
                f"data.data_dir must be left out for {self.name!r}, got {self.data_dir!r}. It is the folder of datasets"
                " of TFDS; a file is named by data.path"
            )


def _rows_settings(section: DataConfig) -> dict[str, Any]:
    """Returns the settings of texts, of tables and of dense labels."""
    keys = ("text", "pair", "label", "tokenizer", "teacher_tokenizer", "target", "featurizer", "packing", "image")
    keys += ("route",)
    lists = {key: tuple(getattr(section, key)) for key in ("columns", "transforms", "labels", "targets")}
    dense = DenseSettings(
        section.annotations, section.width, class_names=section.class_names, void=section.void, boxes=section.boxes
    )
    answers = AnswerSettings(
        **{field.name: getattr(section, field.name) for field in dataclasses.fields(AnswerSettings)}
    )
    return lists | {key: getattr(section, key) for key in keys} | {"dense": dense, "answers": answers}


def check_finite(image: np.ndarray, indices: np.ndarray, path: str) -> None:
    """Raises `UserError` naming the first example that holds a NaN or an infinity."""
    bad = ~np.isfinite(image).all(axis=tuple(range(1, image.ndim)))
    if bad.any():
        raise UserError(
            f"{path} is not finite in {bad.sum()} of {len(bad)} examples, the first at index"
            f" {indices[np.flatnonzero(bad)[0]]}; clean the data, NaN would spread to every weight"
        )
