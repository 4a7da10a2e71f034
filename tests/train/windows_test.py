"""Evaluation in windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.train import windows

IMAGE = jnp.arange(2 * 5 * 7 * 1.0).reshape(2, 5, 7, 1)
BATCH = {"image": IMAGE, "mask": jnp.ones(2), "label": jnp.zeros((2, 5, 7), int)}


def pixelwise(batch):
    """A network of each pixel alone."""
    return {"student": Output(jnp.concatenate([batch["image"], 2 * batch["image"]], -1))}


def borders(batch):
    """A network that adds 1 at the first row of what it is given."""
    first = (jnp.arange(batch["image"].shape[1]) == 0).astype(jnp.float32)
    return {"student": Output(batch["image"] + first[None, :, None, None])}


def test_windows_cover_a_side_and_overlap_by_a_half():
    assert windows.starts(7, 4) == [0, 2, 3]
    assert windows.starts(8, 4) == [0, 2, 4]
    assert windows.starts(4, 4) == [0]


@pytest.mark.parametrize("window", [(5, 7), (2, 4), (5, 3)])
def test_a_network_of_each_pixel_has_the_same_logits_in_windows(window):
    (output,) = windows.in_windows(pixelwise, BATCH, window, ("student",)).values()
    np.testing.assert_allclose(output.logits, pixelwise(BATCH)["student"].logits, rtol=1e-6)


def test_windows_of_the_whole_image_change_nothing():
    (output,) = windows.in_windows(borders, BATCH, (5, 7), ("student",)).values()
    np.testing.assert_array_equal(output.logits, borders(BATCH)["student"].logits)


def test_logits_are_means_over_the_windows_that_hold_a_pixel():
    """Rows of windows of two start at 0, 1, 2 and 3: a first row in one of two windows adds a half."""
    (output,) = jax.jit(lambda batch: windows.in_windows(borders, batch, (2, 7), ("student",)))(BATCH).values()
    added = np.asarray(output.logits - IMAGE)[0, :, 0, 0]
    np.testing.assert_allclose(added, [1, 0.5, 0.5, 0.5, 0], atol=1e-6)


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"evaluate.window must be at most the images' height and width, \(5, 7\)"):
        windows.in_windows(pixelwise, BATCH, (6, 7), ("student",))
    with pytest.raises(UserError, match="evaluate.window must be \\(\\) for network 'student'"):
        windows.in_windows(lambda batch: {"student": Output(jnp.ones((2, 3)))}, BATCH, (2, 2), ("student",))
