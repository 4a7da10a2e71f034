"""Checkpoints: what Orbax leaves open is closed."""

import contextlib
import errno
import json
import math
import os
import pathlib

import jax
import jax.experimental.multihost_utils
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toys
from jaxdistill.core import State
from jaxdistill.errors import UserError
from jaxdistill.runtime import distributed, mirror
from jaxdistill.train import checkpoint, partitioning
from jaxdistill.train import mesh as sharding
from jaxdistill.train.checkpoint import Checkpoints

# A failed read of Orbax leaves futures behind that nobody awaits.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TX = optax.adam(1e-3)


def make(scale=1.0, width=4):
    params = {"student": {"Dense_0": {"kernel": scale * jnp.arange(8.0 * width).reshape(8, width)}}}
    variables = {"student": {"batch_stats": {"mean": jnp.full(width, scale, jnp.bfloat16), "on": jnp.array(True)}}}
    return State(jnp.int32(3), jax.random.key(1), params, variables, TX.init(params))


def like(state, mesh=None, entries=()):
    mesh = mesh or sharding.make_mesh({"data": -1})
    shapes = jax.eval_shape(lambda: state)
    placed = partitioning.shardings(mesh, shapes, entries)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, placed)


def save(folder, metrics=(0.5,), latest=2):
    with Checkpoints(folder, ["student/accuracy"], "max", latest) as kept:
        for step, value in enumerate(metrics, 1):
            found = {} if value is None else {"student/accuracy": value}
            kept.save(step, make(step), found, {"networks": ["student"]})
        kept.wait()
        return kept.steps, kept.best("student/accuracy")


def restore(folder, step, template):
    with Checkpoints(folder) as kept:
        return kept.restore(step, template)


