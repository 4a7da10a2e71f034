"""Settings of a stage as frozen dataclasses: each field has a default, a bound and one line of meaning."""

import dataclasses
from typing import Any

from jaxdistill.config import registry
from jaxdistill.config.durations import Steps, bare
from jaxdistill.config.members import NetworkConfig
from jaxdistill.config.parse import hints_of, option
from jaxdistill.config.sweep import SweepConfig


@dataclasses.dataclass(frozen=True)
class SplitsConfig:
    train: str = option("", "split of TFDS, part of a text, or file of rows, for training")
    validation: str = option("", "the same for validation")
    test: str = option("", "the same for testing")
    seed: int = option(
        -1, "seed by which rows are put in order before parts are taken; -1 for their own order", least=-1, below=2**32
    )


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    kind: str = option("uniform", "distribution of the pixels")
    count: int = option(50_000, "number of images")
    seed: int = option(0, "seed of the images")
    classes: int = option(0, "number of classes of the teacher, for noise alone")


@dataclasses.dataclass(frozen=True)
class PartitionConfig:
    of: int = option(1, "number of parts")
    part: int = option(0, "the part to train on")
    by: str = option("iid", "rule of the partition")
    concentration: float = option(0.5, "parameter of the Dirichlet partition")
    seed: int = option(0, "seed of the partition")


@dataclasses.dataclass(frozen=True)
class SubsetConfig:
    fraction: float = option(1.0, "fraction of the examples")
    count: int = option(0, "number of examples; 0 for all")
    seed: int = option(0, "seed of the choice")


