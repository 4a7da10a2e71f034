"""The KD step of CIFAR's residual networks: this project's against the same models in PyTorch and in torchdistill.

    python benchmarks/residual_step.py --pair resnet20 --batch 64 128 [--rounds 7] [--write FILE.json]
    python benchmarks/residual_step.py --pair resnet32x4 --batch 64 --ours "bfloat16 teacher" \\
        networks.teacher.dtype=bfloat16

A whole training step is timed, from the indices of a batch to new weights: the images are taken from arrays on the
device and standardised, the teacher predicts, the student learns by 0.1 cross-entropy + 0.9 KD at T = 4 with SGD;
float32, nothing augmented. Ours is the step of a config, dispatched and fed as in training; its cached form reads the
outputs that the stage `cache` of the same config wrote. PyTorch's is the same in eager mode (in NCHW, the layout of
most public code, and in channels_last) and compiled whole; torchdistill's is its own box and loop, whose loader
collates float32 images from memory, one by one. Before anything is timed, all start from the same weights and must
compute the same loss; ours and PyTorch's also after two more steps.

The peers are no dependencies of this project: pip install -r benchmarks/peers.txt. Without them, or with --alone, ours
is measured alone, and the table has a row for each missing peer.
"""

import importlib
import importlib.util
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of a GPU's memory, too

import jax
import numpy as np
import our_steps
import results
import timing

from jaxdistill.runtime import allocator
from jaxdistill.runtime.timing import time_interleaved

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "configs"))
import residual  # noqa: E402

CONFIG = str(HERE / "configs" / "residual.py")
OURS, CACHED, EAGER, TORCHDISTILL = "jaxdistill", "jaxdistill, cached teacher", "PyTorch eager, NCHW", "torchdistill"
FORMS = {EAGER: "eager", "PyTorch eager, channels_last": "channels_last", "PyTorch compiled": "compiled"}
ON_GPU = {"PyTorch compiled, CUDA graphs": "graphs", "PyTorch compiled, bfloat16": "bfloat16"}
RATE = 0.01


def draw_weights(stage: Any) -> dict[str, Any]:
    """Draws weights for both networks; the teacher's statistics are those of a batch, which keeps its logits small."""
    image = jax.random.normal(jax.random.key(1), (32, *stage.data.dataset.shape))
    modules = {name: stage.networks[name].module for name in ("teacher", "student")}
    keys = jax.random.split(jax.random.key(0))
    drawn = {name: jax.jit(module.init)(key, image) for (name, module), key in zip(modules.items(), keys, strict=True)}
    teacher = drawn["teacher"]
    updated = jax.jit(lambda v: modules["teacher"].apply(v, image, train=True, mutable=["batch_stats"])[1])(teacher)
    old, new = teacher["batch_stats"], updated["batch_stats"]
    measured = jax.tree.map(lambda o, n: (n - 0.9 * o) / 0.1, old, new)  # momentum 0.9
    return drawn | {"teacher": {"params": teacher["params"], "batch_stats": measured}}


def draw_indices(stage: Any) -> Iterator[np.ndarray]:
    """Yields the batches of our loader, for the peers."""
    for inputs in stage.data.loader().step_inputs(0, stage.settings.steps):
        yield inputs["index"]


def make_peers(stage: Any, pair: Any, starts: Any, gpu: bool) -> tuple[dict[str, Any], list[str]]:
    """Returns PyTorch's and torchdistill's steps by name, and what is missing here."""
    if importlib.util.find_spec("torch") is None:
        return {}, ["PyTorch", TORCHDISTILL]
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, the default of JAX
    theirs = importlib.import_module("residual_torch")
    arrays = stage.data.loader().resident
    data = {
        "image": np.asarray(arrays["image"]),
        "label": np.asarray(arrays["label"]),
        "classes": stage.data.dataset.classes,
    }
    spec = stage.data.task.image_spec
    data |= {"mean": np.float32(spec.mean), "std": np.float32(spec.std)}
    starts = jax.tree.map(np.asarray, starts)
    forms = FORMS | (ON_GPU if gpu else {})
    peers = {n: theirs.TorchSteps(pair, starts, data, draw_indices(stage), form, RATE) for n, form in forms.items()}
    if importlib.util.find_spec(TORCHDISTILL) is None:
        return peers, [TORCHDISTILL]
    boxed = theirs.torchdistill_steps(pair, starts, data, stage.settings.batch, RATE)
    boxed.losses = compute_first_loss(boxed, data, next(draw_indices(stage)))
    return peers | {TORCHDISTILL: boxed}, []


