"""Stages of kind "cache", in which a network says once what it has to say, and the networks that read it.

A cache covers the whole training split, whatever part of it or of its labels a stage sees, in the views 0 to
`views - 1` that the stage's `data.augment` makes: augmentation is a function of the seed, the example and the number of
the view, so that the answers belong to exactly the images that a student of the same augmentation and seed sees. Other
splits are cached as they are evaluated, without augmentation. The format is told in `data/cache.py`.

Answers are computed by all devices together, as in an evaluation, and written by all processes, shards in turn. The
batches of a shard depend on it alone, so a cache that is resumed is the same to the byte. Another batch size, or
another number of devices or processes, gives the same answers to float rounding: the same bytes where XLA adds in the
same order, which it promises nowhere.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxdistill import core, networks
from jaxdistill.build import weights
from jaxdistill.build.stage import Stage
from jaxdistill.core import Output
from jaxdistill.data import augment, loader
from jaxdistill.data.output_cache import DTYPES, Cache, Header
from jaxdistill.errors import UserError, check_kind, check_names, unknown
from jaxdistill.losses import chunked, topk
from jaxdistill.networks import dependencies
from jaxdistill.runtime import files, xla_options
from jaxdistill.train import mesh
from jaxdistill.train.checkpoint import flatten

KINDS = ("cache", "classifier")
"""The kinds of stages that make a cache."""

CHUNK = 1 << 24
"""Numbers of logits over a vocabulary that are there at once while their top-k is taken: 64 MiB."""

Ask = Callable[[str, np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


def header(stage: Stage, teacher: Mapping[str, Any]) -> Header:
    """Returns what the cache of a stage will be, from shapes alone.

    Raises:
        UserError: for a setting of `cache` that makes no sense, and a network whose answers cannot be cached.
    """
    spec, data = stage.settings["cache"], stage.settings["data"]
    mixing = [name for name in data["augment"] if name.partition(":")[0] in augment.MIXING]
    if mixing:
        raise UserError(
            f"stage {stage.name!r} caches what is said of one image, and {mixing[0]!r} makes one of two, a function of"
            " the batch; leave it out of data.augment, or teach by the network itself"
        )
    if spec["views"] > 1 and not data["augment"]:
        raise UserError(
            f"stage {stage.name!r}: cache.views={spec['views']} of images that nothing changes would all be the same;"
            " set cache.views=1, or data.augment as the student has it"
        )
    if stage.settings["kind"] == "cache" and spec["network"] in stage.networks:
        reading = [n for n, source in dependencies(stage.networks, [spec["network"]]).items() if source.reads_labels]
        if reading:
            raise UserError(
                f"stage {stage.name!r} caches what {reading[0]!r} says, which depends on labels that a student may not"
                " see; cache its members, and weigh them where they teach"
            )
    roles = spec["splits"] or [*stage.dataset.splits]
    check_names(f"split for stage {stage.name!r}, cache.splits", roles, stage.dataset.splits)
    splits = {role: (len(stage.whole(role)), spec["views"] if role == "train" else 1) for role in roles}
    arrays, classes = _arrays(stage)
    view = {key: value for role in roles for key, value in images(stage, role).items()}
    return Header(arrays, classes, splits, spec["shard"], view, teacher)


def _arrays(stage: Stage) -> tuple[dict[str, tuple[tuple[int, ...], str]], int]:
    """The arrays that a record holds, and how many classes there are."""
    spec = stage.settings["cache"]
    if spec["what"] not in ("logits", "topk"):
        raise unknown(f"thing to cache in stage {stage.name!r}, cache.what", spec["what"], ("logits", "topk"))
    check_names(f"dtype for stage {stage.name!r}, cache.dtype", [spec["dtype"]], DTYPES)
    said = _said(stage)
    if not core.lists_all_classes(said.logits):
        raise UserError(
            f"stage {stage.name!r}: network {spec['network']!r} says {type(said.logits).__name__}, and a cache is made"
            " of logits"
        )
    classes = core.num_classes(said.logits)
    if len(core.prediction_shape(said.logits)) > 1 and spec["what"] == "logits":
        raise UserError(
            f"stage {stage.name!r}: network {spec['network']!r} says {classes} logits of each token, too many for a"
            " disk; set cache.what='topk', and teach by the method top_k with tail='bucket'"
        )
    shapes = jax.eval_shape(lambda said: stored(said, spec), said)
    kinds = {"ids": "uint16" if classes <= 1 << 16 else "int32"}
    return {name: (tuple(x.shape[1:]), kinds.get(name, spec["dtype"])) for name, x in shapes.items()}, classes


def _said(stage: Stage) -> Any:
    """Shapes of what the network to be cached says."""
    if stage.settings["kind"] == "classifier":
        batch = stage.settings["batch"]
        return Output(jax.ShapeDtypeStruct((batch, stage.dataset.classes), jnp.float32))
    name = stage.settings["cache"]["network"]
    check_names(f"network for stage {stage.name!r}, cache.network", [name], stage.networks)
    return stage.outputs[name]


def stored(said: Output, spec: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Returns what is kept of an output, by the names in a record, `[batch, ...]` each."""
    kept = {f"tap/{name}": said.tap(name) for name in spec["taps"]}
    if spec["what"] == "logits":
        return {"logits": said.logits} | kept
    chunk = max(1, CHUNK // core.num_classes(said.logits))
    top = chunked.compare(lambda logits, _: topk.of(logits, spec["k"]), said.logits, None, chunk=chunk)
    return {"values": top.values, "ids": top.ids, "log_rest": top.log_rest} | kept


def images(stage: Stage, role: str, augmented: bool = True) -> dict[str, Any]:
    """What determines the images, or texts, of a split that networks are shown, in plain words."""
    data, split = stage.settings["data"], stage.whole(role)
    if stage.look is None:
        return {f"{role} split": f"{len(split)} texts of {data['name']}, {stage.content(role)}"}
    told = {
        f"{role} split": f"{len(split)} images of {data['name']}, {stage.content(role)}",
        "mean": [round(float(x), 6) for x in stage.look.mean],
        "std": [round(float(x), 6) for x in stage.look.std],
    }
    if role == "train":
        names = data["augment"] if augmented else ()
        told |= {"data.augment": list(names), "seed": stage.data_seed if names else "any"}
    return told


def answers_by(stage: Stage, workdir: pathlib.Path) -> dict[str, Any]:
    """What determines the answers of the stage's network: its settings and the digest of its weights, in plain words.

    Raises:
        UserError: where its weights are not there (yet).
    """
    name = stage.settings["cache"]["network"]
    told = {"cached": name}
    for member, source in dependencies(stage.networks, [name]).items():
        spec = dict(stage.settings["networks"][member])
        if spec.get("weights"):
            spec["weights"] = weights.fingerprint(weights.locate(spec["weights"], member, workdir))
        if member in stage.caches:
            spec["cache"] = Header.read(stage.caches[member].folder).json()["fingerprint"]
        if source.given:
            spec["state"] = files.digest(*(np.asarray(x).tobytes() for x in jax.tree.leaves(flatten(source.given))))
        told[f"network {member}"] = spec
    return told


def of_stage(stage: Stage, told: Mapping[str, Any], workdir: pathlib.Path) -> Cache:
    """The cache that a stage makes, `told` being who answers."""
    return Cache(workdir / stage.name, header(stage, told))


def is_whole(cache: Cache) -> bool:
    """Whether a cache that is said to be done is all there.

    Raises:
        UserError: where it is another, such as one by a teacher that has been trained anew since.
    """
    if (cache.folder / "cache.json").exists():
        cache.check()
        return not _missing(cache)
    return False


def _missing(cache: Cache) -> list[tuple[str, int]]:
    """The shards that are to be written, as the first process finds them: all must go over the same."""
    every = [(role, number) for role in cache.header.splits for number in range(len(cache.header.shards(role)))]
    found = cache.missing() if jax.process_index() == 0 else []
    mask = np.array([shard in found for shard in every])
    if jax.process_count() > 1:
        mask = multihost_utils.broadcast_one_to_all(mask)
    return [shard for shard, wanted in zip(every, mask, strict=True) if wanted]


def fill(cache: Cache, make: Callable[[], Ask], say: Callable[[str], None]) -> dict[str, Any]:
    """Writes what is missing of a cache.

    Args:
        make: returns what is asked, `(role, index, view) -> {name: [n, ...]}`; called if anything is missing.

    Returns:
        What is told in `done.json`.
    """
    if (cache.folder / "cache.json").exists():
        cache.check()
    if jax.process_index() == 0:
        cache.begin()
    shards, missing = sum(len(cache.header.shards(role)) for role in cache.header.splits), _missing(cache)
    if len(missing) < shards:
        say(f"stage {cache.folder.name}: {shards - len(missing)} of {shards} shards are there")
    ask = make() if missing else None
    for role, number in missing:
        examples, views = cache.header.shards(role)[number], cache.header.splits[role][1]
        index = np.repeat(np.arange(examples.start, examples.stop, dtype=np.int32), views)
        answers = ask(role, index, np.tile(np.arange(views, dtype=np.int32), len(examples)))
        if number % jax.process_count() == jax.process_index():
            cache.write(role, number, answers)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"cache {cache.folder.name}")
    told = cache.header.json()
    facts = {"fingerprint": told["fingerprint"], "records": cache.header.records, "bytes": cache.header.bytes}
    return facts | {"splits": told["splits"], "arrays": told["arrays"]}


