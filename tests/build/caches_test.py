"""Caches that the networks of a stage read: their place, the examples they are for, and refusals."""

import types

import pytest

from cached_runs import TOP, prepared
from jaxdistill.build import caches
from jaxdistill.config.schema import DataConfig
from jaxdistill.errors import UserError


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (dict(read=dict(data=dict(augment=("pad_crop:1",)))), r"- data.augment: \['pad_crop:1'\]\n  \+ data.augment"),
        (dict(read=dict(seed=3)), r"- seed: 3\n  \+ seed: 0"),
        (dict(read=dict(data=dict(size=16))), "has a cache for other images"),
        (  # evaluated on the training split, too
            dict(
                read=dict(
                    networks=dict(teacher={}, other=TOP),
                    terms=dict(kd=dict(method="kd", teacher="other")),
                    seed=3,
                    evaluate=dict(split="train", metrics=("accuracy",)),
                )
            ),
            r"network 'other' has a cache for other images(.|\n)*- seed: 3",
        ),
        (
            dict(
                cache=dict(
                    networks=dict(teacher={}, sure=dict(source="ensemble", of=("teacher",), weighting="confidence")),
                    cache=dict(network="sure"),
                )
            ),
            "'sure', which depends on labels",
        ),
        (dict(cache=dict(networks=dict(teacher=dict(input="image2")))), r"must be one of \['image'\], got 'image2'"),
        (dict(read=dict(networks=dict(teacher=TOP | dict(cache="stage:cache@0")))), "write 'stage:cache'"),
        (dict(read=dict(networks=dict(teacher=TOP | dict(teacher="stage:techer")))), "Did you mean 'teacher'"),
        (dict(read=dict(networks=dict(teacher=TOP | dict(teacher="runs/none")))), "no checkpoints in runs/none"),
        (dict(read=dict(data=dict(cycle=3))), "data.cycle=3, and network 'teacher' is cached in views=2"),
        (dict(cache=dict(cache=dict(views=1)), read=dict(data=dict(cycle=2))), "data.cycle=2, and network 'teacher'"),
        (dict(cache=dict(cache=dict(splits=("train",)))), "needs outputs for the validation split"),
        (dict(cache=dict(cache=dict(splits=("trian",)))), "Did you mean 'train'"),
        (dict(cache=dict(cache=dict(network="techer"))), "Did you mean 'teacher'"),
        (dict(cache=dict(cache=dict(store="logit"))), "Did you mean 'logits'"),
        (dict(cache=dict(cache=dict(dtype="float64"))), r"cache.dtype must be an existing name, got 'float64'"),
        (dict(cache=dict(cache=dict(taps=("poled",)))), "Did you mean 'pooled'"),
        (dict(cache=dict(cache=dict(views=0))), "cache.views must be at least 1 and finite, got 0"),
        (dict(cache=dict(data=dict(augment=("flip", "mixup:0.2")))), "'mixup:0.2' makes one of two"),
        (dict(cache=dict(data=dict(augment=()))), "would all be the same"),
        (dict(read=dict(networks=dict(teacher=TOP | dict(cache="stage:teacher")))), "kind 'train'; caches are made by"),
        (dict(read=dict(networks=dict(teacher=TOP | dict(cache="nowhere")))), "no cache in nowhere"),
        (dict(read=dict(networks=dict(teacher=TOP | dict(tail="even")))), "'even'"),
        (dict(read=dict(networks=dict(teacher=dict(source="cached")))), r"networks.teacher.cache must be set"),
        (
            dict(
                cache=dict(cache=dict(store="top_k", k=3)),
                read=dict(networks=dict(teacher=TOP | dict(tail="bucket"))),
            ),
            "term 'kd' compares logits, and network 'teacher' has some classes alone",
        ),
        (
            dict(
                cache=dict(cache=dict(store="top_k", k=3)),
                read=dict(
                    networks=dict(teacher=TOP | dict(tail="bucket")),
                    terms=dict(kd=dict(method="top_k")),
                ),
            ),
            "has its top-k classes and no logits, and is measured",
        ),
        (
            dict(read=dict(networks=dict(teacher=dict(source="frozen", model="mlp", weights="stage:cache")))),
            "trained network in stage 'cache' must be an existing name, got",
        ),
    ],
)
def test_mistakes_are_reported_when_the_stages_are_built(tmp_path, sections, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "run", **sections)


def test_a_cache_that_is_not_written_yet_has_the_header_of_its_stage(tmp_path):
    stages = prepared(tmp_path)
    cache = stages["read"].data.caches["teacher"]
    assert cache.folder == tmp_path / "cache"
    assert cache.header == stages["cache"].kind.cache_header(stages["cache"])
    assert cache.header.splits == {"train": (1077, 2), "validation": (360, 1), "test": (360, 1)}
    assert stages["read"].data.batch["cached/teacher/logits"].shape == (120, 10)


def test_examples_are_described_by_split_standardisation_and_augmentation(tmp_path):
    stage = prepared(tmp_path)["read"]
    train, test = (caches.describe_examples(stage, role) for role in ("train", "test"))
    assert train.keys() - test.keys() == {"train split", "data.augment", "seed"}
    assert (train["data.augment"], train["seed"]) == (["pad_crop:1", "rotate:5"], 0)
    plain = caches.describe_examples(stage, "train", augmented=False)
    assert (plain["data.augment"], plain["seed"]) == ([], "any")
    assert plain["train split"].startswith("1077 images of digits, ")


def test_a_cycle_of_views_is_refused_if_the_cache_has_fewer(tmp_path):
    caches.check_cycle(prepared(tmp_path, read=dict(data=dict(cycle=2)))["read"])
    with pytest.raises(UserError, match="data.cycle=3, and network 'teacher' is cached in views=2"):
        prepared(tmp_path, read=dict(data=dict(cycle=3)))


def test_a_cache_of_every_token_needs_texts_of_one_length_and_no_random_masks():
    arrays = {"logits": ((3,), "float32"), "tap/final": ((16, 8), "float32")}
    cache = types.SimpleNamespace(header=types.SimpleNamespace(arrays=arrays))
    task, settings = types.SimpleNamespace(draws_masks=False), types.SimpleNamespace(data=DataConfig())
    data = types.SimpleNamespace(caches={"teacher": cache}, dataset=types.SimpleNamespace(shape=(16,)), task=task)
    stage = types.SimpleNamespace(name="read", data=data, settings=settings)
    caches.check_lengths(stage)
    settings.data = DataConfig(buckets=(8, 16))
    with pytest.raises(UserError, match=r"data.buckets must be \(\) with network 'teacher'.*has \['tap/final'\] of 16"):
        caches.check_lengths(stage)
    task.draws_masks = True
    with pytest.raises(UserError, match=r"networks \['teacher'\] must run in this stage, got caches"):
        caches.check_lengths(stage)
