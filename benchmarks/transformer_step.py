"""The KD step of transformers: this project's against the same models of Hugging Face in PyTorch, and TRL's trainer.

    python benchmarks/transformer_step.py --kind encoder [--batch 16] [--rounds 5] [--write FILE.json]
    python benchmarks/transformer_step.py --kind decoder [--batch 8]

encoder: BERT of 6 layers teaches one of 2, as wide, by 0.1 cross-entropy + 0.9 KD at T = 4 over 4 classes of a text.
decoder: Llama of 6 layers teaches one of 2, as wide, by the forward KL of every next token. AdamW, float32, no
dropout, texts of random tokens without padding, resident on the device.

A whole training step is timed, from the indices of a batch to new weights. Ours is `make_step`, with layers looped
and scanned, for decoders also with the loss computed some tokens at a time, which never holds all logits.
PyTorch's are `BertForSequenceClassification` and `LlamaForCausalLM` with scaled-dot-product attention, in eager mode
and compiled with the loss (and a fused AdamW). TRL's is `training_step` of `GKDTrainer` and its
optimizer's step; its loop, which also logs and collates, is not timed. Before anything is timed, all start from
the same weights and must compute the same losses in three steps.

The peers are no dependencies of this project: pip install -r benchmarks/peers.txt. Without them, or with --alone, ours
is measured alone, and the table has a row for each missing peer.
"""

import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of a GPU's memory, too

import jax
import jax.numpy as jnp
import numpy as np
import optax
import our_steps
import results
import timing

from jaxdistill import Frozen, Term, Trained, core, make_step
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.methods.kd import KD
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.encoder import Encoder
from jaxdistill.runtime import allocator
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.train.init import init_state

CLASSES, CHUNK, RATE, DECAY = 4, 512, 1e-4, 0.01
OURS, EAGER, COMPILED, TRL = "jaxdistill", "PyTorch eager", "PyTorch compiled", "TRL GKDTrainer"


class Texts:
    """Random texts on the device, `[examples, length]`, sampled in order."""

    leading = 0

    def __init__(self, examples: int, batch: int, length: int, vocabulary: int):
        draw = np.random.default_rng(0)
        tokens = draw.integers(0, vocabulary, (examples, length)).astype(np.int32)
        self.resident = {"tokens": tokens, "label": (np.arange(examples) % CLASSES).astype(np.int32)}
        self.batch, self.examples = batch, examples

    def step_inputs(self, start: int, stop: int) -> Iterator[dict[str, np.ndarray]]:
        for step in range(start, stop):
            yield {"index": ((np.arange(self.batch) + step * self.batch) % self.examples).astype(np.int32)}

    @staticmethod
    def make_batch(resident: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        taken = {name: array[inputs["index"]] for name, array in resident.items()}
        return taken | dict(inputs) | {"mask": jnp.ones(inputs["index"].shape, jnp.float32)}


def make_module(given: Any, layers: int, **more: Any) -> Any:
    """Makes our encoder or decoder of a shape."""
    shape = {"layers": layers, "width": given.width, "heads": given.heads, "hidden": given.hidden} | more
    if given.kind == "encoder":
        return Encoder(CLASSES, vocabulary=given.vocabulary, length=given.length, **shape)
    llama = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "tied": False}
    return Decoder(given.vocabulary, length=given.length, **llama, **shape)


def make_steps(given: Any, texts: Texts, starts: Any, chunk: int = 0, **more: Any) -> Any:
    """Makes our steps; `starts` are of looped layers, and are stacked if `more` has `scan`."""
    teacher, student = (make_module(given, layers, **more) for layers in given.layers)
    networks = {"teacher": Frozen(teacher, "tokens"), "student": Trained(student, "tokens")}
    if given.kind == "encoder":
        terms = {"task": Term(CrossEntropy(), teacher=None, weight=lambda now: 0.1)}
        terms |= {"kd": Term(KD(temperature=4.0), weight=lambda now: 0.9)}
    else:
        terms = {"kl": Term(ForwardKL(temperature=1.0, chunk=chunk))}
    tx = optax.adamw(RATE, weight_decay=DECAY)
    batch = jax.eval_shape(lambda: texts.make_batch(texts.resident, next(texts.step_inputs(0, 1))))
    if more.get("scan"):
        starts = {name: {"params": stack_layers(tree["params"])} for name, tree in starts.items()}
    state, frozen = jax.jit(lambda: init_state(networks, terms, tx, batch, key=jax.random.key(0), weights=starts))()
    return our_steps.Steps(make_step(networks, terms, tx), state, frozen, texts, dispatch=given.dispatch)


def stack_layers(params: Any) -> Any:
    """Returns the params of looped layers as those of scanned ones."""
    names = sorted((n for n in params if n.removeprefix("block").isdigit()), key=lambda n: int(n[5:]))
    rest = {name: value for name, value in params.items() if name not in names}
    return rest | {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *(params[name] for name in names))}


