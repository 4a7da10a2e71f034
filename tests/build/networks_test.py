"""From entries of a config to sources and terms: schedules of fields, heads, probes, reused classifiers."""

import pytest

from jaxdistill.build.networks import build_networks
from jaxdistill.config.members import NetworkConfig
from jaxdistill.errors import UserError
from jaxdistill.modules.heads import PCA, Identity, Linear, Paraphraser
from jaxdistill.networks import Context, Derivative, Head, ImageSpec, ReusedClassifier

SPECS = {"teacher": dict(source="frozen", model="mlp", weights="x"), "student": dict(source="trained", model="mlp")}


def made(**entries):
    specs = {name: NetworkConfig.parse(entry, f"networks.{name}") for name, entry in (SPECS | entries).items()}
    return build_networks(specs, Context(3, ImageSpec((8, 8, 1), (0.5,), (0.25,))))


def test_heads_of_an_exit():
    found = made(
        a=dict(source="head", of="teacher", tap="pooled"),
        b=dict(source="head", of="teacher", tap="pooled", head="pca", components=4),
        c=dict(source="head", of="teacher", tap="pooled", head="none"),
        d=dict(source="head", of="student", tap="pooled", frozen=True),
        e=dict(source="head", of="teacher", tap="stage3", head="paraphraser", fraction=0.25),
    )
    assert found["e"] == Head("teacher", "stage3", Paraphraser(0.25, False), False)
    assert found["a"] == Head("teacher", "pooled", Linear(3), False)
    assert found["b"] == Head("teacher", "pooled", PCA(4), True)
    assert found["c"].head == Identity()
    assert found["d"].frozen


def test_probe_and_reuse():
    found = made(
        slope=dict(source="derivative", of="student", mode="difference", directions=3, step=0.1),
        reader=dict(source="reused_classifier", of="student", tap="pooled"),
    )
    assert found["slope"] == Derivative("student", "difference", 3, 0.1, base=found["student"])
    reader = found["reader"]
    assert isinstance(reader, ReusedClassifier)
    assert (reader.of, reader.teacher, reader.teacher_tap) == ("student", "teacher", "pooled")
    assert list(found).index("reader") > list(found).index("teacher")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dict(source="head", of="teacher", tap="pooled", head="linaer"), "Did you mean 'linear'"),
        (
            dict(source="ensemble", of=("student", "techer")),
            "^networks.x.of must be an existing name, got 'techer'. Did you mean 'teacher'",
        ),
        (
            dict(source="head", of="teacher", tap="pooled", components=4),
            "networks.x.components must be a key of head 'linear', got 'components'",
        ),
        (
            dict(source="head", of="teacher", tap="pooled", head="pca", components=0),
            "components must be at least 1 and finite, got 0",
        ),
        (
            dict(source="head", of="teacher", tap="pooled", frozen="yes"),
            "networks.x.frozen must be",
        ),
        (
            dict(source="head", of="teacher", tap="stage3", head="paraphraser", fraction=0.0),
            "networks.x.fraction must be greater than 0",
        ),
        (dict(source="derivative", of="student", mode="diference"), "Did you mean 'difference'"),
        (dict(source="derivative", of="student", directions=0), "directions must be at least 1 and finite, got 0"),
        (dict(source="derivative", of="student", step=0.0), "networks.x.step must be greater than 0"),
        (dict(source="reused_classifier", of="student", teacher="techer"), "Did you mean 'teacher'"),
        (dict(source="ensemble", of=("student", "teacher"), weighting="confidance"), "Did you mean 'confidence'"),
        (dict(source="ensemble", of=("student", "teacher"), member_weights=(1.0,)), "must be 2 numbers of at least 0"),
        (dict(source="ensemble", of=("student", "teacher"), member_weights=(0.0, 0.0)), "not all 0"),
        (
            dict(source="ensemble", of=("student", "teacher"), member_weights=("a", "b")),
            r"networks.x.member_weights\[0\] must be",
        ),
        (
            dict(source="ensemble", of=("student", "teacher"), member_weights=0.5),
            "member_weights must be a tuple of numbers, got 0.5",
        ),
        (
            dict(source="ensemble", of=("student", "teacher"), member_weights=(float("nan"), 1.0)),
            "must be 2 numbers of at least 0",
        ),
        (dict(source="delayed", of="student", every=0), "every must be at least 1 and finite, got 0"),
        (
            dict(source="trained", model="mlp", preprocess=dict(mean=0.5)),
            "preprocess.mean must be a tuple of numbers, got 0.5",
        ),
        (
            dict(source="trained", model="mlp", preprocess=dict(std=("a",))),
            r"networks.x.preprocess.std\[0\] must be",
        ),
        (
            dict(source="trained", model="mlp", preprocess=dict(size=-4)),
            "preprocess.size must be at least 0 and finite, got -4",
        ),
        (
            dict(source="trained", model="mlp", preprocess=dict(mean=(float("nan"),))),
            "must have mean and std of 1 numbers",
        ),
        (dict(source="function", factory="json:nothing"), "networks.x.factory must be"),
    ],
)
def test_invalid_entries_are_refused(entry, message):
    with pytest.raises(UserError, match=message):
        made(x=entry)
