"""Distillation over a large vocabulary: chunked losses against dense ones, alone and in a step of a small decoder.

    python benchmarks/vocabulary.py [--rounds 5] [--write FILE.json]
    python benchmarks/vocabulary.py --losses [--write FILE.json]
    python benchmarks/vocabulary.py --vocabularies 32000 128000 --tokens 1024 --chunk 128 --dtype bfloat16

`--losses` compiles programs that are not run: a loss of 4,096 tokens over 128,000 classes, from hidden
states 256 wide and kernels, with its gradient by the student's. The products are counted in its program
(`train/flops.py`), loops by their trips.

Without it steps are measured. One step is the student's forward and backward pass, the teacher's forward pass and SGD,
by the next token and by `forward_kl`. "dense" compares the logits of all tokens at once (`chunk=0`), "chunked" those of
some at a time (`losses/chunked.py`). Memory is XLA's `compiled.memory_analysis().temp_size_in_bytes`, without arguments
and results, read before anything runs. Times are medians of interleaved pairs after a warm-up. With the defaults, 1,024
tokens, the dense form needs 3 GiB at 128,000 classes besides its parameters.
"""

import argparse
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import results
import timing

from jaxdistill import Frozen, Term, Trained, core, make_step
from jaxdistill.core import Method, Output, Unembedding
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.methods.gkd import GKD
from jaxdistill.methods.reverse_kl import ReverseKL
from jaxdistill.models.decoder import Decoder
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.runtime import allocator
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.train import flops
from jaxdistill.train.init import compiler_options, init_state

LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "heads": 4}

LOSSES = {"KL": ForwardKL, "reverse KL": ReverseKL, "JSD": GKD, "cross-entropy": CrossEntropy}
LOSS_TOKENS, LOSS_CLASSES, LOSS_WIDTH = 4096, 128_000, 256


def analyse_loss(method: Method) -> tuple[int, int]:
    """Returns the bytes of a loss and its gradient, compiled, and the FLOPs of their products."""

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, jnp.float32)

    output = Output(Unembedding(shape(4, LOSS_TOKENS // 4, LOSS_WIDTH), shape(LOSS_WIDTH, LOSS_CLASSES)))
    valid = shape(4, LOSS_TOKENS // 4)
    batch = {"label": jax.ShapeDtypeStruct(valid.shape, jnp.int32), "mask": shape(4), "valid": valid}

    def loss(student: Output, teacher: Output, batch: core.Batch) -> jax.Array:
        return core.mean(method.apply({}, student, teacher, batch), method.valid(batch))

    gradient = jax.value_and_grad(loss)
    memory = jax.jit(gradient).lower(output, output, batch).compile().memory_analysis()
    counted = sum(flops.count(gradient, output, output, batch).values())
    return memory.temp_size_in_bytes + memory.output_size_in_bytes, counted


def compare_losses(chunk: int) -> list[dict[str, Any]]:
    """Returns a row for each loss."""
    rows = []
    for name, loss in LOSSES.items():
        (dense, products), (chunked, chunked_products) = analyse_loss(loss()), analyse_loss(loss(chunk=chunk))
        row: dict[str, Any] = {"name": name}
        row |= {"dense MiB": round(dense / 2**20), "chunked MiB": round(chunked / 2**20)}
        rows.append(row | {"memory": chunked / dense, "products": chunked_products / products})
    return rows


def compile_step(vocabulary: int, chunk: int, given: argparse.Namespace) -> tuple[Any, Any, Any, dict[str, jax.Array]]:
    """Compiles a step; returns it with its state, frozen variables and batch."""
    dtype = jnp.dtype(given.dtype)
    networks = {
        "teacher": Frozen(Decoder(vocabulary, **LLAMA, layers=4, width=256, dtype=dtype)),
        "student": Trained(Decoder(vocabulary, **LLAMA, layers=2, width=128, dtype=dtype)),
    }
    terms = {
        "task": Term(CrossEntropy(chunk=chunk), teacher=None),
        "kd": Term(ForwardKL(chunk=chunk)),
    }
    rows = given.tokens // given.length
    tokens = np.random.default_rng(0).integers(0, vocabulary, (rows, given.length))
    batch = {"tokens": jnp.asarray(tokens, jnp.int32), "index": jnp.arange(rows), "mask": jnp.ones(rows)}
    batch = align_next_tokens(batch)
    tx = optax.sgd(1e-2)
    shapes = jax.eval_shape(lambda: batch)
    start = jax.jit(
        lambda: init_state(networks, terms, tx, shapes, key=jax.random.key(0)), compiler_options=compiler_options()
    )
    state, frozen = start()
    compiled = jax.jit(make_step(networks, terms, tx), donate_argnums=0).lower(state, frozen, batch).compile()
    return compiled, state, frozen, batch


class Form:
    """One of the two forms, with the memory and the loss of its step."""

    def __init__(self, vocabulary: int, chunk: int, given: argparse.Namespace):
        self.compiled, self.state, self.frozen, self.batch = compile_step(vocabulary, chunk, given)
        self.memory = self.compiled.memory_analysis().temp_size_in_bytes
        self.loss = 0.0

    def run(self) -> None:
        self.state, metrics = self.compiled(self.state, self.frozen, self.batch)
        self.loss = float(jax.block_until_ready(metrics["loss"]))


def measure(vocabulary: int, given: argparse.Namespace) -> dict[str, Any]:
    """Measures both forms at one vocabulary and returns a row."""
    forms = {"dense": Form(vocabulary, 0, given), "chunked": Form(vocabulary, given.chunk, given)}
    dense, chunked = forms.values()
    seconds = time_interleaved({name: form.run for name, form in forms.items()}, given.rounds)
    if not np.isclose(dense.loss, chunked.loss, rtol=1e-2 if given.dtype == "bfloat16" else 1e-4):
        raise SystemExit(f"the two forms differ: losses {dense.loss} and {chunked.loss}")
    ratios = [left / right for left, right in zip(*seconds.values(), strict=True)]
    row: dict[str, Any] = {"name": f"{vocabulary:,} classes"}
    row |= {f"{name} MiB": round(form.memory / 2**20) for name, form in forms.items()}
    row |= {"dense MiB / chunked MiB": dense.memory / chunked.memory}
    row |= {f"{name} s": statistics.median(taken) for name, taken in seconds.items()}
    return row | {"dense s / chunked s": statistics.median(ratios)}


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=5)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 128_000])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--chunk", type=int, default=128, help="tokens of a chunk in a step")
    parser.add_argument("--losses", action="store_true", help="compile losses alone instead of measuring steps")
    parser.add_argument("--loss-chunk", type=int, default=64, help="tokens of a chunk of a loss alone")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    if given.tokens % given.length:
        parser.error(f"--tokens must be a multiple of --length, got {given.tokens} and {given.length}")
    if given.losses:
        rows = compare_losses(given.loss_chunk)
    else:
        rows = [measure(vocabulary, given) for vocabulary in given.vocabularies]
    results.write(given.write, {"": rows})


if __name__ == "__main__":
    main()