def make_peers(given: Any, texts: Texts, starts: Any) -> tuple[dict[str, Any], list[str]]:
    """Returns the steps of the peers by name, and the names of missing packages."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return {}, ["PyTorch and transformers"] + ["TRL"] * (given.kind == "decoder")
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, the default of JAX
    theirs = importlib.import_module("transformer_torch")
    shape = {"width": given.width, "heads": given.heads, "hidden": given.hidden, "classes": CLASSES}
    shape |= {"vocabulary": given.vocabulary, "length": given.length}

    def make_pair() -> Iterator[Any]:
        for layers, name in zip(given.layers, ("teacher", "student"), strict=True):
            leaves = jax.tree_util.tree_leaves_with_path(starts[name]["params"])
            params = {core.path_name(path): np.asarray(x) for path, x in leaves}
            model = theirs.model(given.kind, shape | {"layers": layers}, params)
            assert sum(x.numel() for x in model.parameters()) == sum(x.size for x in params.values())
            yield model

    def indices() -> Iterator[np.ndarray]:
        return (inputs["index"] for inputs in texts.step_inputs(0, 1_000_000))

    forms = {EAGER: "eager", COMPILED: "compiled"} | ({f"{COMPILED}, bfloat16": "bfloat16"} if given.bfloat16 else {})
    data = texts.resident
    peers = {n: theirs.TorchSteps(given.kind, *make_pair(), data, indices(), form) for n, form in forms.items()}
    if given.kind == "encoder":
        return peers, []
    if importlib.util.find_spec("trl") is None:
        return peers, ["TRL"]
    return peers | {TRL: theirs.TrlSteps(*make_pair(), texts.resident, indices())}, []


def make_variants(given: Any, texts: Texts, starts: Any) -> dict[str, Any]:
    """Makes our steps in their forms."""
    variants = {OURS: make_steps(given, texts, starts), f"{OURS}, scanned": make_steps(given, texts, starts, scan=True)}
    if given.kind == "decoder":
        variants[f"{OURS}, scanned, {CHUNK} tokens at a time"] = make_steps(given, texts, starts, CHUNK, scan=True)
    if given.bfloat16:
        variants[f"{OURS}, scanned, bfloat16"] = make_steps(given, texts, starts, scan=True, dtype=jnp.bfloat16)
    return variants


def measure(given: Any, peak: float) -> tuple[str, list[dict[str, Any]]]:
    """Measures all at one size; returns the table's title and rows."""
    texts = Texts(4 * given.batch, given.batch, given.length, given.vocabulary)
    tokens = jnp.asarray(texts.resident["tokens"][:1])
    keys = dict(zip(("teacher", "student"), jax.random.split(jax.random.key(0)), strict=True))
    layers = dict(zip(keys, given.layers, strict=True))
    starts = {name: jax.jit(make_module(given, layers[name]).init)(keys[name], tokens) for name in keys}
    mine = make_variants(given, texts, starts)
    flops = mine[OURS].flops()
    theirs, missing = ({}, []) if given.alone else make_peers(given, texts, starts)
    every = theirs | mine
    for name, form in every.items():
        form.run(max(3, given.dispatch))
        if "bfloat16" not in name:
            first = every[EAGER if theirs else OURS].losses
            our_steps.check(name, form.losses[:3], first[:3])
    steps = given.steps * given.dispatch
    seconds = time_interleaved(
        {name: (lambda form=form: form.run(steps)) for name, form in every.items()}, given.rounds
    )
    reference = EAGER if theirs else OURS
    rows = timing.compare(seconds, reference, steps * given.batch, steps * flops, peak, unit="texts")
    rows += [{"name": f"{name}: not installed, not measured"} for name in missing]
    what = f"{given.kind} of {given.layers[0]} -> {given.layers[1]} layers, {given.width} wide"
    title = f"KD step, {what}, vocabulary {given.vocabulary:,}, batch {given.batch} of {given.length} tokens"
    return f"{title}, {flops / given.batch / 1e9:.3g} GFLOP a text, medians of {given.rounds}", rows


def main() -> None:
    allocator.keep_freed()  # as every launch does; the peers gain by it too
    parser = timing.make_parser(__doc__, rounds=5)
    parser.add_argument("--kind", choices=["encoder", "decoder"], default="encoder")
    parser.add_argument("--layers", type=int, nargs=2, default=[6, 2], metavar=("TEACHER", "STUDENT"))
    for name, default in {"batch": 16, "length": 128, "width": 384, "heads": 6, "steps": 2, "dispatch": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--hidden", type=int, default=0, help="0 for 4 times the width")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--bfloat16", action="store_true", help="also in bfloat16")
    parser.add_argument("--alone", action="store_true", help="no peers")
    given = parser.parse_args()
    given.hidden = given.hidden or 4 * given.width
    peak = timing.measure_peak()
    title, rows = measure(given, peak)
    results.write(given.write, {title: rows}, **{"matrix products, GFLOP/s": round(peak / 1e9)})


if __name__ == "__main__":
    main()
