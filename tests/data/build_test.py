"""What a `data` section names: mixtures, noise, standardisation, and what is said where it cannot be had."""

import json

import jax
import numpy as np
import pytest

import runs
from jaxdistill import launch
from jaxdistill.config import load as configs
from jaxdistill.core import UNLABELLED
from jaxdistill.data import build, datasets
from jaxdistill.data.mixture import Mixture
from jaxdistill.errors import UserError
from jaxdistill.pipeline import plan, run


def settings(**data):
    return configs.stages({"data": {"name": "digits"} | data})["train"].data


def trained_on(**data):
    data = settings(**data)
    return build.training_split(data, build.open_dataset(data))


def npz(folder, name, rows=12, shape=(8, 8, 1), classes=10, dtype=np.uint8, **more):
    rng = np.random.default_rng(len(name))
    image = rng.integers(0, 256, (rows, *shape)).astype(np.uint8)
    image = image if dtype == np.uint8 else (image / 255).astype(dtype)
    label = np.arange(rows) % classes
    np.savez(
        folder / f"{name}.npz", train_image=image, train_label=label, class_names=np.arange(classes).astype(str), **more
    )
    return dict(name="npz", path=str(folder / f"{name}.npz"))


def test_a_mixture_of_sets(tmp_path):
    """Names in order after the main set; labels hidden unless asked for; images in the main set's units."""
    mix = {
        "b": npz(tmp_path, "b") | dict(weight=0.5),
        "a": npz(tmp_path, "aa", dtype=np.float32) | dict(labelled=True),
        "off": dict(name="nothing of the kind", weight=0.0),
    }
    mixed = trained_on(mix=mix, partition=dict(of=4), weight=2.0)
    assert isinstance(mixed, Mixture)
    assert [len(member) for member in mixed.members] == [270, 12, 12]
    assert mixed.weights == (2.0, 1.0, 0.5)
    assert len(mixed.base) == 1077 + 24
    batch = mixed.take(np.arange(len(mixed)))
    assert batch["image"].dtype == np.uint8
    np.testing.assert_array_equal(batch["label"][270:282], np.arange(12) % 10)
    assert (batch["label"][282:] == UNLABELLED).all()
    stored = np.load(tmp_path / "aa.npz")["train_image"]
    np.testing.assert_array_equal(batch["image"][270:282], np.round(stored * 255))


def test_another_set_alone_is_seen_as_the_main_set_is(tmp_path):
    """Weight 0: shape, classes, evaluation and standardisation are the main set's, the images the other's."""
    data = settings(weight=0.0, mix=dict(other=npz(tmp_path, "other", shape=(20, 16, 3)) | dict(size=8, channels=1)))
    split = build.training_split(data, build.open_dataset(data))
    assert len(split) == len(split.base) == 12
    assert split.take(np.arange(12))["image"].shape == (12, 8, 8, 1)
    assert not build.has_visible_labels(data)
    assert build.standardisation(data) == build.standardisation(settings())


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "shuffled"])
def test_noise_in_a_mixture_has_the_shape_of_the_main_set(kind):
    mixed = trained_on(size=6, channels=3, mix=dict(noise=dict(name="noise", noise=dict(kind=kind, count=30))))
    batch = mixed.take(np.arange(1070, 1107))
    assert batch["image"].shape == (37, 6, 6, 3)
    assert (batch["label"][7:] == UNLABELLED).all()
    assert (batch["label"][:7] != UNLABELLED).all()


def test_noise_as_the_main_set():
    data = settings(name="noise", size=5, channels=2, noise=dict(count=40, classes=10))
    dataset = build.open_dataset(data)
    assert (dataset.shape, dataset.classes, {*dataset.splits}) == ((5, 5, 2), 10, {"train"})
    assert not build.has_visible_labels(data)
    assert (build.training_split(data, dataset).labels() == UNLABELLED).all()


def test_standardisation_is_that_of_the_whole_main_set_or_as_set():
    whole = build.standardisation(settings())
    for data in (
        dict(partition=dict(of=2)),
        dict(classes=(1,)),
        dict(mix=dict(n=dict(name="noise"))),
        dict(labels_per_class=1),
    ):
        assert build.standardisation(settings(**data)) == whole
    assert build.standardisation(settings(size=28)) != whole
    assert build.standardisation(settings(mean=(0.5,), std=(0.25,))) == ((0.5,), (0.25,))
    with pytest.raises(UserError, match=r"data.std\[0\] must be a number, got '1'"):
        build.standardisation(settings(mean=(0.5,), std=("1",)))
    for wrong in (dict(mean=(0.5,)), dict(std=(0.5,)), dict(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))):
        with pytest.raises(UserError, match="both set, or neither, with a number for each channel: 1"):
            build.standardisation(settings(**wrong))


