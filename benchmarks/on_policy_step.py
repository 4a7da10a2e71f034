"""The on-policy step: the student writes, the teacher grades, the student learns; against TRL's GKD trainer.

    python benchmarks/on_policy_step.py [--batch 16] [--rounds 5] [--write docs/results/on_policy_step.json]

Llama of 6 layers teaches one of 2, as wide, by JSD(0.5) on texts that the student draws from its own distribution after
prompts of random tokens, lambda = 1 of GKD; AdamW, float32, no dropout, no gradient checkpointing. A step is timed from
the indices of a batch to new weights. TRL's is `training_step` of `GKDTrainer`, which generates by `generate` with a
cache, and its optimizer's step; its loop, which also logs and collates, is not timed. Ours is `make_step` with texts of
`generation.on_policy`, one program, whose loss is of all tokens at once or of 512 at a time; also with `staleness=3`,
where one step of four writes, which is another algorithm.

Before anything is timed, both start from the same weights and take three steps in which the likeliest tokens are
written (top_k = 1 and temperature = 0): texts must be equal, and losses agree. The second table has these losses.

The peers are no dependencies of this project: pip install -r benchmarks/peers.txt. Without them ours is measured alone.
"""

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import our_steps
import results
import timing
from transformer_step import DECAY, OURS, RATE, TRL, Texts, make_module

from jaxdistill import Frozen, Term, Trained, core, make_step
from jaxdistill.generation import on_policy
from jaxdistill.generation.on_policy import OnPolicy
from jaxdistill.methods.gkd import GKD
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.runtime import allocator
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.train.init import init_state

CHUNKED = f"{OURS}, 512 tokens at a time"
STALE = f"{CHUNKED}, staleness=3"
CHUNK = 512
CHECKED = 3
"""Steps whose losses are compared."""


def make_ours(given: Any, texts: Texts, starts: Any, chunk: int = 0, **options: Any) -> our_steps.Steps:
    """Makes our steps, whose loss is of `chunk` tokens at a time, of all for 0; `options` are those of `on_policy`."""
    teacher, student = (make_module(given, layers) for layers in given.layers)
    networks = {"teacher": Frozen(teacher, "tokens"), "student": Trained(student, "tokens")}
    terms = {"gkd": Term(GKD(beta=0.5, temperature=1.0, chunk=chunk))}
    tx = optax.adamw(RATE, weight_decay=DECAY)
    settings = OnPolicy(share=1.0, tokens=given.tokens, prompt=given.prompt, **options)
    batch = jax.eval_shape(lambda: align_next_tokens(texts.make_batch(texts.resident, next(texts.step_inputs(0, 1)))))
    held = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), on_policy.buffer(settings, batch))
    state, frozen = jax.jit(lambda: init_state(networks, terms, tx, batch, key=jax.random.key(0), weights=starts))()
    step = make_step(
        networks, terms, tx, align_next_tokens, write=on_policy.make_write(settings, networks, align_next_tokens)
    )
    return our_steps.Steps(step, dataclasses.replace(state, texts=held), frozen, texts)


def make_theirs(given: Any, texts: Texts, starts: Any) -> Any:
    """Makes TRL's steps from the same weights."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    theirs = importlib.import_module("transformer_torch")
    shape = {"width": given.width, "heads": given.heads, "hidden": given.hidden, "vocabulary": given.vocabulary}

    def make_pair() -> Iterator[Any]:
        for layers, name in zip(given.layers, ("teacher", "student"), strict=True):
            leaves = jax.tree_util.tree_leaves_with_path(starts[name]["params"])
            params = {core.path_name(path): np.asarray(x) for path, x in leaves}
            yield theirs.model("decoder", shape | {"layers": layers, "length": given.length}, params)

    indices = (inputs["index"] for inputs in texts.step_inputs(0, 1_000_000))
    return theirs.TrlOnPolicySteps(*make_pair(), texts.resident, indices, prompt=given.prompt, tokens=given.tokens)


def compare_losses(given: Any, texts: Texts, starts: Any) -> list[dict[str, Any]]:
    """Returns the losses of steps whose texts are the likeliest ones; ends the script if they differ."""
    ours, theirs = make_ours(given, texts, starts, temperature=0.0), make_theirs(given, texts, starts)
    theirs.take_likeliest(True)
    rows = []
    for step in range(CHECKED):
        ours.run(1)
        theirs.run(1)
        our_steps.check(TRL, theirs.losses, ours.losses)
        mine, other = float(ours.losses[0]), float(theirs.losses[0])
        numbers = {OURS: f"{mine:.6f}", TRL: f"{other:.6f}", "relative difference": f"{abs(mine / other - 1):.1e}"}
        rows.append({"name": f"step {step + 1}", **numbers})
    return rows


def main() -> None:
    allocator.keep_freed()  # as every launch does; the peer gains by it too
    parser = timing.make_parser(__doc__, rounds=5)
    parser.add_argument("--layers", type=int, nargs=2, default=[6, 2], metavar=("TEACHER", "STUDENT"))
    sizes = {"batch": 16, "prompt": 32, "tokens": 128, "width": 384, "heads": 6, "hidden": 1536, "vocabulary": 8192}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    given.kind, given.length = "decoder", given.prompt + given.tokens
    texts = Texts(4 * given.batch, given.batch, given.length, given.vocabulary)
    keys = dict(zip(("teacher", "student"), jax.random.split(jax.random.key(0)), strict=True))
    layers, tokens = dict(zip(keys, given.layers, strict=True)), jnp.asarray(texts.resident["tokens"][:1])
    starts = {name: jax.jit(make_module(given, layers[name]).init)(keys[name], tokens) for name in keys}
    # Larger weights than those of the start, whose likeliest tokens are nearly ties.
    starts = jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, starts)
    has_peers = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "trl"))
    losses = compare_losses(given, texts, starts) if has_peers else []
    every = ({TRL: make_theirs(given, texts, starts)} if has_peers else {}) | {
        OURS: make_ours(given, texts, starts),
        CHUNKED: make_ours(given, texts, starts, CHUNK),
        STALE: make_ours(given, texts, starts, CHUNK, staleness=3),
    }
    # Of four steps with staleness one writes.
    seconds = time_interleaved({name: (lambda form=form: form.run(4)) for name, form in every.items()}, given.rounds)
    rows = timing.compare(seconds, TRL if has_peers else OURS, 4 * given.batch, unit="texts")
    rows = [row | {"ms": row["ms"] / 4} for row in rows]
    title = f"On-policy step, Llama of {given.layers[0]} -> {given.layers[1]} layers, {given.width} wide, vocabulary"
    title += f" {given.vocabulary:,}, {given.batch} texts of {given.prompt} + {given.tokens} tokens"
    tables = {f"{title}, ms a step, medians of {given.rounds}": rows}
    results.write(given.write, tables | ({"Losses of steps that write the likeliest tokens": losses} if losses else {}))


if __name__ == "__main__":
    main()
