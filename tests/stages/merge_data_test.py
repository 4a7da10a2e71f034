"""Data of stages that merge."""

import functools

import jax
import numpy as np

from jaxdistill.data import loader
from jaxdistill.merging.fisher import diagonal_fisher
from jaxdistill.stages import merge_data
from jaxdistill.train import mesh
from merge_runs import built, network


def test_the_fisher_is_of_the_first_examples_in_the_order_of_training():
    stage = built(rule="fisher", examples=70)
    variables = network("", 0)
    fisher = merge_data.fisher_of(stage, jax.device_put(variables, mesh.replicated(stage.mesh)))
    batches = loader.Streamed(stage.data.train, stage.settings.seed, 64, 10, shard=stage.data.process)
    mask = {"mask": np.ones(64, np.float32)}
    images = np.concatenate([stage.data.prepare(batches[i] | mask)["image"] for i in (0, 1)])[:70]
    module = stage.networks["one"].module
    batch = {"image": images, "mask": np.ones(70, np.float32), "index": np.arange(70)}

    def apply(params, batch):
        return module.apply({"params": params}, batch["image"]).logits

    expected = diagonal_fisher(apply, variables["params"], [batch], rows=70)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-8), fisher, expected)
