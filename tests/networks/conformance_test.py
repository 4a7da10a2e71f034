"""Every source that is found keeps the promises of sources; so does one in a user's package."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.config import registry
from jaxdistill.config.parse import option
from jaxdistill.conformance import promise, sources
from jaxdistill.core import Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks import Ema, Frozen, NetworkRef, Source, required

OPTIONS = {
    "cached": {"cache": "stage:cache"},
    "crossed_head": {"teacher": "b"},
    "frozen": {"model": "cifar_resnet", "depth": 8},
    "function": {"factory": "source_runs:make_linear"},
    "head": {"tap": "pooled"},
    "reused_classifier": {"tap": "map", "teacher": "b"},
    "trained": {"model": "mlp"},
}
"""Keys without a default."""


def check(source, **options):
    """Returns the reasons of the promises of a source that are broken."""
    results = promise.run(sources.PROMISES, lambda: sources.make_subject(source, **options))
    return [result.reason for result in results if result.status == "FAIL"]


@pytest.mark.parametrize("name", registry.names("network"))
def test_every_source_keeps_the_promises(name):
    assert check(registry.find("network", name), **OPTIONS.get(name, {})) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("derivative", {"mode": "vjp"}),
        ("derivative", {"mode": "difference", "directions": 2}),
        ("ensemble", {"weighting": "confidence"}),
        ("ensemble", {"weighting": "entropy", "average": "logits", "member_weights": (1.0, 2.0)}),
        ("head", {"tap": "pooled", "head": "pca", "components": 2}),
        ("head", {"tap": "pooled", "head": "none"}),
        ("head", {"tap": "map", "head": "paraphraser", "frozen": True}),
    ],
)
def test_every_source_keeps_them_in_other_settings(name, options):
    assert check(registry.find("network", name), **options) == []


@pytest.mark.slow
def test_each_promise_is_about_some_source():
    subjects = [sources.make_subject(registry.find("network", name), **OPTIONS.get(name, {})) for name in OPTIONS]
    subjects.append(sources.make_subject(registry.find("network", "ema")))
    results = [promise.run(sources.PROMISES, lambda subject=subject: subject) for subject in subjects]
    assert {result.name for row in results for result in row if result.status == "ok"} == {
        promise.name for promise in sources.PROMISES
    }


MINE = """
import dataclasses

import jax.numpy as jnp

from jaxdistill.config.parse import option
from jaxdistill.core import Output
from jaxdistill.networks import NetworkRef, Source, required


@dataclasses.dataclass(frozen=True)
class Smoothed(Source):
    of: NetworkRef = required("network whose probabilities are smoothed")
    amount: float = option(0.1, "fraction of the uniform distribution", least=0, below=1)

    def __call__(self, variables, batch, outputs, key):
        output = outputs[self.of]
        return Output((1 - self.amount) * output.logits, output.taps), {}
"""


@pytest.fixture
def user_package(tmp_path, monkeypatch):
    (tmp_path / "lab_sources.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "lab_sources:Smoothed"
    sys.modules.pop("lab_sources", None)


def test_a_source_of_a_users_package_keeps_them(user_package):
    assert check(registry.find("network", user_package), amount=0.2) == []


def test_its_keys_are_checked(user_package):
    source = registry.find("network", user_package)
    with pytest.raises(UserError, match="networks.source.amont must be a key of source Smoothed.*'amount'"):
        sources.make_subject(source, amont=0.2)
    with pytest.raises(UserError, match="networks.source.amount must be"):
        sources.make_subject(source, amount=1.0)


@dataclasses.dataclass(frozen=True)
class Broken(Source):
    """A copy of another network with an error."""

    of: NetworkRef = required("network")
    error: str = option("", "name of the error")
    bindings: int = 0

    @property
    def learns(self):
        return self.error == "learns"

    @property
    def differentiable(self):
        return self.error != "gradient"

    def bind(self, networks):
        return dataclasses.replace(self, bindings=self.bindings + 1) if self.error == "bind" else self

    def init(self, key, batch, outputs, variables):
        return {"params": {"w": jnp.ones(3)}} if self.error == "lost" else {}

    def __call__(self, variables: Variables, batch, outputs, key):
        logits = outputs[self.of].logits
        if self.error == "labels":
            logits = logits + batch["label"][:, None]
        if self.error == "training labels" and key is not None:
            logits = logits + batch["label"][:, None]
        if self.error == "rows":
            logits = logits - jnp.mean(logits, 0, keepdims=True)
        if self.error == "half":
            logits = logits.astype(jnp.bfloat16)
        if self.error == "nan":
            logits = logits / 0
        return Output(logits), {"count": {}} if self.error == "changed" else {}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("labels", "inference must not depend on labels"),
        ("training labels", "reads_labels must be True"),
        ("rows", "must keep the rows of a batch apart"),
        ("half", "logits must be float32"),
        ("nan", "logits must be finite"),
        ("lost", "partition must place each array once"),
        ("learns", "learns must be True for a source with params"),
        ("changed", "inference must update nothing"),
        ("bind", "bind must leave a bound source unchanged"),
        ("gradient", "differentiable must be True"),
    ],
)
def test_a_broken_promise_is_found(error, message):
    assert any(message in reason for reason in check(Broken, error=error))
    assert check(Broken) == []


class Half(Ema):
    def follow_array(self, x, base, updates):
        return x.astype(jnp.bfloat16)


class Forgetful(Frozen):
    def for_inference(self, variables, batch):
        return jax.tree.map(jnp.zeros_like, variables)


@dataclasses.dataclass(frozen=True)
class Unexplained(Source):
    factor: float = option(1.0, "")

    def __call__(self, variables, batch, outputs, key):
        return Output(jnp.ones((sources.ROWS, sources.CLASSES))), {}


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (Half, {}, "follow must keep shapes and dtypes"),
        (Forgetful, {"model": "mlp"}, "for_inference must keep the output"),
        (Unexplained, {}, "keys ['factor'] must have a meaning"),
    ],
)
def test_a_broken_promise_of_one_kind_of_source_is_found(source, options, message):
    assert any(message in reason for reason in check(source, **options))
