"""Terms from entries of a config: their networks, fields, and schedules of fields."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import runs
import toys
from jaxdistill.build.terms import build_term
from jaxdistill.config.members import TermConfig
from jaxdistill.errors import UserError
from jaxdistill.methods.kd import kd
from jaxdistill.networks import Frozen, Trained
from jaxdistill.pipeline import run
from jaxdistill.train.step import make_step
from runs import launched, parsed

NETWORKS = {"teacher": Frozen(toys.Net()), "student": Trained(toys.Net())}


def build_kd(spec, steps):
    return build_term("kd", TermConfig.parse(spec, "terms.kd"), steps, NETWORKS)


def test_a_field_may_change_from_step_to_step():
    spec = dict(method="kd", temperature=dict(start=1.0, to=4.0, over=10))
    term = build_kd(spec, 20)
    assert [float(term.method_at(step).temperature) for step in (0, 5, 10, 20)] == [1.0, 2.5, 4.0, 4.0]


def test_the_step_uses_the_field_of_its_own_number():
    spec = dict(method="kd", temperature=dict(start=1.0, to=4.0, over=2))
    terms = {"kd": build_kd(spec, 4)}
    data, tx = toys.batch(), optax.sgd(0.0)
    state, frozen = toys.start(NETWORKS, terms, tx, data)
    said = [toys.Net().apply(v, data["image"]) for v in ({"params": state.params["student"]}, frozen["teacher"])]
    step = jax.jit(make_step(NETWORKS, terms, tx))
    for temperature in (1.0, 2.5, 4.0, 4.0):
        state, metrics = step(state, frozen, data)
        expected = jnp.mean(kd(said[0].logits, said[1].logits, temperature))
        np.testing.assert_allclose(metrics["kd"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        (dict(start=1.0, to=0.0, over=10), "terms.kd.temperature must be greater than 0 and finite, got 0.0"),
        (dict(start=0.0, to=1.0, over=10), "terms.kd.temperature must be greater than 0 and finite, got 0.0"),
        (dict(values=(4.0, 0.0, 4.0), at=(6, 7)), "terms.kd.temperature must be greater than 0 and finite, got 0.0"),
        (dict(start=1.0, till=0.0), "terms.kd.temperature must be a number, a section of"),
    ],
)
def test_a_schedule_of_a_field_is_checked_wherever_it_changes(temperature, message):
    with pytest.raises(UserError, match=message):
        build_kd(dict(method="kd", temperature=temperature), 20)


def test_a_flag_puts_a_number_where_a_schedule_of_a_field_stands(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import runpy\n"
        f"def get_config(mode=''):\n    c = runpy.run_path({runs.TINY!r})['get_config'](mode)\n"
        "    c.terms.kd = dict(method='kd', temperature=dict(start=1.0, to=4.0, over_epochs=0.5))\n    return c\n"
    )
    flags = ("--config.terms.kd.temperature=0", "--plan")
    assert launched(tmp_path / "run", *flags, config=str(file)) == 2
    assert "temperature must be greater than 0 and finite, got 0.0" in capsys.readouterr().err
    built = run.prepare(parsed(config=str(file)), tmp_path)["distil"].terms["kd"]
    assert float(built.method_at(0).temperature) == 1.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            dict(student="studnet"),
            "term 'kd', student must be an existing name, got 'studnet'. Did you mean",
        ),
        (dict(teacher="techer"), "network for term 'kd', teacher must be an existing name, got 'techer'"),
        (dict(teacher="student"), "term 'kd': 'student' cannot be its own teacher"),
        (dict(teacher=""), "term 'kd' needs a teacher; there are"),
        (dict(temperature=-1.0), "terms.kd.temperature must be greater than 0 and finite, got -1.0. Leave it out"),
        (dict(chunk=-3), "terms.kd.chunk must be at least 0 and finite, got -3. Leave it out, which is 0"),
    ],
)
def test_mistakes(changed, message):
    with pytest.raises(UserError, match=message):
        build_kd(dict(method="kd") | changed, 20)


def test_a_method_without_a_teacher_has_none():
    term = build_term("task", TermConfig.parse(dict(method="cross_entropy"), "terms.task"), 20, NETWORKS)
    assert term.teacher is None
    assert float(term.weight(7)) == 1.0
