import json

import pytest

import runs
from jaxdistill.build.networks import build_networks
from jaxdistill.config import load as configs
from jaxdistill.config.members import NetworkConfig
from jaxdistill.errors import UserError
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Context, Frozen, ImageSpec
from jaxdistill.pipeline import run
from jaxdistill.stages import precision_report

SHORT = ("--config.steps=3", "--config.evaluate.every=0", "--config.stages.distil.checkpoint.keep=last")


def build(entries, context):
    return build_networks({n: NetworkConfig.parse(entry, f"networks.{n}") for n, entry in entries.items()}, context)


def test_a_run_with_a_teacher_in_int8_tells_what_that_costs(tmp_path, capsys):
    assert runs.launched(tmp_path, *SHORT, "--config.networks.teacher.quantize=int8") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "int8" in line]
    assert len(said) == 2  # where it teaches, and where it is measured; not where it learns
    assert said[0].startswith("stage distil: network 'teacher' in int8: accuracy 0.")
    told = json.loads((tmp_path / "distil" / "done.json").read_text())["reduced"]["teacher"]
    assert told["form"] == "int8"
    assert told["split"] == "validation"
    assert 0 < told["examples"] <= precision_report.EXAMPLES
    assert 0.9 < told["agreement"] <= 1
    assert 0 < told["kl"] < 0.01
    assert abs(told["accuracy"] - told["exact_accuracy"]) <= 1 - told["agreement"] + 1e-6
    assert "reduced" not in json.loads((tmp_path / "teacher" / "done.json").read_text())
    assert "teacher" in json.loads((tmp_path / "evaluate" / "done.json").read_text())["reduced"]


def test_folding_is_the_default_of_a_frozen_network_and_of_no_other():
    data = Context(3, ImageSpec((4, 4, 1), (0.0,), (1.0,)))
    specs = {
        "teacher": {"source": "frozen", "model": "mlp", "weights": "stage:x"},
        "exact": {"source": "frozen", "model": "mlp", "weights": "stage:x", "fold": False},
        "student": {"source": "trained", "model": "mlp", "quantize": "int8"},
    }
    made = build(specs, data)
    assert (made["teacher"].fold, made["exact"].fold) == (True, False)
    assert not isinstance(made["student"], Frozen)
    assert not Frozen(MLP(3)).fold


@pytest.mark.parametrize(("key", "value", "word"), [("quantize", "int9", "int8"), ("fold", "yes", "fold")])
def test_what_makes_no_sense_is_told(key, value, word):
    data = Context(3, ImageSpec((4, 4, 1), (0.0,), (1.0,)))
    with pytest.raises(UserError, match=word):
        build({"t": {"source": "frozen", "model": "mlp", "weights": "stage:x", key: value}}, data)


def test_an_average_of_a_frozen_network_is_refused():
    data = Context(3, ImageSpec((4, 4, 1), (0.0,), (1.0,)))
    specs = {
        "teacher": {"source": "frozen", "model": "mlp", "weights": "stage:x"},
        "slow": {"source": "ema", "of": "teacher"},
    }
    with pytest.raises(UserError, match="never moves"):
        build(specs, data)


@pytest.mark.parametrize("narrow", [{"quantize": "int8"}, {"dtype": "bfloat16"}])
def test_differences_of_what_is_rounded_are_refused(narrow):
    data = Context(3, ImageSpec((4, 4, 1), (0.0,), (1.0,)))
    teacher = {"source": "frozen", "model": "mlp", "weights": "stage:x"}
    slope = {"source": "derivative", "of": "teacher", "mode": "difference"}
    assert "slope" in build({"teacher": teacher, "slope": slope}, data)
    assert "slope" in build({"teacher": teacher | narrow, "slope": slope | {"mode": "jvp"}}, data)
    with pytest.raises(UserError, match="rounding noise. Take mode='jvp'"):
        build({"teacher": teacher | narrow, "slope": slope}, data)


@pytest.mark.slow
def test_a_language_model_in_fewer_bits_tells_what_that_costs_over_its_tokens(tmp_path, capsys):
    config = runs.TINY.replace("tiny.py", "language.py")
    whole = configs.read(config) | {"steps": 2}
    whole["stages"] = {name: whole["stages"][name] for name in ("teacher", "live")}
    whole["stages"]["live"]["networks"] = {"teacher": {"dtype": "bfloat16"}, "student": {}}
    run.run(configs.stages(whole), tmp_path)
    told = json.loads((tmp_path / "live" / "done.json").read_text())["reduced"]["teacher"]
    assert told["form"] == "bfloat16"
    assert 0.8 < told["agreement"] <= 1
    assert 0 < told["kl"] < 0.01
    assert "network 'teacher' in bfloat16: accuracy 0." in capsys.readouterr().out
