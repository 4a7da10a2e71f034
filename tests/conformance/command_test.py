"""The command on classes that keep the promises of their room, and on classes that break one."""

import subprocess
import sys

import pytest

from jaxdistill.conformance import command

LAB = '''
import dataclasses
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxdistill.data.dataset import Arrays, Dataset
from jaxdistill.metrics.metric import Ratio, predicted, total
from jaxdistill.methods.kd import KD
from jaxdistill.models.mlp import MLP
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.networks import NetworkRef, Source, required
from jaxdistill.tasks.image_classification import ImageClassification

class MyKD(KD):
    pass

class Mean(LogitsMethod):
    def __call__(self, student, teacher, batch):
        return jnp.mean((student.logits - teacher.logits) ** 2).astype(jnp.float32)

class Centred(LogitsMethod):
    """Reads masked rows."""
    def __call__(self, student, teacher, batch):
        centre = jnp.mean(teacher.logits, 0, keepdims=True)
        return jnp.sum((student.logits - teacher.logits + centre) ** 2, -1).astype(jnp.float32)

class Padded(Ratio):
    needs_labels = False
    def sums(self, output, batch, reference=None):
        return total(predicted(output) == 0, jnp.ones(batch["valid"].shape, bool))

class WithoutDefaults(MLP):
    @nn.compact
    def __call__(self, x, train):
        return super().__call__(x, train)

class Bare(MLP):
    @nn.compact
    def __call__(self, x, train=False):
        return super().__call__(x, train).logits

def labels_out_of_range(settings):
    rows = np.arange(4)
    split = Arrays(np.zeros((4, 2, 2, 1), np.uint8), rows.astype(np.int32))
    return Dataset({"train": split}, ("a", "b"), (2, 2, 1))

class Unaligned(ImageClassification):
    """Counts masked examples."""
    def align(self, batch):
        return {**batch, "valid": jnp.ones_like(batch["mask"])}

class Untrue(ImageClassification):
    """Stores a field that examples do not have."""
    truth = ("weather",)

@dataclasses.dataclass(frozen=True)
class Labels(Source):
    """Reads labels in inference."""
    of: NetworkRef = required("network")
    def __call__(self, variables, batch, outputs, key):
        output = outputs[self.of]
        return output.replace(logits=output.logits + batch["label"][:, None]), {}

class Other:
    pass
'''


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package of a user's own, with classes that keep or break promises."""
    (tmp_path / "lab_of_conformance.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "lab_of_conformance"
    sys.modules.pop("lab_of_conformance", None)


def check(capsys, *arguments):
    """Returns the exit status, and the lines by status."""
    status = command.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    return status, {kind: [line for line in lines if line.startswith(kind)] for kind in ("ok", "FAIL", "skip")}


@pytest.mark.parametrize(
    ("name", "fields", "fewest"),
    [
        pytest.param("{lab}:MyKD", (), 15, marks=pytest.mark.slow),
        ("mlp", ("widths=(5,)",), 7),
        ("{lab}:WithoutDefaults", ("widths=(5,)",), 7),
        ("accuracy", (), 8),
        ("image_classification", (), 6),
        ("text_classification", (), 6),
        ("language_model", (), 6),
        ("masked_language_model", (), 6),
        ("segmentation", (), 6),
        ("detection", (), 6),
        ("digits", (), 8),
        ("shapes", ("annotations=masks",), 8),
        ("arithmetic", ("length=16",), 8),
        ("noise", ("--room=dataset", "size=8", "channels=1", "classes=3"), 7),
        ("ema", ("--room=network",), 10),
        ("train", (), 8),
    ],
)
def test_a_good_member_keeps_every_promise(lab, capsys, name, fields, fewest):
    status, lines = check(capsys, name.format(lab=lab), *fields)
    assert lines["FAIL"] == []
    assert status == 0
    assert len(lines["ok"]) >= fewest


def test_promises_of_other_sources_are_skipped_with_their_reason(capsys):
    """An average has a gradient by the images, and converts no variables."""
    _, lines = check(capsys, "ema", "--room=network")
    reasons = ("the source is differentiable", "the source converts no variables")
    assert len(lines["skip"]) == 2
    assert all(any(reason in line for line in lines["skip"]) for reason in reasons)


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        (
            "Mean",
            "there is one float32 value per prediction: values must have one number per prediction, [6, 7]",
        ),
        pytest.param("Centred", "masked rows change nothing: ", marks=pytest.mark.slow),
        ("Padded", "masked rows do not count: "),
        ("labels_out_of_range", "labels are int32 and in range, and those of the examples: train: "),
        ("Unaligned", "predictions of masked examples are not valid: valid must be 0 for examples that are masked"),
        ("Untrue", "its class attributes are consistent: truth must be fields, got ['weather']"),
        ("Labels", "inference does not depend on labels: inference must not"),
        ("Bare", "the result is an Output of the predictions and classes: the result must be a jaxdistill.core.Output"),
    ],
)
def test_a_broken_promise_is_printed_with_its_reason(lab, capsys, name, promise):
    status, lines = check(capsys, f"{lab}:{name}")
    assert [line for line in lines["FAIL"] if line.startswith(f"FAIL {promise}")]
    assert status == 1


def test_values_that_check_refuses_are_refused(capsys):
    status, lines = check(capsys, "kd", "temperature=-3")
    assert lines["FAIL"][0].startswith("FAIL it can be made and fits one of the toy tasks: temperature must be ")
    assert status == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kdd"], "NAME must be a registered name, got 'kdd'. Did you mean 'kd'?"),
        (["cka"], "NAME must be of one room, got 'cka', which is in ['method', 'metric']. Add --room method"),
        (["{lab}:Mien"], "NAME must be a name in {lab}, got '{lab}:Mien'. Did you mean '{lab}:Mean'?"),
        (["no_lab:Mine"], "Put the folder of 'no_lab' on PYTHONPATH"),
        (["{lab}:Other"], "NAME must be of one of the rooms ['method', 'model', "),
        (["kd", "temperature"], "a field must be written FIELD=VALUE, got 'temperature'"),
    ],
)
def test_a_name_of_no_room_exits_with_2_and_one_message(lab, capsys, arguments, message):
    assert command.main([argument.format(lab=lab) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message.format(lab=lab) in err
    assert err.count("\n") == 1


def test_the_module_is_a_command():
    line = [sys.executable, "-m", "jaxdistill.conformance", "no_lab:Mine"]
    process = subprocess.run(line, capture_output=True, text=True)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert "NAME must be importable" in process.stderr