def compute_first_loss(boxed: Any, data: Any, index: np.ndarray) -> np.ndarray:
    """Returns the loss of torchdistill's box for a batch; its own batches are shuffled."""
    import torch

    image = ((data["image"][index].astype(np.float32) / 255 - data["mean"]) / data["std"]).transpose(0, 3, 1, 2)
    loss = boxed.loss(torch.from_numpy(image.copy()), torch.from_numpy(data["label"][index]).long())
    return np.array([float(loss.detach())])


def make_variants(
    given: Any, flags: list[str], live: Any, starts: Any, *, folder: pathlib.Path, dispatch: int
) -> dict[str, Any]:
    """Makes our steps: of the config, with a cached teacher, and of the settings of `--ours`."""
    variants = {OURS: our_steps.Steps.of_stage(live, starts, dispatch)}
    file = f"{CONFIG}:{given.pair}"
    if not given.live:
        variants[CACHED] = our_steps.Steps.of_stage(
            our_steps.build_cached(file, flags, starts, folder / "cache"), starts, dispatch
        )
    for name, *settings in given.ours:
        variant = our_steps.build_stage(file, "live", [*flags, *(f"--config.{word}" for word in settings)])
        variants[f"{OURS}, {name}"] = our_steps.Steps.of_stage(variant, starts, dispatch)
    return variants


def measure(given: Any, batch: int, folder: pathlib.Path, peak: float) -> tuple[str, list[dict[str, Any]]]:
    """Measures one pair at one batch size; returns the table's title and rows."""
    gpu = jax.default_backend() == "gpu"
    examples = 8192 if gpu else max(512, 2 * batch)
    flags = [f"--config.data.path={our_steps.write_images(folder, examples)}", f"--config.batch={batch}"]
    flags += [f"--config.learning_rate={RATE}"]
    live = our_steps.build_stage(f"{CONFIG}:{given.pair}", "live", flags)
    starts, pair = draw_weights(live), residual.PAIRS[given.pair]
    dispatch = given.dispatch or (32 if gpu else 1)
    ours = make_variants(given, flags, live, starts, folder=folder / f"batch{batch}", dispatch=dispatch)
    flops = ours[OURS].flops()
    theirs, missing = ({}, []) if given.alone else make_peers(live, pair, starts, gpu)
    every = theirs | ours
    variants = {f"{OURS}, {name}" for name, *_ in given.ours}  # which may compute in another precision
    for name, form in every.items():
        if name != TORCHDISTILL:
            form.run(max(3, getattr(form, "dispatch", 1)))
        if name not in variants and "bfloat16" not in name:
            our_steps.check(name, form.losses[:3], every[EAGER if theirs else OURS].losses[:3])
    steps = given.steps or (64 if gpu else 4)
    calls = {name: (lambda form=form: form.run(steps)) for name, form in every.items()}
    seconds = time_interleaved(calls, given.rounds)
    reference = EAGER if EAGER in calls else OURS
    rows = timing.compare(seconds, reference, steps * batch, steps * flops, peak)
    rows += [{"name": f"{name}: not installed, not measured"} for name in missing]
    (depth, width), (student_depth, student_width) = pair
    names = [f"ResNet-{d}{'' if w == 1 else f'x{w}'}" for d, w in ((depth, width), (student_depth, student_width))]
    title = f"KD step, {names[0]} -> {names[1]}, batch {batch}, {steps} steps a call, {flops / batch / 1e9:.3g} GFLOP"
    return f"{title} an image, medians of {given.rounds}", rows


def main() -> None:
    allocator.keep_freed()  # as every launch does; the peers gain by it too
    parser = timing.make_parser(__doc__, rounds=7)
    parser.add_argument("--pair", choices=residual.PAIRS, default="resnet20")
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=0, help="a call; 0 for 4, on a GPU 64")
    parser.add_argument(
        "--dispatch", type=int, default=0, help="steps that ours dispatches at a time; 0 for 1, on a GPU 32"
    )
    parser.add_argument("--ours", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"))
    parser.add_argument("--alone", action="store_true", help="no peers")
    parser.add_argument("--live", action="store_true", help="no cached teacher")
    given = parser.parse_args()
    peak, tables = timing.measure_peak(), {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in given.batch:
            title, rows = measure(given, batch, pathlib.Path(folder), peak)
            tables[title] = rows
            # After each: what follows may be cut off.
            results.write(given.write, tables, **{"matrix products, GFLOP/s": round(peak / 1e9)})


if __name__ == "__main__":
    main()