def test_round_trip_on_another_mesh(tmp_path):
    """Saved replicated, read split over 4 devices: every bit, typed key included."""
    save(tmp_path)
    mesh = sharding.make_mesh({"fsdp": 4}, jax.devices()[:4])
    back = restore(tmp_path, 1, like(make(), mesh, [("kernel", ("fsdp", None))]))
    assert toys.same(back, make(1))
    kernel = back.params["student"]["Dense_0"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (2, 4)
    assert back.key.dtype == jax.random.key(0).dtype


@pytest.mark.parametrize(
    ("metrics", "kept", "best"),
    [
        ((0.1, 0.9, 0.3, 0.8, 0.2), [2, 4, 5], 2),  # the best and the latest two
        ((0.1, 0.5, math.nan, math.nan), [2, 3, 4], 2),  # NaN is never the best
        ((0.1, 0.5, None, None), [2, 3, 4], 2),  # nor a step that was not evaluated
        ((math.nan, None), [1, 2], None),
        ((math.inf, 0.2, 0.1), [2, 3], 2),
    ],
)
def test_latest_and_best_are_kept(tmp_path, metrics, kept, best):
    assert save(tmp_path, metrics) == (kept, best)
    with Checkpoints(tmp_path, ["student/accuracy"]) as again:  # as after a restart
        assert (again.steps, again.best("student/accuracy")) == (kept, best)


def test_lower_is_better(tmp_path):
    with Checkpoints(tmp_path, ["student/nll"], "min", 1) as kept:
        for step, value in enumerate((0.9, 0.1, math.nan, 0.5), 1):
            kept.save(step, make(), {"student/nll": value}, {})
        kept.wait()
        assert (kept.steps, kept.best("student/nll")) == ([2, 4], 2)


def test_leaving_the_block_commits_and_arrays_may_be_donated(tmp_path):
    donate = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    state = make(7)

    def broken():
        with Checkpoints(tmp_path) as kept:
            kept.save(1, state, {}, {"networks": []})
            donate(state.params)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        broken()
    assert toys.same(restore(tmp_path, 1, like(make())), make(7))


def files(folder, step):
    return [p for p in (folder / "checkpoints" / str(step)).rglob("*") if p.is_file()]


def test_a_flipped_byte_is_noticed_and_the_step_before_is_offered(tmp_path):
    save(tmp_path, (0.1, 0.2))
    data = max(files(tmp_path, 2), key=lambda p: p.stat().st_size if p.parent.name == "d" else 0)
    for place in range(0, data.stat().st_size, 97):
        content = bytearray(data.read_bytes())
        content[place] ^= 1
        data.write_bytes(content)
        try:
            back = restore(tmp_path, 2, like(make()))
        except UserError as error:
            assert "damaged" in str(error)
            assert "the step before, 1, may be good: to continue from it, remove" in str(error)
        else:
            assert toys.same(back, make(2))  # the byte was padding of the container
        content[place] ^= 1
        data.write_bytes(content)


def test_a_changed_number_is_named(tmp_path, monkeypatch):
    save(tmp_path, (0.1,))
    honest = checkpoint.metadata

    def forged(folder, step):
        meta = honest(folder, step)
        meta["digests"]["params.student.Dense_0.kernel"] ^= 1
        return meta

    monkeypatch.setattr(checkpoint, "metadata", forged)
    with pytest.raises(UserError, match=r"altered.*params\.student\.Dense_0\.kernel"):
        restore(tmp_path, 1, like(make()))


@pytest.mark.parametrize("size", [0, 10])
def test_half_written(tmp_path, size):
    """Every file cut short, one at a time: a message, or the right numbers, and never a wrong one."""
    save(tmp_path, (0.1, 0.2))
    refused = 0
    for path in files(tmp_path, 2):
        content = path.read_bytes()
        path.write_bytes(content[:size])
        try:
            assert toys.same(restore(tmp_path, 2, like(make())), make(2))
        except UserError as error:
            refused += 1
            assert "damaged" in str(error)
        path.write_bytes(content)
    assert refused >= 3


def test_empty_step_folder(tmp_path):
    save(tmp_path, (0.1,))
    (tmp_path / "checkpoints" / "9").mkdir()
    with pytest.raises(UserError, match=r"step 9 .* is damaged.* the step before, 1, may be good"):
        restore(tmp_path, 9, like(make()))


def test_the_message_for_another_network_lists_what_was_expected_and_what_is_there(tmp_path):
    save(tmp_path)
    with pytest.raises(UserError) as caught:
        restore(tmp_path, 1, like(make(width=5)))
    lines = str(caught.value).splitlines()
    assert "  - params.student.Dense_0.kernel: [[8, 5], 'float32']" in lines
    assert "  + params.student.Dense_0.kernel: [[8, 4], 'float32']" in lines


def test_a_foreign_dtype_is_refused_not_cast(tmp_path):
    save(tmp_path)
    other = make()
    other.params["student"]["Dense_0"]["kernel"] = other.params["student"]["Dense_0"]["kernel"].astype(jnp.bfloat16)
    with pytest.raises(UserError, match="bfloat16"):
        restore(tmp_path, 1, like(other))


def test_missing_step(tmp_path):
    save(tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint of step 5 .* there are \[1\]"):
        restore(tmp_path, 5, like(make()))
    assert checkpoint.steps_in(pathlib.Path(tmp_path / "nowhere")) == []


def test_digest_sees_every_single_change_and_no_mesh():
    mesh = sharding.make_mesh({"fsdp": 8})
    rng = np.random.default_rng(0)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.int8, jnp.uint32, jnp.bool_):
        x = jnp.asarray(rng.integers(0, 2, (16, 4))).astype(dtype)
        split = jax.device_put(x, partitioning.shardings(mesh, x, [("", ("fsdp", None))]))
        digest = checkpoint.digests({"x": x})["x"]
        assert checkpoint.digests({"x": split})["x"] == digest
        changed = {
            checkpoint.digests({"x": x.at[i, 1].set((1 - x[i, 1].astype(jnp.int32)).astype(dtype))})["x"]
            for i in range(16)
        }
        assert digest not in changed
        assert len(changed) == 16
    rows = jnp.arange(6.0).reshape(2, 3)
    assert checkpoint.digests({"x": rows}) != checkpoint.digests({"x": rows[::-1]})  # order counts


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_digest_sees_signs(dtype):
    """The sum of odd multiples of the bits does not see an even number of them."""
    x = jax.random.normal(jax.random.key(0), (8, 4)).astype(dtype)
    one, other = x.at[0, 0].set(1).at[5, 3].set(-1), x.at[0, 0].set(-1).at[5, 3].set(1)
    two = x.at[3, 1].multiply(-1).at[7, 2].multiply(-1)
    values = [checkpoint.digests({"x": y})["x"] for y in (x, -x, one, other, two, -two)]
    assert len(set(values)) == len(values)


def test_digest_sees_both_words_of_64_bits():
    with jax.enable_x64(True):
        x = jnp.arange(4)
        assert x.dtype == jnp.int64
        values = [
            checkpoint.digests({"x": y})["x"] for y in (x, x.at[2].add(1), x.at[2].add(2**40), x.at[1].add(2**40))
        ]
    assert len(set(values)) == 4


@pytest.mark.parametrize("shape", [(64, 64), (3, 4099)])
def test_a_large_array_is_stored_in_pieces(shape, tmp_path):
    """A reader of a part need not read all, on whichever mesh the array was saved."""
    state = {"kernel": jax.device_put(jnp.ones(shape), jax.devices()[0])}
    with checkpoint.Checkpoints(tmp_path, chunk_bytes=2**13) as kept:
        kept.save(1, state, {}, {})
    (file,) = (tmp_path / checkpoint.FOLDER / "1" / "state" / "array_metadatas").iterdir()
    (told,) = json.loads(file.read_text())["array_metadatas"]
    assert 4 * math.prod(told["array_metadata"]["chunk_shape"]) <= max(2**13, 4 * 4099)


def test_a_step_without_permission_is_not_called_damaged(tmp_path, monkeypatch):
    step = tmp_path / "checkpoints" / "8"
    step.mkdir(parents=True)
    usual = os.scandir

    def scan(path):
        if pathlib.Path(path) == step:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path)

    assert "is damaged" in str(checkpoint.damage(tmp_path / "checkpoints", 8, "meta not found"))
    monkeypatch.setattr(os, "scandir", scan)
    message = str(checkpoint.damage(tmp_path / "checkpoints", 8, "meta not found"))
    assert f"{step} must be readable and writable for this user" in message
    assert "remove" not in message