def network(stage: Stage, known: Mapping[str, Any]) -> Ask:
    """Asks the network of a stage of kind "cache", in inference mode; `known` are the variables of those with any."""
    spec = stage.settings["cache"]
    cast, size = dependencies(stage.networks, [spec["network"]]), stage.evaluation_batch

    def answer(change):
        def run(known, batch):
            return stored(networks.run(cast, known, change(batch), None)[0][spec["network"]], spec)

        return xla_options.jit(run, out_shardings=mesh.replicated(stage.mesh))

    train, clean = answer(stage.augment), answer(stage.prepare)

    def ask(role, index, view):
        said, pending = [], None
        for start in range(0, len(index), size):
            rows = np.arange(start, start + size)
            rows = np.where(rows < len(index), rows, start)[stage.part.rows(size)]
            batch = loader.rows(stage.whole(role), stage.dataset.classes, index[rows], view[rows], stage.answers(role))
            batch |= {"mask": np.ones(len(rows), np.float32)}
            # One batch is under way while the one before is fetched; many at once can starve a CPU's collectives.
            now = (train if role == "train" else clean)(known, mesh.put(stage.mesh, batch))
            said += [jax.device_get(pending)] if pending is not None else []
            pending = now
        said.append(jax.device_get(pending))
        return {name: np.concatenate([part[name] for part in said])[: len(index)] for name in said[0]}

    return ask


