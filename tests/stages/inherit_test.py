import pathlib

import numpy as np
import pytest

from tests.runs import launched, weights

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "inherited.py")


@pytest.mark.slow
def test_a_narrow_student_begins_from_its_teacher(tmp_path, capsys):
    assert launched(tmp_path, config=CONFIG) == 0
    assert "student begins from teacher in 31 arrays" in capsys.readouterr().out
    teacher, start, student = (weights(tmp_path, *at) for at in (("teacher", 4), ("start", 1), ("student", 4)))
    table = teacher["params.teacher.embed.embedding"]
    small = start["params.student.embed.embedding"]
    centred = table - table.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)
    # The variance along the first components is that of the table along its principal ones.
    np.testing.assert_allclose(np.linalg.svd(small - small.mean(0), compute_uv=False), values[:8], rtol=1e-3)
    assert (start["params.student.block0.norm1.scale"] == 1).all()
    assert not np.array_equal(student["params.student.embed.embedding"], small)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--config.stages.start.inherit.match=foo"],
            "'start': inherit.match must match an array of both networks, got 'foo'",
        ),
        (
            ["--config.stages.start.inherit.blocks=(1,)"],
            "inherit.blocks must be 2 numbers of blocks of 4, got (1,)",
        ),
        (["--config.stages.start.inherit.match=(("], "match must be a regular expression, got '((' (missing )"),
        (["--config.stages.start.inherit.network=student"], "into must be another network than stage 'start': inherit"),
        (["--config.stages.start.inherit.into=studnt"], "'student'"),
        (["--config.networks.teacher.scan=True"], "networks.teacher.scan must be False in stage 'start'"),
        (["--config.stages.start.networks.student.weights=stage:teacher"], "weights must be '' in stage 'start'"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(tmp_path, capsys, flags, message):
    assert launched(tmp_path, *flags, config=CONFIG) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()
