"""Stages of kind "merge": what they save, what they tell, and which mistakes are found before anything runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from jaxdistill.build import resolve, weights
from jaxdistill.config import load
from jaxdistill.config.references import WeightsRef
from jaxdistill.data import loader
from jaxdistill.errors import UserError
from jaxdistill.merging import rules, weight_matching
from jaxdistill.pipeline import plan
from jaxdistill.pipeline import run as pipeline
from jaxdistill.runtime import files
from jaxdistill.stages import merge as merging
from jaxdistill.stages import merge_checks
from jaxdistill.train import mesh
from merge_runs import MERGED, built, network, settings
from runs import launched


def run(stage, known, folder):
    """Runs a stage; returns what it tells and the variables that it saved."""
    told = merging.merge(stage, jax.device_put(known, mesh.replicated(stage.mesh)), folder / "merge")
    whole = mesh.replicated(stage.mesh)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), stage.shapes.variables["one"]
    )
    return told, weights.read(weights.find_checkpoint(WeightsRef(stage="merge"), "merged", folder), shapes)


@pytest.fixture(scope="module")
def pipeline_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged") / "run"
    assert launched(folder, config=MERGED) == 0
    return folder


@pytest.mark.slow
def test_a_pipeline_merges_and_measures(pipeline_run):
    rows = {row["network"]: row["accuracy"] for row in runs.results(pipeline_run)}
    assert list(rows) == ["teacher", "merged", "soup"]
    told = {name: files.read_json(pipeline_run / name / "done.json", dict) for name in ("merge", "soup")}
    distance = told["merge"]["distance"]["two"]
    assert 0 < distance["after"] < distance["before"]
    soup = told["soup"]
    best = max(soup["accuracy_alone"].values())
    assert soup["accuracy"] >= best
    assert soup["accuracy_alone"][soup["kept_by_soup"][0]] == best


@pytest.mark.slow
def test_the_merged_network_is_the_average_of_the_aligned_ones(pipeline_run):
    stage = built(align=True)
    one, two = (runs.weights(pipeline_run, name, 12) for name in ("one", "two"))
    merged = runs.weights(pipeline_run, "merge", 1)
    names = [name for name in one if name.startswith("params.teacher.")]
    assert {n for n in merged if n.startswith("params.")} == {n.replace("teacher", "merged") for n in names}
    trees = [_tree({n.removeprefix("params.teacher."): x[n] for n in names}) for x in (one, two)]
    spec = merge_checks.find_permutations(stage)
    first, second = weight_matching.match_all(trees, spec, jax.random.key(stage.settings.seed))
    for name in names:
        layer, kind = name.split(".")[-2:]
        expected = (first["params"][layer][kind] + second["params"][layer][kind]) / 2
        np.testing.assert_allclose(merged[name.replace("teacher", "merged")], expected, rtol=1e-5, atol=1e-6)


def _tree(flat):
    tree = {}
    for name, x in flat.items():
        layer, kind = name.split(".")
        tree.setdefault(layer, {})[kind] = x
    return {"params": tree}


def test_the_plan_describes_the_merge():
    assert plan.describe(built())[-1] == "  merge: average of one, two, aligned, as 'merged'"


@pytest.mark.parametrize("rule", rules.RULES)
def test_copies_of_one_network_merge_to_it_bit_for_bit(tmp_path, rule):
    base = {"base": "base"} if rule == "task_arithmetic" else {}
    names = ("one", "two", "three")
    whole = settings(rule=rule, networks=names, align=rule == "average", examples=70, **base)
    whole["stages"]["merge"]["networks"] |= {
        name: dict(like="teacher", weights="stage:one") for name in ("three", *base)
    }
    one = network("", 0)
    told, merged = run(
        resolve.stage("merge", load.stages(whole)["merge"]), dict.fromkeys((*names, *base), one), tmp_path
    )
    jax.tree.map(np.testing.assert_array_equal, merged, one)
    assert told["rule"] == rule
    assert told.get("kept_by_soup", list(names)) == list(names)


def test_a_base_is_the_origin_of_task_vectors_and_of_alignment(tmp_path):
    whole = settings(rule="task_arithmetic", base="base", scale=0.5, align=True)
    whole["stages"]["merge"]["networks"]["base"] = dict(like="teacher", weights="stage:one")
    stage = resolve.stage("merge", load.stages(whole)["merge"])
    base, spec = network("", 0), merge_checks.find_permutations(stage)
    near = [jax.tree.map(lambda x, s=s: x + 0.01 * s * jnp.sign(x), base) for s in (1, 2)]
    moved = [
        weight_matching.apply_permutation(x, spec, weight_matching.random_permutation(x, spec, jax.random.key(i)))
        for i, x in enumerate(near)
    ]
    told, merged = run(stage, {"base": base, "one": moved[0], "two": moved[1]}, tmp_path)
    expected = jax.tree.map(lambda x: x + 0.5 * 0.015 * jnp.sign(x), base)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), merged, expected)
    assert set(told["distance"]) == {"one", "two"}
    assert told["base"] == "base"


@pytest.mark.slow
def test_statistics_are_those_of_the_batches_of_the_training_split(tmp_path):
    stage = built("conv", align=False)
    one, two = network("conv", 0), network("conv", 1)
    told, merged = run(stage, {"one": one, "two": two}, tmp_path)
    assert told["recalibrated"]
    module = stage.networks["one"].module
    size = stage.settings.batch
    batches = loader.Streamed(stage.data.train, stage.settings.seed, size, 10, shard=stage.data.process)
    plain = jax.tree.map(lambda a, b: (a + b) / 2, one, two)
    step = jax.jit(lambda x: module.apply(plain, x, train=True, mutable=["batch_stats"])[1]["batch_stats"])
    total = jax.tree.map(jnp.zeros_like, plain["batch_stats"])
    steps = -(-len(stage.data.train) // size)
    for number in range(steps):
        moved = step(stage.data.prepare(batches[number])["image"])
        total = jax.tree.map(lambda t, new, old: t + (new - 0.9 * old) / 0.1, total, moved, plain["batch_stats"])
    expected = jax.tree.map(lambda t: t / steps, total)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, merged["batch_stats"], expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), merged["params"], plain["params"])


@pytest.mark.slow
def test_statistics_are_averaged_where_they_are_not_recomputed(tmp_path):
    one, two = network("conv", 0), network("conv", 1)
    told, merged = run(built("conv", align=False, recalibrate=False), {"one": one, "two": two}, tmp_path)
    assert not told["recalibrated"]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, one, two)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), merged, expected)


def test_another_stage_must_name_the_merged_network(tmp_path):
    whole = settings()
    whole["stages"]["evaluate"]["networks"]["merged"]["weights"] = "stage:merge#average"
    with pytest.raises(
        UserError, match="trained network in stage 'merge' must be an existing name, got 'average'.*'merged'"
    ):
        pipeline.prepare(load.stages(whole), tmp_path)
    whole["stages"]["evaluate"]["networks"]["merged"] |= {"weights": "stage:merge", "widths": (20, 12)}
    with pytest.raises(UserError, match="is another network"):
        pipeline.prepare(load.stages(whole), tmp_path)