def named(name: str, settings: Mapping[str, Any], stages: Mapping[str, Stage], workdir: pathlib.Path):
    """Finds the caches that the networks of a stage read: `{network: Cache}`.

    Args:
        name: of the stage.
        stages: those before it; their caches need not be written yet.

    Raises:
        UserError: where there is none.
    """
    found = {}
    for network, spec in settings["networks"].items():
        if not isinstance(spec, Mapping) or spec.get("source") != "cached" or "cache" not in spec:
            continue
        what = f"stage {name!r}: network {network!r}, cache"
        place = spec["cache"]
        check_kind(what, place, "")
        if not place.startswith("stage:"):
            folder = pathlib.Path(place).expanduser()
            if place and folder.is_dir() and not (folder / weights.DONE).exists():
                raise UserError(f"{what}={place!r} is not finished; give the command that makes it again, it goes on")
            found[network] = Cache(folder, Header.read(folder))
            continue
        if set(place) & {"#", "@"}:
            raise UserError(f"{what}={place!r}: a cache is of one network; write {place.split('#')[0].split('@')[0]!r}")
        source = stages[place.removeprefix("stage:")]
        if source.settings["kind"] not in KINDS:
            raise UserError(
                f"{what}={place!r}: that stage is of kind {source.settings['kind']!r}; caches are made by stages of"
                f" kind {' or '.join(map(repr, KINDS))}"
            )
        found[network] = of_stage(source, {}, workdir)
    return found


