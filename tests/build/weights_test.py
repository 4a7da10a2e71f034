"""Weights of one network in a checkpoint: the reference, the metadata, and the arrays."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdistill.build import weights
from jaxdistill.build.lanes import lanes_in
from jaxdistill.config import references
from jaxdistill.core import State
from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.train import mesh
from jaxdistill.train.checkpoint import Checkpoints

SPEC = {"shape": [8, 8, 1], "mean": [0.5], "std": [0.25]}
SHAPES = {"params": {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32)}}


def save(folder, lanes=0, networks=("student", "slow"), metadata=None, sign=-1.0):
    """Saves steps 1 and 2 of a student and of its average `slow`, whose values are 100 * step + index."""
    shape = (lanes, 2, 3) if lanes else (2, 3)
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            kernel = 100.0 * step + jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
            slow = {"slow": {"params": {"kernel": sign * kernel}}}
            params = {"student": {"kernel": kernel}}
            state = State(jnp.int32(step), jax.random.key(0), params, slow, optax.sgd(0.1).init(params))
            about = {"networks": list(networks), "lanes": lanes, "image_specs": {"student": SPEC}}
            checkpoints.save(step, state, {}, about if metadata is None else metadata)
        checkpoints.wait()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save(folder / "distil")
    save(folder / "lanes", lanes=3)
    (folder / "lanes" / weights.DONE).write_text(json.dumps({"step": 2, "steps": [1, 2, 1]}))
    return folder


def find(run, text, network="student", lane=None):
    return weights.find_checkpoint(references.parse(text), network, run, lane)


def read(ref):
    whole = mesh.replicated(mesh.make_mesh({"data": -1}))
    return np.asarray(
        weights.read(ref, mesh.structs(SHAPES, jax.tree.map(lambda _: whole, SHAPES)))["params"]["kernel"]
    )


def test_an_unfinished_stage_is_represented_by_its_last_step_and_a_finished_one_by_the_selected(run):
    assert find(run, "stage:distil").step == 2
    assert find(run, f"{run}/distil/checkpoints/1").step == 1
    assert [find(run, f"stage:lanes@{lane}").step for lane in range(3)] == [1, 2, 1]


def test_a_network_is_found_by_its_name_and_the_only_one_by_any(run, tmp_path):
    assert find(run, "stage:distil#slow", "teacher").network == "slow"
    assert find(run, "stage:distil", "slow").network == "slow"
    save(tmp_path / "alone", networks=("student",))
    assert find(tmp_path, "stage:alone", "teacher").network == "student"


def test_arrays_of_a_network_of_its_average_and_of_a_lane(run):
    expected = 200.0 + np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(read(find(run, "stage:distil")), expected)
    np.testing.assert_array_equal(read(find(run, "stage:distil#slow")), -expected)
    np.testing.assert_array_equal(read(find(run, "stage:lanes@2")), 112.0 + np.arange(6).reshape(2, 3))


def test_metadata_of_a_checkpoint(run):
    ref = find(run, "stage:lanes", lane=0)
    assert (lanes_in(ref.metadata), ref.lane) == (3, 0)
    assert ref.image_spec == ImageSpec((8, 8, 1), (0.5,), (0.25,))
    assert find(run, "stage:distil#slow").image_spec is None


@pytest.mark.parametrize(
    ("text", "network", "message"),
    [
        ("stage:none", "student", "weights='stage:none' of network 'student': no checkpoints in"),
        ("stage:distil", "teacher", "must be an existing name, got 'teacher'. There are"),
        ("stage:distil#studnet", "student", "got 'studnet'. Did you mean 'student'"),
        ("{run}/distil/checkpoints/7", "student", r"no step 7 in .*; there are \[1, 2\]"),
        ("stage:lanes", "student", "was trained in 3 lanes; name one, from ...@0 to ...@2"),
        ("stage:lanes@3", "student", "was trained in 3 lanes; name one"),
        ("stage:distil@0", "student", "was not trained in lanes; leave out @0"),
    ],
)
def test_references_without_a_network_are_refused(run, text, network, message):
    with pytest.raises(UserError, match=message):
        find(run, text.format(run=run), network)


def test_a_checkpoint_without_a_list_of_networks_is_refused(tmp_path):
    save(tmp_path / "foreign", metadata={})
    with pytest.raises(UserError, match="has no list of networks; it was probably not written by jaxdistill"):
        find(tmp_path, "stage:foreign")


def test_a_network_of_another_shape_is_refused_without_reading_it(run):
    find(run, "stage:distil").check(SHAPES)
    wider = {"params": {"kernel": jax.ShapeDtypeStruct((2, 4), jnp.float32)}}
    with pytest.raises(UserError, match="kernel"):
        find(run, "stage:distil").check(wider)
    with pytest.raises(UserError, match=r"x is another network; expected \(-\) and there \(\+\):"):
        weights.check_same_shapes("x", SHAPES, wider)
    weights.check_same_shapes("x", SHAPES, SHAPES)


def test_a_fingerprint_depends_on_values_and_lane_and_not_on_the_name(run, tmp_path):
    student = find(run, "stage:distil").fingerprint()
    assert student != find(run, f"{run}/distil/checkpoints/1").fingerprint()
    assert len({find(run, f"stage:lanes@{lane}").fingerprint() for lane in (0, 2)}) == 2
    save(tmp_path / "equal", sign=1.0, metadata={"networks": ["student", "slow"]})
    names = ("student", "slow")
    assert len({find(tmp_path, f"stage:equal#{name}").fingerprint() for name in names}) == 1
    save(tmp_path / "again")
    assert student == find(tmp_path, "stage:again").fingerprint()


def test_weights_of_nan_are_refused_with_the_array_and_its_checkpoint(tmp_path):
    save(tmp_path / "distil", sign=np.nan)
    assert np.isfinite(read(find(tmp_path, "stage:distil#student"))).all()
    with pytest.raises(
        UserError, match=r"network 'slow' in .*distil/checkpoints/2 must be numbers, got NaN in .*kernel"
    ):
        read(find(tmp_path, "stage:distil#slow"))


def test_a_finished_stage_whose_files_are_damaged_or_gone_may_run_again(tmp_path):
    (tmp_path / "distil").mkdir()
    done = tmp_path / "distil" / weights.DONE
    done.write_text("{}")
    with pytest.raises(UserError, match=f"no checkpoints in .*Remove {done}: the stage then runs again"):
        find(tmp_path, "stage:distil")
    save(tmp_path / "distil")
    done.write_text("{")
    with pytest.raises(UserError, match="done.json must be .* Remove it: the stage then goes on from its last"):
        find(tmp_path, "stage:distil")


HEADED = {
    "params": {
        name: {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32)} for name in ("block0", "block1", "block2", "head")
    }
}


def test_blocks_and_a_new_head_of_a_checkpoint(tmp_path):
    kernels = {name: jnp.full((2, 3), float(i)) for i, name in enumerate(HEADED["params"])}
    params = {"student": {name: {"kernel": kernel} for name, kernel in kernels.items()}}
    with Checkpoints(tmp_path / "distil") as checkpoints:
        state = State(jnp.int32(1), jax.random.key(0), params, {}, optax.sgd(0.1).init(params))
        checkpoints.save(1, state, {}, {"networks": ["student"], "lanes": 0})
        checkpoints.wait()
    ref = dataclasses.replace(references.parse("stage:distil"), new_head=True, blocks=(2, 0))
    place = weights.find(ref, "student", tmp_path)
    wanted = {"params": {name: HEADED["params"][name] for name in ("block0", "block1", "head")}}
    wanted["params"]["head"] = {"kernel": jax.ShapeDtypeStruct((2, 7), jnp.float32)}
    place.check(wanted)
    whole = mesh.replicated(mesh.make_mesh({"data": -1}))
    params = weights.read(place, mesh.structs(wanted, jax.tree.map(lambda _: whole, wanted)))["params"]
    assert {name: float(leaf["kernel"][0, 0]) for name, leaf in params.items()} == {"block0": 2.0, "block1": 0.0}
    with pytest.raises(UserError, match=r"params.student.block1"):
        weights.find(dataclasses.replace(ref, blocks=()), "student", tmp_path).check(wanted | {"params": {}})
    weights.check_same_shapes("x", HEADED, wanted, ref)


def test_a_classifier_of_a_checkpoint_is_the_encoder_of_another_network(tmp_path):
    """What it has behind its maps is left out, and what the other network has around it is missing."""
    kernels = {
        name: {"kernel": jnp.full((2, 3), float(i))} for i, name in enumerate(("stem_conv", "final_conv", "head"))
    }
    with Checkpoints(tmp_path / "distil") as checkpoints:
        params = {"student": kernels}
        state = State(jnp.int32(1), jax.random.key(0), params, {}, optax.sgd(0.1).init(params))
        checkpoints.save(1, state, {}, {"networks": ["student"], "lanes": 0})
        checkpoints.wait()
    ref = dataclasses.replace(references.parse("stage:distil"), new_head=True, part="encoder")
    place = weights.find(ref, "student", tmp_path)
    kernel = {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32)}
    wanted = {"params": {"encoder": {"stem_conv": kernel}, "head": kernel}}
    place.check(wanted)
    whole = mesh.replicated(mesh.make_mesh({"data": -1}))
    params = weights.read(place, mesh.structs(wanted, jax.tree.map(lambda _: whole, wanted)))["params"]
    np.testing.assert_array_equal(params["encoder"]["stem_conv"]["kernel"], kernels["stem_conv"]["kernel"])
    assert [*params] == ["encoder"]
    with pytest.raises(UserError, match="stem_conv"):
        place.check({"params": {"encoder": {"other_conv": kernel}}})