@dataclasses.dataclass(frozen=True)
class MemberConfig:
    """A dataset of `data.mix`."""

    name: str = option("", "dataset")
    data_dir: str = option("", "folder of TFDS datasets")
    path: str = option("", "file of 'npz' or 'text'")
    splits: SplitsConfig = option(SplitsConfig, "splits by role")
    size: int = option(0, "side in pixels to resize to; 0 for none", least=0, below=2**14)
    channels: int = option(0, "channels to convert images to; 0 for none", least=0, below=2**8)
    noise: NoiseConfig = option(NoiseConfig, "settings of 'noise'")
    weight: float = option(1.0, "sampling weight", least=0)
    labelled: bool = option(False, "whether its labels are visible")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    name: str = option(
        "",
        "dataset: 'digits', 'npz', 'images', 'coco', 'voc', 'shapes', 'table', 'text', 'text_rows', 'answers', 'noise',"
        " 'arithmetic', 'sums', 'wine' or a name of TFDS",
    )
    data_dir: str = option("", "folder of TFDS datasets")
    path: str = option(
        "", "file of 'npz', 'images', 'table', 'text', 'text_rows' or 'answers', or a folder of images, tables or 'voc'"
    )
    splits: SplitsConfig = option(SplitsConfig, "splits by role")
    length: int = option(0, "tokens of a window of a text; the largest number of tokens of a text of rows", least=0)
    text: str = option("", "column or feature of the texts, or prompts; the only or supervised one of TFDS if empty")
    pair: str = option("", "column or feature of the second text of each pair")
    answer: str = option("", "column of the answers to prompts, which alone are to be learned")
    end: str = option("", "text that ends an answer, such as '<|endoftext|>'")
    messages: str = option("", "column of chats, lists of messages with 'role' and 'content', instead of prompts")
    template: str = option("", "template of chats: 'chatml', 'plain' or a file; that of the tokenizer if empty")
    teacher_text: str = option("", "column of other prompts for the same answers, which become teacher_tokens")
    spans: bool = option(False, "whether tokens have the number of the span of bytes that both tokenizers end in")
    packing: bool = option(False, "whether rows of the training split hold several short texts")
    tokenizer: str = option("", "folder of a checkpoint, or tokenizer.json, whose tokens a text becomes")
    teacher_tokenizer: str = option("", "the same for the field teacher_tokens of each text")
    buckets: tuple[int, ...] = option((), "lengths that batches of texts are padded to; `length` alone if empty")
    pool: int = option(
        0, "batches whose texts are sorted by length together, to need less padding; 0 for none", least=0
    )
    label: str = option(
        "", "column of the labels, of a table or texts; for TFDS the class label, segmentation_mask or objects if empty"
    )
    image: str = option("", "column of the images of a file or folder of 'images'")
    route: str = option("", "column whose values choose the network of a source 'routed' for each example")
    labels: tuple[str, ...] = option(
        (),
        "columns of 0 and 1, a class each, or one column of lists of classes, of examples with several labels",
    )
    target: str = option("", "column of the targets of a table, instead of labels")
    targets: tuple[str, ...] = option((), "columns of numbers to be predicted, instead of labels")
    columns: tuple[str, ...] = option((), "columns of a table's features; all but the label or target if empty")
    transforms: tuple[str, ...] = option((), "transforms of a table, in order, fitted on its training split")
    featurizer: str = option("", "folder of a stage whose fitted transforms are applied instead")
    size: int = option(0, "side in pixels to resize to; 0 for none", least=0, below=2**14)
    channels: int = option(0, "channels to convert images to; 0 for none", least=0, below=2**8)
    width: int = option(0, "width, if `size` is the height, of images with masks or boxes", least=0, below=2**14)
    annotations: str = option("", "labels of images that have both: 'masks' or 'boxes'", choices=("", "masks", "boxes"))
    class_names: tuple[str, ...] = option(
        (), "classes of masks, in the order of their values, or of the boxes of 'voc'"
    )
    void: tuple[int, ...] = option((255,), "values of masks that are of no class")
    boxes: int = option(0, "rows for the boxes of an image; the largest number of them if 0", least=0)
    mean: tuple[float, ...] = option((), "mean by channel in [0, 1]; measured if empty")
    std: tuple[float, ...] = option((), "standard deviation by channel in [0, 1]; measured if empty")
    noise: NoiseConfig = option(NoiseConfig, "settings of 'noise'")
    partition: PartitionConfig = option(PartitionConfig, "part of the training split")
    classes: tuple[int | str, ...] = option((), "the classes to train on, by index or name; all if empty")
    subset: SubsetConfig = option(SubsetConfig, "random subset of the training split")
    labels_per_class: int = option(0, "visible labels of each class; 0 for all", least=0)
    hide_labels_of: tuple[int | str, ...] = option((), "classes without visible labels, by index or name")
    unlabelled: bool = option(False, "whether no label is visible")
    weight: float = option(1.0, "sampling weight beside `mix`", least=0)
    mix: dict[str, MemberConfig] = option(dict, "datasets mixed in, by name")
    augment: tuple[str, ...] = option((), "augmentations inside the step, in order")
    views: int = option(1, "augmented views of each example", least=1)
    cycle: int = option(0, "number of different views of an example; 0 for unlimited", least=0)
    seed: int = option(-1, "seed of order and augmentation; -1 for the run's", least=-1, below=2**32)
    resident: str = option("auto", "whether the split is held on the device", choices=("auto", "yes", "no"))
    num_threads: int = option(4, "threads that read examples", least=1, free=True)
    prefetch: int = option(4, "batches read in advance", least=1, free=True)
    statistics: int = option(0, "examples that mean and std are measured on; 0 for all", least=0)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    every: Steps = option(0, "steps between evaluations; 0 for the end alone", least=0)
    split: str = option("validation", "split to evaluate on")
    networks: tuple[str, ...] = option((), "networks to evaluate; all that fit if empty")
    reference: str = option("", "network that fidelity is measured against; the teacher if empty")
    pairs: tuple[str, ...] = option((), "further pairs 'network:reference' of a final evaluation")
    metrics: tuple[str, ...] = option(("auto",), "metrics by name; 'auto' for the task's own")
    saliency: bool = option(True, "whether a final evaluation draws saliency maps")
    texts: int = option(6, "texts that networks write for the report after a final evaluation; 0 for none", least=0)
    cost: bool = option(False, "whether a final evaluation measures memory, latency and throughput")
    batch: int = option(0, "batch of an evaluation; 0 for the batch of training", least=0)
    window: tuple[int, ...] = option((), "height and width of half-overlapping windows of large images; whole if empty")


