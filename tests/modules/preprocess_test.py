"""What a network does to images of another size, standardisation or number of channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from jaxdistill.errors import UserError
from jaxdistill.networks import ImageSpec, Preprocess, preprocess
from runs import launched

GREY, COLOUR = ImageSpec((8, 8, 1), (0.5,), (0.25,)), ImageSpec((4, 4, 3), (0.1, 0.2, 0.3), (0.5, 0.4, 0.2))


def test_another_standardisation_is_that_of_the_same_pixels():
    pixels = np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype(np.float32)
    other = ImageSpec((8, 8, 1), (0.3,), (0.1,))
    got = Preprocess(GREY, other)(jnp.asarray((pixels - 0.5) / 0.25))
    np.testing.assert_allclose(got, (pixels - 0.3) / 0.1, rtol=1e-5, atol=1e-5)


def test_size_and_channels():
    """A flat grey image is the same flat colour at any size; grey of colour is its luminance."""
    flat = jnp.full((1, 8, 8, 1), (0.6 - 0.5) / 0.25)
    got = Preprocess(GREY, COLOUR)(flat)
    assert got.shape == (1, 4, 4, 3)
    np.testing.assert_allclose(got[0, 2, 1], [0.5 / 0.5, 0.4 / 0.4, 0.3 / 0.2], rtol=1e-5)
    back = Preprocess(COLOUR, GREY)(jnp.zeros((1, 4, 4, 3)))  # each channel at its mean
    np.testing.assert_allclose(back, (0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.3 - 0.5) / 0.25, rtol=1e-5)
    with pytest.raises(UserError, match="channels must be 1 or 3 to be converted, got 1 to 2"):
        Preprocess(GREY, ImageSpec((8, 8, 2), (0, 0), (1, 1)))


def test_resizing_is_antialiased():
    """Every fourth line is white: a quarter as large, the image is a quarter grey, and no line is lost."""
    lines = jnp.broadcast_to((jnp.arange(16) % 4 == 0).astype(jnp.float32)[None, :, None, None], (1, 16, 16, 1))
    small = Preprocess(ImageSpec((16, 16, 1), (0.0,), (1.0,)), ImageSpec((4, 4, 1), (0.0,), (1.0,)))(lines)
    np.testing.assert_allclose(small[0, 1:-1, 1:-1], 0.25, atol=1e-5)


def test_nothing_is_done_where_nothing_differs():
    assert preprocess(GREY, ImageSpec((8, 8, 1), (0.5,), (0.25,))) is None
    assert preprocess(GREY, ImageSpec((8, 8, 1), (0.5,), (0.3,))) is not None
    assert preprocess(GREY, ImageSpec((9, 8, 1), (0.5,), (0.25,))) is not None


CONFIG = """
from ml_collections import ConfigDict

def get_config(mode=""):
    c = ConfigDict()
    c.batch, c.steps = 32, 3
    c.data = dict(name="digits")
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(8,), weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(4,)),
    )
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd"))
    c.evaluate = dict(metrics=("accuracy", "nll"))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="", preprocess=dict(size=6))),
            terms=dict(task=dict(student="teacher")),
        ),
        distil=dict(data=dict(mean=(0.1,), std=(0.9,))),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={}, student=dict(source="frozen", weights="stage:distil")),
            evaluate=dict(split="validation"),
        ),
    )
    return c
"""


@pytest.mark.slow
def test_a_network_gets_the_images_it_was_trained_on(tmp_path, capsys):
    """The teacher saw 6 x 6 pixels, the student another standardisation: an evaluation on plain digits knows both."""
    (tmp_path / "c.py").write_text(CONFIG)
    assert launched(tmp_path / "run", config=str(tmp_path / "c.py")) == 0
    found = {row["network"]: row for row in runs.results(tmp_path / "run")}
    lines = [line for line in runs.lines(tmp_path / "run") if line.get("split") == "validation"]
    last = {key.split("/")[0]: value for line in lines for key, value in line.items() if key.endswith("/nll")}
    assert found["teacher"]["parameters"] == 36 * 8 + 8 + 8 * 10 + 10
    for name in ("teacher", "student"):
        np.testing.assert_allclose(found[name]["nll"], last[name], rtol=1e-4)
    # Weights out of another run's folder know it as well.
    flag = f"--config.stages.evaluate.networks.student.weights={tmp_path}/run/distil"
    assert launched(tmp_path / "again", flag, config=str(tmp_path / "c.py")) == 0
    again = {row["network"]: row for row in runs.results(tmp_path / "again")}
    np.testing.assert_allclose(again["student"]["nll"], found["student"]["nll"], rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dict(sise=6)", "preprocess.sise"),
        ("dict(channels=3)", "preprocess.channels must come with mean and std of as many numbers, got 3"),
        ("dict(mean=(0.5, 0.5))", "preprocess must have mean and std of 1 numbers, std above 0, got (0.5, 0.5)"),
        ("dict(std=(0.0,))", "std above 0"),
    ],
)
def test_mistakes(tmp_path, capsys, given, message):
    (tmp_path / "c.py").write_text(CONFIG.replace("dict(size=6)", given))
    assert launched(tmp_path / "run", config=str(tmp_path / "c.py")) == 2
    assert message in capsys.readouterr().err


def test_it_is_differentiable():
    slope = jax.grad(lambda x: Preprocess(GREY, COLOUR)(x).sum())(jnp.zeros((1, 8, 8, 1)))
    assert (slope != 0).all()


def test_images_are_resized_by_their_shorter_side_and_cut_as_torchvision_does():
    """A ramp along the width: the centre of the resized image is left, at its own scale."""
    ramp = jnp.broadcast_to(jnp.arange(16.0)[None, None, :, None], (1, 8, 16, 1))
    data, wanted = ImageSpec((8, 16, 1), (0.0,), (1.0,)), ImageSpec((2, 2, 1), (0.0,), (1.0,), shorter_side=4)
    cut = Preprocess(data, wanted)(ramp)
    # 8 x 16 becomes 4 x 8, whose pixels are means of about two; the middle two of eight are left
    np.testing.assert_allclose(cut[0, :, :, 0], [[6.5, 8.5]] * 2, atol=1e-5)
    same = ImageSpec((8, 16, 1), (0.0,), (2.0,), shorter_side=4)
    np.testing.assert_allclose(Preprocess(data, same)(ramp), ramp / 2)  # images of its own shape are not cut


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_other_interpolations(interpolation):
    data, wanted = ImageSpec((4, 4, 1), (0.0,), (1.0,)), ImageSpec((2, 2, 1), (0.0,), (1.0,))
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    bilinear = Preprocess(data, wanted)(image)
    other = Preprocess(data, ImageSpec((2, 2, 1), (0.0,), (1.0,), interpolation=interpolation))(image)
    assert not np.allclose(bilinear, other)
    if interpolation == "nearest":
        assert set(np.asarray(other).ravel()) <= set(range(16))