NOISE = dict(name="noise")
BAD = [
    (dict(mix=dict(a=dict(name=""))), "data.mix.a names no dataset; set data.mix.a.name to one of"),
    (
        dict(mix=dict(a=NOISE | dict(wieght=1.0))),
        "data.mix.a.wieght must be a key of this section, got 'wieght'. Did you mean 'weight'",
    ),
    (
        dict(mix=dict(a=NOISE | dict(noise=dict(kid="")))),
        "data.mix.a.noise.kid must be a key of this section, got 'kid'. Did you mean 'kind'",
    ),
    (dict(mix=dict(a=NOISE | dict(weight=-1.0))), "data.mix.a.weight must be at least 0 and finite, got -1.0"),
    (dict(mix=dict(a=NOISE | dict(weight=float("nan")))), "data.mix.a.weight must be at least 0 and finite, got nan"),
    (dict(mix=dict(a=NOISE | dict(weight="1"))), "data.mix.a.weight must be a number, got '1'"),
    (dict(mix=dict(a=NOISE | dict(labelled=True))), "data.mix.a: noise has no labels, and takes its shape from digits"),
    (dict(mix=dict(a="mnist")), "data.mix.a must be a section with keys of .*, got 'mnist'"),
    (dict(mix=dict(a=dict(name="digits", size=28))), r"data.mix.a are \(28, 28, 1\) and those of digits \(8, 8, 1\)"),
    (dict(weight=0.0), "data.weight is 0 and nothing is mixed in"),
    (dict(weight=float("inf")), "data.weight must be at least 0 and finite, got inf"),
    (dict(mix=dict(a=NOISE | dict(noise=dict(count=0)))), "noise.count must be at least 1 and finite, got 0"),
    (dict(mix=dict(a=dict(name="digits", channels=3))), "set data.mix.a.size=8 and data.mix.a.channels=1"),
    (dict(mix=dict(a=dict(name="npz", path="nowhere.npz"))), "no file 'nowhere.npz'"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=lambda x: str(x)[:50])
def test_invalid_mixtures_are_refused(data, message):
    with pytest.raises(UserError, match=message):
        trained_on(**data)


def test_labels_of_other_classes_are_refused(tmp_path):
    mix = dict(a=npz(tmp_path, "a", classes=3) | dict(labelled=True))
    with pytest.raises(UserError, match=r"its classes are not those of digits: \['0', '1', '2'\] and .* and 5 more"):
        trained_on(mix=mix)


CONFIG = """
from ml_collections import ConfigDict

def get_config(mode=""):
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 32, 6, 1
    c.data = dict(name="digits")
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(24,), weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(8,)),
    )
    c.terms = dict(kd=dict(method="kd"))
    c.learning_rate = 1e-2
    c.stages = dict(
        teacher=dict(networks=dict(teacher=dict(source="trained", weights="")),
                     terms=dict(task=dict(method="cross_entropy", student="teacher")),
                     data=dict(partition=dict(of=3, part=1, by="class"))),
        distil=dict(data=dict(classes=(1, "2"), weight=0.5, augment=("mixup:1.0",), mix=dict(
            scans=dict(name="digits", size=16, weight=1.0), noise=dict(name="noise", noise=dict(count=64)))),
            evaluate=dict(every=3)),
        evaluate=dict(kind="evaluate", evaluate=dict(split="test"),
                      networks=dict(teacher={}, student=dict(source="frozen", weights="stage:distil"))),
    )
    c.data.size = 16
    return c
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "other.py").write_text(CONFIG)
    return str(tmp_path / "other.py")


@pytest.mark.slow
def test_a_run_on_other_data(tmp_path, config):
    """A teacher of a part; a student on two classes, other scans and noise, mixed and unlabelled."""
    assert runs.launched(tmp_path / "run", "--config.stages.distil.data.resident=no", config=config) == 0
    lines = runs.lines(tmp_path / "run")
    assert {row["network"] for row in runs.results(tmp_path / "run")} == {"teacher", "student"}
    losses = [line["kd"] for line in lines if line["stage"] == "distil" and "kd" in line]
    assert len(losses) == 6
    assert min(losses) > 0
    # An epoch is what a stage trains on.
    data = configs.stages(json.loads((tmp_path / "run" / "config.json").read_text()))["teacher"].data
    examples = len(build.training_split(data, build.open_dataset(data)))
    assert 200 < examples < 500
    trained = next(line for line in lines if line["stage"] == "teacher" and "loss" in line)
    np.testing.assert_allclose(trained["epoch"], 32 / examples, rtol=1e-5)


def test_all_at_once_resident_as_streamed(config):
    """A part, some classes, few labels, two sets mixed in: the loaders of a built stage give the same batches."""
    flags = ["partition.of=2", "labels_per_class=3", "mix.scans.labelled=True"]
    found = []
    for resident in ("yes", "no"):
        words = [f"--config.stages.distil.data.{flag}" for flag in [*flags, f"resident={resident}"]]
        made, _ = launch.parse(["launch", "--config", config, *words])
        stage = run.prepare(made, None)["distil"]
        assert stage.data.resident == (resident == "yes")
        made = stage.data.loader()
        found.append(
            [jax.tree.map(np.asarray, made.make_batch(made.resident, fed)) for fed in made.step_inputs(20, 24)]
        )
    for one, other in zip(*found, strict=True):
        for name in ("image", "label", "index", "view", "mask"):
            np.testing.assert_array_equal(one[name], other[name])
        main = one["index"] < 1077
        np.testing.assert_allclose(main.sum(), 32 * 0.5 / 2.5, atol=1)
        known = stage.data.dataset.split("train").labels()[one["index"][main]]
        assert set(known) <= {1, 2}


def test_the_plan_describes_the_training_data(config):
    made, _ = launch.parse(["launch", "--config", config, "--config.stages.teacher.data.labels_per_class=3"])
    stages = run.prepare(made, None)
    said = {name: plan.describe(stage)[1] for name, stage in stages.items()}
    assert "part 1 of 3 by class, 3 labels of each class" in said["teacher"]
    wanted = "only classes 1, 2, mixed by weight: digits 0.5, noise 1, scans 1"
    assert wanted in said["distil"]
    assert f"{len(stages['distil'].data.train):,} examples" in said["distil"]
    assert "mixed" not in said["evaluate"]
    assert stages["distil"].data.raw_batch["image"].shape == (32, 16, 16, 1)


def test_labels_that_nobody_sees_teach_nothing(config):
    flags = ["--config.stages.teacher.data.unlabelled=True"]
    made, _ = launch.parse(["launch", "--config", config, *flags])
    with pytest.raises(
        UserError, match="term 'task' learns from labels, and the training data of stage 'teacher' show"
    ):
        run.prepare(made, None)


def test_flags_reach_a_mixture(config):
    flags = [
        "--config.stages.distil.data.mix.scans.weight=0.25",
        "--config.stages.distil.data.mix.noise.noise.kind=shuffled",
    ]
    made, _ = launch.parse(["launch", "--config", config, *flags])
    mix = made["distil"].data.mix
    assert (mix["scans"].weight, mix["noise"].noise.kind) == (0.25, "shuffled")


def test_digits_as_mnist_and_mnist_as_digits(tfds_dir):
    """Each set in the size of the other, alone or beside it."""
    mnist = dict(name="mnist", data_dir=tfds_dir, splits=dict(train="train[:50]"))
    for main, other, size in ((dict(name="digits"), mnist, 8), (mnist, dict(name="digits"), 28)):
        split = trained_on(**main, weight=0.0, mix=dict(other=other | dict(size=size)))
        batch = split.take(np.arange(20))
        assert batch["image"].shape == (20, size, size, 1)
        assert (batch["label"] == UNLABELLED).all()
    labelled = trained_on(mix=dict(other=mnist | dict(size=8, labelled=True)))
    expected = datasets.load(**mnist).split("train").labels()
    np.testing.assert_array_equal(labelled.labels()[1077:], expected)


MASKS = {"name": "shapes", "annotations": "masks", "size": 32, "resident": "no"}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            MASKS | {"classes": (1,)},
            r"data.classes must be \(\) for 'shapes', which has no class of an image, got \(1,\)",
        ),
        (MASKS | {"labels_per_class": 2}, "data.labels_per_class must be 0"),
        (MASKS | {"hide_labels_of": (1,)}, "data.hide_labels_of must be"),
        (MASKS | {"unlabelled": True}, "data.unlabelled must be False"),
        (MASKS | {"views": 2}, "data.views must be 1"),
        (MASKS | {"mix": {"noise": {"name": "noise"}}}, "data.mix must be {}"),
        (MASKS | {"partition": {"of": 2, "by": "class"}}, "data.partition.by must be 'iid' for 'shapes'"),
        (MASKS | {"label": "mask"}, "data.label must be '' for 'shapes'"),
        (
            MASKS | {"width": 48},
            r"data.width must be 0 for 'shapes' with \['label_map'\], which it does not change, got 48",
        ),
        (MASKS | {"class_names": ("a",)}, r"data.class_names must be \(\)"),
        (MASKS | {"boxes": 9}, "data.boxes must be 0"),
        (MASKS | {"annotations": "boxes", "boxes": 9}, "data.boxes must be 0"),
        (MASKS | {"annotations": "boxes", "void": (1,)}, r"data.void must be \(255,\)"),
        (
            MASKS | {"void": (0,)},
            r"data.void must be \(255,\) for 'shapes', whose masks are drawn, got \(0,\)",
        ),
        ({"name": "digits", "void": (1,)}, r"data.void must be \(255,\) for 'digits', which has no masks or boxes"),
        ({"name": "digits", "boxes": 3}, "data.boxes must be 0"),
        ({"name": "digits", "width": 8}, "data.width must be 0"),
        ({"name": "wine", "class_names": ("a",)}, r"data.class_names must be \(\)"),
    ],
)
def test_options_of_dense_labels_and_of_one_class_per_image(section, message):
    with pytest.raises(UserError, match=message):
        build.open_dataset(settings(**section))


def test_a_part_of_images_with_masks():
    data = settings(**MASKS, partition={"of": 4, "part": 1}, subset={"count": 3})
    dataset = build.open_dataset(data)
    split = build.training_split(data, dataset)
    whole = dataset.split("train").take(split.index(np.arange(3)))
    np.testing.assert_array_equal(split.take(np.arange(3))["label_map"], whole["label_map"])
