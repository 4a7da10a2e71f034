"""Stages of kind "merge": what they save, what they tell, and which mistakes are found before anything runs."""

import functools
import pathlib

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
from jaxdistill.merging.fisher import diagonal_fisher
from jaxdistill.pipeline import plan
from jaxdistill.pipeline import run as pipeline
from jaxdistill.runtime import files
from jaxdistill.stages import merge as merging
from jaxdistill.stages import merge_checks, merge_data
from jaxdistill.train import mesh
from runs import launched

MERGED = str(pathlib.Path(__file__).parents[1] / "configs" / "merged.py")


def settings(mode="", stage="merge", **merge):
    whole = load.read(f"{MERGED}:{mode}" if mode else MERGED)
    whole["stages"][stage]["merge"] |= merge
    if mode == "conv":
        whole["data"]["subset"]["count"] = 100
    return whole


def built(mode="", **merge):
    return resolve.stage("merge", load.stages(settings(mode, **merge))["merge"])


@functools.cache
def network(mode, seed):
    """Variables of the config's teacher with nothing left at a constant."""
    stage = built(mode)
    module = stage.networks["one"].module
    variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, 8, 8, 1))))(jax.random.key(seed))
    leaves, treedef = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(seed + 100), len(leaves))
    noise = [jax.random.uniform(key, x.shape, minval=-0.1, maxval=0.1) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, [x + n for x, n in zip(leaves, noise, strict=True)])


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


def test_what_is_merged_is_the_average_of_the_aligned(pipeline_run):
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


def test_the_plan_tells_it():
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


def test_a_base_is_what_task_vectors_are_about_and_what_is_aligned_to(tmp_path):
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


def test_the_fisher_looks_at_so_many_examples_in_the_order_of_training():
    stage = built(rule="fisher", examples=70)
    variables = network("", 0)
    found = merge_data.fisher_of(stage, jax.device_put(variables, mesh.replicated(stage.mesh)))
    batches = loader.Streamed(stage.data.train, stage.settings.seed, 64, 10, shard=stage.data.process)
    mask = {"mask": np.ones(64, np.float32)}
    images = np.concatenate([stage.data.prepare(batches[i] | mask)["image"] for i in (0, 1)])[:70]
    module = stage.networks["one"].module
    batch = {"image": images, "mask": np.ones(70, np.float32), "index": np.arange(70)}

    def apply(params, batch):
        return module.apply({"params": params}, batch["image"]).logits

    expected = diagonal_fisher(apply, variables["params"], [batch], rows=70)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-8), found, expected)


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        (dict(networks=("one",)), "merge.networks are two or more"),
        (dict(networks=("one", "one")), "merge.networks are two or more"),
        (
            dict(networks=("one", "tow")),
            "network for stage 'merge', merge.networks must be an existing name, got 'tow'. Did you mean 'two'",
        ),
        (
            dict(rule="averge"),
            "stages.merge.merge.rule must be a merge_rule, got 'averge'. Did you mean 'average'",
        ),
        (dict(into="a#b"), "merge.into='a#b' is the name of the new network"),
        (dict(into="one"), "merge.into='one' is the name of the new network.*none of"),
        (dict(weights=(1.0,)), "a number of 0 or more for each.*merge.networks are"),
        (dict(weights=("1", "2")), "stage 'merge'.*merge.networks are"),
        (dict(rule="ties", networks=("one", "two", "three"), weights=(1, 2, 3)), "rule 'ties' takes no merge.weights"),
        (dict(rule="slerp", base="three"), "rule 'slerp' takes no merge.base"),
        (dict(rule="dare", base="one"), "'one' is merge.base and one of merge.networks"),
        (dict(rule="dare", base="tree"), "merge.base must be an existing name, got 'tree'. Did you mean 'three'"),
        (dict(rule="task_arithmetic"), "about their own mean is their average; name the network"),
        (dict(rule="ties"), "about their own mean is their average; name the network"),
        (dict(density=0.0), "merge.density must be more than 0 and at most 1, got 0.0"),
        (dict(drop=1.0), r"merge.drop must be in \[0, 1\), got 1.0"),
        (dict(scale="1"), "merge.scale must be a number, got '1'"),
        (dict(examples=-1), "merge.examples must be at least 0 and finite, got -1"),
        (dict(rule="soup", split="held"), "held"),
        (dict(networks=("one", "wide")), "'wide', to be merged with 'one'.*\n  - params/dense1"),
        (dict(networks=("one", "both")), "network 'both' has no weights of its own"),
        (
            dict(networks=("linear", "linear2"), align=True),
            "merge.align=True: a network to align must have units whose order is free",
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, merge, message):
    whole = settings()
    whole["stages"]["merge"]["networks"] |= dict(
        three=dict(like="teacher", weights="stage:one"),
        wide=dict(like="teacher", widths=(20, 12), weights=str(tmp_path)),
        linear=dict(like="teacher", widths=(), weights=str(tmp_path)),
        linear2=dict(like="teacher", widths=(), weights=str(tmp_path)),
        both=dict(source="ensemble", of=("one", "two"), model=None),
    )
    del whole["stages"]["merge"]["networks"]["both"]["model"]
    whole["stages"]["merge"]["merge"] |= merge
    with pytest.raises(UserError, match=message):
        resolve.stage("merge", load.stages(whole)["merge"])


def test_another_stage_must_ask_for_what_is_merged(tmp_path):
    whole = settings()
    whole["stages"]["evaluate"]["networks"]["merged"]["weights"] = "stage:merge#average"
    with pytest.raises(
        UserError, match="trained network in stage 'merge' must be an existing name, got 'average'.*'merged'"
    ):
        pipeline.prepare(load.stages(whole), tmp_path)
    whole["stages"]["evaluate"]["networks"]["merged"] |= {"weights": "stage:merge", "widths": (20, 12)}
    with pytest.raises(UserError, match="is another network"):
        pipeline.prepare(load.stages(whole), tmp_path)