@dataclasses.dataclass(frozen=True)
class CacheConfig:
    network: str = option("teacher", "network whose outputs are stored")
    store: str = option("logits", "stored form of the logits: 'logits', 'top_k', 'hidden', 'svd' or 'sampled'")
    rank: int = option(0, "numbers of a state of 'svd'; half of its width if 0", least=0)
    bound: float = option(0.0, "largest mean KL of 'svd' from the network on a sample, nats; any if 0", least=0)
    k: int = option(10, "classes of a top-k, or draws of 'sampled'", least=1)
    dtype: str = option("float16", "stored dtype; of 'hidden' and 'svd' also 'int8'")
    taps: tuple[str, ...] = option((), "taps to store besides")
    views: int = option(1, "augmented views of each training example", least=1)
    splits: tuple[str, ...] = option((), "splits to store; all if empty")
    examples_per_shard: int = option(4096, "examples of a file", least=1)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: Steps = option(0, "steps between checkpoints; 0 for the end alone", least=0)
    max_to_keep: int = option(2, "number of latest checkpoints to keep", least=1, free=True)
    keep: str = option("last", "the checkpoint a stage selects", choices=("last", "best"))
    metric: str = option(
        "", "NETWORK/METRIC of the best checkpoint; a METRIC for each network by its own; the first evaluated if empty"
    )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    data: int = option(-1, "devices of the axis data; -1 for the rest", free=True)
    fsdp: int = option(1, "devices of the axis fsdp", free=True)
    tensor: int = option(1, "devices of the axis tensor", free=True)


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """Settings that every kind of stage has; each kind extends them (`build.kind.Kind.settings`)."""

    kind: str = option("train", "kind of stage")
    seed: int = option(0, "seed of initialisation, dropout and methods, and of the data", least=0, below=2**32)
    batch: int = option(128, "examples of a step over all devices", least=1, below=2**31)
    networks: dict[str, NetworkConfig] = option(dict, "networks by name")
    task: str = option("", "task, by name; it follows from the fields of the dataset if empty")
    data: DataConfig = option(DataConfig, "data")
    evaluate: EvaluateConfig = option(EvaluateConfig, "evaluation")
    compilation_cache: str = option("workdir", "folder of compiled programs", free=True)
    convolutions: str = option(
        "auto",
        "convolutions on a CPU; 'auto' for oneDNN's if it is installed",
        choices=("auto", "xla", "onednn"),
        free=True,
    )
    trackers: tuple[str, ...] = option(
        ("tensorboard",),
        "programs that get the metrics besides metrics.jsonl: 'tensorboard', 'wandb', 'mlflow'",
        free=True,
    )
    mesh: MeshConfig = option(MeshConfig, "devices by axis", free=True)
    sharding: tuple[Any, ...] = option((), "sharding rules", free=True)
    sweep: SweepConfig = option(SweepConfig, "values by which lanes differ")


def settings_of(kind: str, path: str = "kind") -> type[StageSettings]:
    """Returns the settings of a kind of stage."""
    return registry.find("kind", kind, path).settings


def has_key(kind: type[StageSettings], key: str) -> bool:
    """Whether a kind of stage has a key, with a unit or without."""
    return not {key, bare(key)}.isdisjoint(field.name for field in dataclasses.fields(kind))


def is_merged(kind: type[StageSettings], key: str) -> bool:
    """Whether a stage's section of that key is merged with the inherited one, and does not replace it."""
    hint = hints_of(kind).get(key)
    return dataclasses.is_dataclass(hint) and not hasattr(hint, "parse")
