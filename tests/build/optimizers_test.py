"""Optimizers of networks in a stage: their own settings or the stage's, and mistakes."""

import pytest

import runs
from jaxdistill.build.optimizers import check_sweep
from jaxdistill.errors import UserError
from jaxdistill.pipeline.run import build_stages
from runs import launched

CONFIG = runs.TINY.replace("tiny.py", "students.py")


def test_a_network_has_its_own_optimizer_and_rate_or_the_stages(tmp_path):
    settings = runs.parsed("--config.networks.wide.train=head", config=CONFIG)
    stage = build_stages({name: settings[name] for name in ("teacher", "distil")}, tmp_path)["distil"]
    deep, small, wide = stage.units
    assert (small.networks, small.terms) == (("small",), ("small_hint", "small_task"))
    assert not deep.has_own_optimizer
    assert [unit.spec.name for unit in stage.units] == ["adam", "adam", "sgd"]
    assert [unit.spec.clip for unit in stage.units] == [0.2, 0.5, 0.0]
    assert [[*unit.spec.groups] for unit in stage.units] == [[], [], ["wide.train"]]
    rates = [[float(unit.rate(step)) for step in (0, 6)] for unit in stage.units]
    assert rates == [pytest.approx(values) for values in ([0.01, 0.01], [0.01, 0.01], [0.1, 0.01])]
    assert [*stage.shapes.state.opt_state] == ["deep", "small", "wide"]
    assert [*stage.runs.learning_rates()] == ["rate", "small/rate", "wide/rate"]
    check_sweep("distil", ["learning_rate.to", "optimizer.clip", "seed"], stage.units)
    with pytest.raises(UserError, match=r"stage 'distil': sweep.learning_rate must be used by a network, got \['wide"):
        check_sweep("distil", ["seed", "learning_rate"], [wide])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["optimizer.decay_on=kernle", "optimizer.weight_decay=1"], "networks.wide.optimizer.decay_on must"),
        (["optimizer.learning_rate=1"], "networks.wide.optimizer.learning_rate must be absent, got"),
        (["optimizer.name=adm"], "networks.wide.optimizer.name must be"),
        (["learning_rate.values=-1,0"], "networks.wide.learning_rate must be at least 0 and finite"),
    ],
)
def test_mistakes_in_a_networks_own_optimizer_are_named(tmp_path, capsys, flags, message):
    flags = [f"--config.networks.wide.{flag}" for flag in flags]
    assert launched(tmp_path / "run", *flags, "--plan", config=CONFIG) == 2
    assert message in capsys.readouterr().err
