"""What is timed as ours is what training does, and what is timed is one and the same arithmetic."""

import importlib
import sys

import numpy as np
import pytest

from conftest import ROOT
from jaxdistill.train.loop import compile_steps

sys.path.insert(0, str(ROOT / "benchmarks"))
our_steps, residual_step = importlib.import_module("our_steps"), importlib.import_module("residual_step")

CONFIG = f"{residual_step.CONFIG}:resnet20"


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    path = our_steps.write_images(tmp_path_factory.mktemp("images"), examples=104, size=8)
    return [f"--config.data.path={path}", "--config.batch=8", "--config.networks.teacher.depth=8"]


@pytest.fixture(scope="module")
def live(flags):
    return our_steps.build_stage(CONFIG, "live", flags)


@pytest.fixture(scope="module")
def starts(live):
    return residual_step.draw_weights(live)


@pytest.mark.slow
def test_losses_are_those_of_steps_made_by_hand(live, starts):
    steps = our_steps.Steps.of_stage(live, starts)
    assert steps.flops() > 0  # which must not take a batch away
    steps.run(2)
    loader, placed = live.data.loader(), live.runs.shardings()
    state, frozen = live.init(starts)
    one = compile_steps(live.runs.step(), loader.make_batch, live.mesh, placed[0])
    for step, fed in enumerate(loader.step_inputs(0, 2)):
        state, metrics = one(state, frozen, dict(loader.resident), fed)
        np.testing.assert_allclose(steps.losses[step], metrics["loss"], rtol=1e-5)


@pytest.mark.slow
def test_several_steps_at_once_and_a_cached_teacher_give_the_same_numbers(live, starts, flags, tmp_path):
    one, two = (our_steps.Steps.of_stage(live, starts, dispatch) for dispatch in (1, 2))
    cached = our_steps.Steps.of_stage(our_steps.build_cached(CONFIG, flags, starts, tmp_path), starts)
    for steps in (one, two, cached):
        steps.run(2)
    assert 0.7 * one.flops() < cached.flops() < 0.8 * one.flops()  # as large as the student, forward of three
    np.testing.assert_allclose(two.losses, one.losses, rtol=1e-4)
    np.testing.assert_allclose(cached.losses, one.losses, rtol=1e-4)


def test_another_arithmetic_is_not_timed():
    our_steps.check("it", [2.0, 2.0], [2.0001, 2.001])
    with pytest.raises(SystemExit, match=r"it: loss 2.010000 at step 1, expected 2.000000; nothing was timed"):
        our_steps.check("it", [2.0, 2.01], [2.0, 2.0])
    with pytest.raises(SystemExit):
        our_steps.check("it", [float("nan")], [2.0])


@pytest.mark.slow
def test_weights_go_over_to_the_peers_by_name(live, starts):
    torch = pytest.importorskip("torch")
    theirs = importlib.import_module("residual_torch")
    model = theirs.ResNet(8, 1, our_steps.CLASSES)
    theirs.load(model, starts["student"])
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    expected = live.networks["student"].module.apply(starts["student"], image).logits
    with torch.no_grad():
        said = model.eval()(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(said.numpy(), expected, atol=1e-4)
