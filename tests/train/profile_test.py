"""`--profile`: what is recorded is there, can be read, and holds the steps that were asked for."""

import gzip
import json

import pytest

import runs

SINGLE = runs.TINY.replace("tiny.py", "single.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "first", "last", "annotated"),
    [
        pytest.param(["--profile=3"], 2, 4, [2, 3, 4], marks=pytest.mark.slow),
        (["--profile", "--config.steps_per_call=2"], 3, 8, [3, 5, 7]),
    ],
)
def test_a_profile(flags, first, last, annotated, tmp_path, capsys):
    assert runs.launched(tmp_path, *flags, "--config.data.resident=no", config=SINGLE) == 0
    said = capsys.readouterr().err
    found = list((tmp_path / "train" / "profile").rglob("perfetto_trace.json.gz"))
    assert len(found) == 1
    assert f"stage train: profile of steps {first} to {last}: open {found[0]}" in said
    assert list((tmp_path / "train" / "profile").rglob("*.xplane.pb"))
    events = json.loads(gzip.decompress(found[0].read_bytes()))["traceEvents"]
    steps = [int(event["args"]["step_num"]) for event in events if event.get("name") == "train"]
    assert sorted(steps) == annotated
    assert any("jit_one_step" in str(event) or "jit_many_steps" in str(event) for event in events)


def test_too_few_steps_for_a_profile(tmp_path, capsys):
    flags = "--profile", "--config.steps=1", "--config.evaluate.every=0"
    assert runs.launched(tmp_path, *flags, config=SINGLE) == 0
    assert "stage train: too few steps for a profile" in capsys.readouterr().err
    assert not (tmp_path / "train" / "profile").exists()


@pytest.mark.parametrize("value", ["-1", "many"])
def test_an_invalid_number_of_steps(value, tmp_path, capsys):
    assert runs.launched(tmp_path / "run", f"--profile={value}", config=SINGLE) == 2
    assert "flag --profile=" in capsys.readouterr().err
