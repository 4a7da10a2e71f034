"""Settings of a stage as frozen dataclasses: each field has a default, a bound and one line of meaning."""

import dataclasses
from typing import Any

from jaxdistill.config.durations import Steps
from jaxdistill.config.members import NetworkConfig, OptimizerConfig, ScheduleConfig, TermConfig, default_optimizer
from jaxdistill.config.parse import Section, hints_of, new_name, option


@dataclasses.dataclass(frozen=True, eq=False)
class SplitsConfig(Section):
    train: str = option("", "split of TFDS, or part of a text, for training")
    validation: str = option("", "the same for validation")
    test: str = option("", "the same for testing")


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseConfig(Section):
    kind: str = option("uniform", "distribution of the pixels")
    count: int = option(50_000, "number of images")
    seed: int = option(0, "seed of the images")
    classes: int = option(0, "number of classes of the teacher, for noise alone")


@dataclasses.dataclass(frozen=True, eq=False)
class PartitionConfig(Section):
    of: int = option(1, "number of parts")
    part: int = option(0, "the part to train on")
    by: str = option("iid", "rule of the partition")
    concentration: float = option(0.5, "parameter of the Dirichlet partition")
    seed: int = option(0, "seed of the partition")


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetConfig(Section):
    fraction: float = option(1.0, "fraction of the examples")
    count: int = option(0, "number of examples; 0 for all")
    seed: int = option(0, "seed of the choice")


@dataclasses.dataclass(frozen=True, eq=False)
class MemberConfig(Section):
    """A dataset of `data.mix`."""

    name: str = option("", "dataset")
    data_dir: str = option("", "folder of TFDS datasets")
    path: str = option("", "file of 'npz' or 'text'")
    splits: SplitsConfig = option(SplitsConfig, "splits by role")
    size: int = option(0, "side in pixels to resize to; 0 for none", least=0)
    channels: int = option(0, "1 or 3 to convert to; 0 for none", least=0)
    noise: NoiseConfig = option(NoiseConfig, "settings of 'noise'")
    weight: float = option(1.0, "sampling weight", least=0)
    labelled: bool = option(False, "whether its labels are visible")


@dataclasses.dataclass(frozen=True, eq=False)
class DataConfig(Section):
    name: str = option("", "dataset: 'digits', 'npz', 'text', 'noise', 'arithmetic' or a name of TFDS")
    data_dir: str = option("", "folder of TFDS datasets")
    path: str = option("", "file of 'npz' or 'text'")
    splits: SplitsConfig = option(SplitsConfig, "splits by role")
    length: int = option(0, "tokens of a window of a text", least=0)
    size: int = option(0, "side in pixels to resize to; 0 for none", least=0)
    channels: int = option(0, "1 or 3 to convert to; 0 for none", least=0)
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


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluateConfig(Section):
    every: Steps = option(0, "steps between evaluations; 0 for the end alone", least=0)
    split: str = option("validation", "split to evaluate on")
    networks: tuple[str, ...] = option((), "networks to evaluate; all that fit if empty")
    reference: str = option("", "network that fidelity is measured against; the teacher if empty")
    pairs: tuple[str, ...] = option((), "further pairs 'network:reference' of a final evaluation")
    metrics: tuple[str, ...] = option(("accuracy", "nll"), "metrics by name")
    saliency: bool = option(True, "whether a final evaluation draws saliency maps")
    batch: int = option(0, "batch of an evaluation; 0 for the batch of training", least=0)


@dataclasses.dataclass(frozen=True, eq=False)
class CacheConfig(Section):
    network: str = option("teacher", "network whose outputs are stored")
    store: str = option("logits", "stored form of the logits")
    k: int = option(10, "classes of a top-k", least=1)
    dtype: str = option("float16", "stored dtype")
    taps: tuple[str, ...] = option((), "taps to store besides")
    views: int = option(1, "augmented views of each training example", least=1)
    splits: tuple[str, ...] = option((), "splits to store; all if empty")
    examples_per_shard: int = option(4096, "examples of a file", least=1)


