"""The command `jaxdistill worth`."""

import json

import pytest

from jaxdistill import command
from jaxdistill.errors import UserError
from jaxdistill.scaling.command import main, read_place
from ladder_runs import write_ladder


def test_predictions_are_printed_and_written(tmp_path, capsys):
    folder = write_ladder(tmp_path / "s", steps=(50,), examples=(100,), widths=(10, 20, 40, 80))
    out = tmp_path / "out"
    assert command.main(["worth", folder, "--times", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 rungs of parameters 10 to 80, 2 to 2 repetitions of each." in printed
    assert printed.splitlines()[-2:] == [str(out / "worth.json"), str(out / "worth.md")]
    [prediction] = json.loads((out / "worth.json").read_text())["predictions"]
    assert (prediction["place"]["parameters"], prediction["worth"]) == (160.0, "yes")
    assert (out / "worth.md").read_text().startswith("| parameters | examples | steps | distilled nll |")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--control", "alone"], "--student must be given with --control, got --control alone alone. Name both"),
        (["a", "--times", "x"], "invalid float value: 'x'. See jaxdistill worth --help"),
        (["nosuch"], "RUN must be the folder of a run, got 'nosuch'"),
        (["a", "--at", "steps"], "--at must be AXIS=NUMBER,..., got 'steps'"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(UserError, match=message):
        main(words)


def test_the_place_and_the_usage(capsys):
    assert read_place("parameters=9610, steps=1600") == {"parameters": 9610.0, "steps": 1600.0}
    assert (main([]), main(["--help"])) == (2, 0)
    assert "jaxdistill worth RUN RUN ..." in capsys.readouterr().out