def check(stage: Stage) -> None:
    """Raises `UserError` where a stage would read of other images than it shows, or more than there is."""
    _check_buckets(stage)
    kind, spec = stage.settings["kind"], stage.settings["evaluate"]
    shown = {"train": [("train", True)], "components": [("train", False)], "evaluate": []}
    roles = (
        [(role, True) for role in header(stage, {}).splits] if kind in KINDS else shown.get(kind, [("train", False)])
    )
    asked = [(role, augmented, [*stage.networks]) for role, augmented in roles]
    if kind in ("train", "evaluate") and stage.measured:
        compared = [stage.compared] * bool(stage.compared) + [name for pair in stage.pairs for name in pair]
        measured = [*dict.fromkeys([*stage.measured, *compared])]
        asked += [(spec["split"], False, [*dependencies(stage.networks, measured)])]
    for name, cache in stage.caches.items():
        for role, augmented, names in asked:
            if name in names:
                _check_images(stage, name, cache, role, augmented)
        cycle, views = stage.settings["data"]["cycle"], cache.header.splits.get("train", (0, 1))[1]
        if kind == "train" and stage.settings["data"]["augment"] and cycle > views:
            raise UserError(
                f"stage {stage.name!r}: data.cycle={cycle}, and network {name!r} is cached in views={views}; leave it"
                " out, and the views that there are come again"
            )


def _check_images(stage: Stage, name: str, cache: Cache, role: str, augmented: bool) -> None:
    what, header = f"stage {stage.name!r}: network {name!r}", cache.header
    if role not in header.splits:
        raise UserError(
            f"{what} is asked about the {role} split, and {cache.folder} has {[*header.splits]}; add it to cache.splits"
            " where the cache is made"
        )
    wanted = images(stage, role, augmented)
    lines = files.diff_lines(wanted, {key: value for key, value in header.view.items() if key in wanted})
    if lines:
        raise UserError(
            f"{what} would not be asked about the images that it was cached for in {cache.folder}; those here (-) and"
            " those of the cache (+):\n  " + "\n  ".join(lines) + "\nMake both stages agree, or cache it anew for these"
            " images, in another stage"
        )


def _check_buckets(stage: Stage) -> None:
    """What a bucket says is for the methods that take it: no other, no ensemble and no metric does."""
    buckets = [n for n, s in stage.networks.items() if isinstance(s, networks.Cached) and s.tail == "bucket"]
    buckets = [n for n in buckets if "logits" not in stage.caches[n].header.arrays]
    for key, term in stage.terms.items():
        name = next((n for n in buckets if n in (term.student, term.teacher)), "")
        if name and not getattr(term.method, "takes_top_k", False):
            raise UserError(
                f"stage {stage.name!r}: term {key!r} compares logits, and network {name!r} says its likeliest classes;"
                " set tail='uniform' for it, or take method 'top_k'"
            )
    if not buckets:
        return
    used = [other for source in stage.networks.values() for other in source.needs]
    used += [*stage.measured, stage.compared, *(n for pair in stage.pairs for n in pair)] if stage.measured else []
    for name in buckets:
        if name in used:
            raise UserError(
                f"stage {stage.name!r}: network {name!r} says its likeliest classes and no logits, and is measured or"
                " part of another network; set tail='uniform' for that, or evaluate.reference to another network"
            )


def verify(stage: Stage, workdir: pathlib.Path) -> None:
    """Checks, before a stage runs, that its caches are as they were when it was built, and by whom they should be.

    Raises:
        UserError: for a cache that was changed, is damaged, or was made by another teacher than the one expected.
    """
    for name, cache in stage.caches.items():
        spec = stage.settings["networks"][name]
        there = Header.read(cache.folder)
        Cache(cache.folder, dataclasses.replace(cache.header, teacher=there.teacher)).check()
        what = f"stage {stage.name!r}: network {name!r}"
        if not spec["cache"].startswith("stage:") and Cache(cache.folder, there).missing():
            raise UserError(f"{what}: the cache {cache.folder} is damaged; the command that made it mends it")
        if spec.get("teacher"):
            _check_teacher(what, spec["teacher"], there, workdir)


def _check_teacher(what: str, expected: str, there: Header, workdir: pathlib.Path) -> None:
    network = there.teacher.get("cached", "")
    found = there.teacher.get(f"network {network}", {}).get("weights")
    if not found:
        by = dict(there.teacher)
        raise UserError(f"{what}: its cache is not of one network with weights, but of {by}; leave out teacher")
    wanted = weights.fingerprint(weights.locate(expected, network, workdir))
    if wanted != found:
        raise UserError(
            f"{what} was cached by another teacher; the digest of the weights {expected!r} (-) and of the cache's"
            f" (+):\n  - {wanted}\n  + {found}\nCache the teacher anew, or leave out teacher to take what is there"
        )