def test_a_save_is_no_call_of_the_sync_point_of_preemption(tmp_path, monkeypatch):
    """Its number would be the step's, and JAX agrees on a stop by the number of the last call: a stop never reached."""
    calls = []
    monkeypatch.setattr(jax.experimental.multihost_utils, "reached_preemption_sync_point", calls.append)
    save(tmp_path, (0.1, 0.5, 0.3))
    assert calls == []


@pytest.fixture
def private(tmp_path, monkeypatch):
    """A folder that other processes do not see."""
    monkeypatch.setattr(mirror, "is_private", lambda folder: folder.is_relative_to(tmp_path))
    return tmp_path


def split(scale):
    """A state whose kernels are sharded over four devices."""
    mesh = sharding.make_mesh({"fsdp": 4}, jax.devices()[:4])
    placed = partitioning.shardings(mesh, jax.eval_shape(make), [("kernel", ("fsdp", None))])
    return jax.tree.map(jax.device_put, make(scale), placed)


def test_the_first_process_saves_whole_arrays_where_others_do_not_see_them(private):
    donate = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    with Checkpoints(private, ["student/accuracy"]) as kept:
        for step, value in enumerate((0.9, 0.1, 0.2, 0.3), 1):
            state = split(step)
            kept.save(step, state, {"student/accuracy": value}, {})
            donate({name: getattr(state, name) for name in ("params", "variables", "opt_state")})
        kept.wait()
        assert (kept.steps, kept.best("student/accuracy")) == ([1, 3, 4], 1)
    for step in (1, 4):
        assert toys.same(restore(private, step, like(make())), make(step))


def test_another_process_saves_nothing_and_has_what_the_first_finds(private, monkeypatch):
    """Without a manager, whatever is in its folder; here a checkpoint that is damaged."""
    (private / checkpoint.FOLDER / "4" / "metrics").mkdir(parents=True)
    (private / checkpoint.FOLDER / "4" / "metrics" / "metrics").write_text("{")
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(distributed, "from_first_process", lambda text: {"": "[1, 3]"}[text])
    with Checkpoints(private, ["student/accuracy"]) as kept:
        assert kept.steps == kept.best("student/accuracy") == [1, 3]
        kept.save(5, split(5), {}, {})
        kept.wait()
    assert os.listdir(private / checkpoint.FOLDER) == ["4"]


def test_the_error_of_a_damaged_checkpoint_is_raised_by_all(private, monkeypatch):
    (private / checkpoint.FOLDER / "4" / "metrics").mkdir(parents=True)
    (private / checkpoint.FOLDER / "4" / "metrics" / "metrics").write_text("{")
    entered = []

    @contextlib.contextmanager
    def refuse_together():
        entered.append(True)
        yield

    monkeypatch.setattr(distributed, "refuse_together", refuse_together)
    with pytest.raises(UserError, match="the checkpoint of step 4 in .* is damaged"):
        Checkpoints(private, ["student/accuracy"])
    assert entered
