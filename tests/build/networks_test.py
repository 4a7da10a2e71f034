"""From entries of a config to sources and terms: schedules of fields, heads, probes, reused classifiers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import runs
import toys
from jaxdistill.build.networks import build_networks
from jaxdistill.build.terms import build_term
from jaxdistill.config.members import NetworkConfig, TermConfig
from jaxdistill.errors import UserError
from jaxdistill.methods.kd import kd
from jaxdistill.modules.heads import PCA, Identity, Linear, Paraphraser
from jaxdistill.networks import Context, Derivative, Frozen, Head, ImageSpec, ReusedClassifier, Trained
from jaxdistill.train.step import make_step
from runs import launched

SPECS = {"teacher": dict(source="frozen", model="mlp", weights="x"), "student": dict(source="trained", model="mlp")}
NETWORKS = {"teacher": Frozen(toys.Net()), "student": Trained(toys.Net())}


def made(**entries):
    specs = {name: NetworkConfig.parse(entry, f"networks.{name}") for name, entry in (SPECS | entries).items()}
    return build_networks(specs, Context(3, ImageSpec((8, 8, 1), (0.5,), (0.25,))))


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
        (dict(start=1.0, to=0.0, over=10), "term 'kd': temperature must be greater than 0 and finite, got 0.0"),
        (dict(start=0.0, to=1.0, over=10), "term 'kd': temperature must be greater than 0 and finite, got 0.0"),
        (dict(values=(4.0, 0.0, 4.0), at=(6, 7)), "term 'kd': temperature must be greater than 0 and finite, got 0.0"),
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
    assert launched(tmp_path / "run", "--plan", config=str(file)) == 0


MINE = """import runpy
def get_config(mode=''):
    c = runpy.run_path({tiny!r})['get_config'](mode)
    {lines}
    return c
"""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "c.terms.hint = dict(method='cirkd', layers='pooled')",
            "term 'hint': layers must be maps or tokens, got [64, 8]",
        ),
        (
            "c.terms.hint = dict(method='tinybert')",
            "term 'hint': method TinyBERT cannot compare the outputs of 'student' and 'teacher'",
        ),
        (
            "c.terms.hint = dict(method='fitnet', layers='stage2')",
            "term 'hint': tap must be an existing name, got 'stage2'",
        ),
        ("c.terms.hint = dict(method='fitnet', layers=',')", "term 'hint': layers must name taps"),
        (
            "c.terms.hint = dict(method='crd')",
            "remembers examples=50000 by their index, and the training split has 1077",
        ),
        (
            "c.networks.a = dict(source='derivative', of='student', directions=2)\n"
            "    c.networks.b = dict(source='derivative', of='teacher', directions=3)\n"
            "    c.terms.slope = dict(method='sobolev', student='a', teacher='b')",
            "terms.slope: student and teacher must agree in ['mode', 'directions', 'step', 'seed'], got 'a' with",
        ),
        (
            "c.networks.a = dict(source='derivative', of='student')\n"
            "    c.terms.slope = dict(method='sobolev', student='a', teacher='teacher')",
            "terms.slope: student and teacher must agree in ['mode', 'directions', 'step', 'seed'], got 'a' with",
        ),
        (
            "c.networks.a = dict(source='derivative', of='student', mode='vjp')\n"
            "    c.networks.b = dict(source='derivative', of='teacher', mode='vjp')\n"
            "    c.terms.slope = dict(method='sobolev', student='a', teacher='b')",
            "term 'slope': derivatives along directions must be",
        ),
    ],
)
def test_what_a_method_cannot_compare_is_told_with_its_term(tmp_path, capsys, lines, message):
    file = tmp_path / "mine.py"
    file.write_text(MINE.format(tiny=runs.TINY, lines=lines))
    assert launched(tmp_path / "run", config=str(file)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "teacher").exists()


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
def test_entries_that_make_no_sense(entry, message):
    with pytest.raises(UserError, match=message):
        made(x=entry)
