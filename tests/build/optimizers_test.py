"""Optimizers of networks in a stage: their own settings or the stage's, and mistakes."""

import pytest

import runs
import toys
from jaxdistill.build.optimizers import build_units, check_sweep, freeze_rest
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.modules.heads import Linear
from jaxdistill.networks import Head, Trained, in_order
from jaxdistill.train.units import learning_rates
from runs import launched

CONFIG = runs.TINY.replace("tiny.py", "students.py")


def test_a_network_has_its_own_optimizer_and_rate_or_the_stages():
    settings = runs.parsed("--config.networks.wide.train=head", config=CONFIG)["distil"]
    sources = {name: Trained(toys.Net()) for name in ("deep", "small", "wide")}
    terms = {name: Term(CrossEntropy(), student=term.student, teacher=None) for name, term in settings.terms.items()}
    deep, small, wide = units = build_units("distil", settings, sources, terms)
    assert (small.networks, small.terms) == (("small",), ("small_hint", "small_task"))
    assert not deep.has_own_optimizer
    assert [unit.spec.name for unit in units] == ["adam", "adam", "sgd"]
    assert [unit.spec.clip for unit in units] == [0.2, 0.5, 0.0]
    assert [[*unit.spec.groups] for unit in units] == [[], [], ["wide.train"]]
    assert [*freeze_rest(settings, sources).optimizer.groups] == []
    rates = [[float(unit.rate(step)) for step in (0, 6)] for unit in units]
    assert rates == [pytest.approx(values) for values in ([0.01, 0.01], [0.01, 0.01], [0.1, 0.01])]
    assert [*learning_rates(units)] == ["rate", "small/rate", "wide/rate"]
    check_sweep("distil", ["learning_rate.to", "optimizer.clip", "seed"], units)
    with pytest.raises(UserError, match=r"stage 'distil': sweep.learning_rate must be used by a network, got \['wide"):
        check_sweep("distil", ["seed", "learning_rate"], [wide])


def test_networks_that_need_each_other_have_one_optimizer():
    settings = runs.parsed("--config.networks.deep.learning_rate=0.1", config=CONFIG)["distil"]
    sources = in_order({"small": Trained(toys.Net()), "deep": Head("small", "pooled", Linear(3))})
    terms = {"task": Term(CrossEntropy(), student="deep", teacher=None)}
    with pytest.raises(UserError, match="networks.deep.learning_rate must be absent beside networks.small.learning"):
        build_units("distil", settings, sources, terms)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(
            ["optimizer.decay_on=kernle", "optimizer.weight_decay=1"],
            "networks.wide.optimizer.decay_on must",
            marks=pytest.mark.slow,
        ),
        (["optimizer.learning_rate=1"], "networks.wide.optimizer.learning_rate must be absent, got"),
        (["optimizer.name=adm"], "networks.wide.optimizer.name must be"),
        (["learning_rate.values=-1,0"], "networks.wide.learning_rate must be at least 0 and finite"),
    ],
)
def test_mistakes_in_a_networks_own_optimizer_are_named(tmp_path, capsys, flags, message):
    flags = [f"--config.networks.wide.{flag}" for flag in flags]
    assert launched(tmp_path / "run", *flags, "--plan", config=CONFIG) == 2
    assert message in capsys.readouterr().err