@dataclasses.dataclass(frozen=True, eq=False)
class SklearnConfig(Section):
    name: str = option("forest", "classifier: a short name, or the path of a class")
    settings: dict[str, Any] = option(dict, "arguments of the class")
    min_probability: float = option(1e-6, "lower bound of a probability")


@dataclasses.dataclass(frozen=True, eq=False)
class MergeConfig(Section):
    networks: tuple[str, ...] = option((), "networks to merge")
    into: str = option("merged", "name of the result")
    rule: str = option("average", "rule of merging")
    weights: tuple[Any, ...] = option((), "weights of the networks; equal if empty")
    base: str = option("", "the network that task vectors start from")
    align: bool = option(False, "whether permutations are matched first")
    density: float = option(0.2, "fraction of a task vector that TIES keeps")
    drop: float = option(0.5, "fraction of a task vector that DARE drops")
    scale: float = option(1.0, "factor of the sum of task vectors")
    examples: int = option(0, "examples of Fisher information; 0 for all", least=0)
    split: str = option("validation", "split of a greedy soup")
    recalibrate: bool = option(True, "whether batch statistics are measured anew")


@dataclasses.dataclass(frozen=True, eq=False)
class CheckpointConfig(Section):
    every: Steps = option(0, "steps between checkpoints; 0 for the end alone", least=0)
    max_to_keep: int = option(2, "number of latest checkpoints to keep", least=1, free=True)
    keep: str = option("last", "the checkpoint a stage selects", choices=("last", "best"))
    metric: str = option("", "NETWORK/METRIC of the best checkpoint; the first evaluated if empty")


@dataclasses.dataclass(frozen=True, eq=False)
class MeshConfig(Section):
    data: int = option(-1, "devices of the axis data; -1 for the rest", free=True)
    fsdp: int = option(1, "devices of the axis fsdp", free=True)
    tensor: int = option(1, "devices of the axis tensor", free=True)


@dataclasses.dataclass(frozen=True, eq=False)
class StageSettings(Section):
    """Settings of a stage, every inherited key written out."""

    kind: str = option("train", "kind of stage")
    seed: int = option(0, "seed of initialisation, dropout and methods, and of the data", least=0, below=2**32)
    steps: Steps = option(0, "optimizer steps", least=0)
    batch: int = option(128, "examples of a step over all devices", least=1)
    accumulate: int = option(1, "micro-batches of a step", least=1)
    networks: dict[str, NetworkConfig] = option(dict, "networks by name")
    terms: dict[str, TermConfig] = option(dict, "terms of the loss by name")
    optimizer: OptimizerConfig = option(default_optimizer, "optimizer and its arguments")
    learning_rate: ScheduleConfig = option(ScheduleConfig(0.1), "learning rate")
    task: str = option("", "task, by name; it follows from the fields of the dataset if empty")
    data: DataConfig = option(DataConfig, "data")
    evaluate: EvaluateConfig = option(EvaluateConfig, "evaluation")
    cache: CacheConfig = option(CacheConfig, "stages of kind 'cache' and 'sklearn'")
    sklearn: SklearnConfig = option(SklearnConfig, "stages of kind 'sklearn'")
    merge: MergeConfig = option(MergeConfig, "stages of kind 'merge'")
    checkpoint: CheckpointConfig = option(CheckpointConfig, "checkpoints")
    log_every: Steps = option(50, "steps between lines of the log", least=0, free=True)
    steps_per_call: int = option(0, "steps of one dispatch; 0 for automatic", least=0, free=True)
    compilation_cache: str = option("workdir", "folder of compiled programs", free=True)
    peak_flops: float = option(0.0, "peak FLOP/s of a device, for utilisation", least=0, free=True)
    mesh: MeshConfig = option(MeshConfig, "devices by axis", free=True)
    sharding: tuple[Any, ...] = option((), "sharding rules", free=True)
    sweep: dict[str, Any] = option(dict, "lists of values, one for each lane")


def is_merged(key: str) -> bool:
    """Whether a stage's section of that key is merged with the inherited one, and does not replace it."""
    hint = hints_of(StageSettings).get(new_name(StageSettings, key))
    return dataclasses.is_dataclass(hint) and not hasattr(hint, "parse")
