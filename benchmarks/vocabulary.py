"""Distillation over a large vocabulary: chunked losses against dense ones, alone and in a step of a small decoder.

    python benchmarks/vocabulary.py [--rounds 5] [--write FILE.json]
    python benchmarks/vocabulary.py --losses [--topology v5p:1x1x1 --dtype bfloat16] [--write FILE.json]
    python benchmarks/vocabulary.py --vocabularies 32000 128000 --tokens 1024 --chunk 128 --dtype bfloat16

`--losses` compiles programs that are not run: a loss of 4,096 tokens over 128,000 classes, from hidden
states 256 wide and kernels, with its gradient by the student's. The products are counted in its program
(`train/flops.py`), loops by their trips. With `--topology` they are compiled for one chip of a TPU that is absent, and
time is its compiler's estimate (`jaxdistill/estimate`).

Without it steps are measured. One step is the student's forward and backward pass, the teacher's forward pass and SGD,
by the next token and by `forward_kl`. "dense" compares the logits of all tokens at once (`chunk=0`), "chunked" those of
some at a time (`losses/chunked.py`). Memory is XLA's `compiled.memory_analysis().temp_size_in_bytes`, without arguments
and results, read before anything runs. Times are medians of interleaved pairs after a warm-up. With the defaults, 1,024
tokens, the dense form needs 3 GiB at 128,000 classes besides its parameters.
"""

import argparse
import dataclasses
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import results
import timing
from jax.sharding import SingleDeviceSharding

from jaxdistill import Frozen, Term, Trained, core, make_step
from jaxdistill.core import Method, Output, Unembedding
from jaxdistill.estimate import chips, costs
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.methods.gkd import GKD
from jaxdistill.methods.reverse_kl import ReverseKL
from jaxdistill.models.decoder import Decoder
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.runtime import allocator, topology
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.train import flops
from jaxdistill.train.init import compiler_options, init_state

LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "heads": 4}

LOSSES = {"KL": ForwardKL, "reverse KL": ReverseKL, "JSD": GKD, "cross-entropy": CrossEntropy}
LOSS_TOKENS, LOSS_CLASSES, LOSS_WIDTH = 4096, 128_000, 256


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Figures of a loss and its gradient: bytes, FLOPs of their products, and seconds by a TPU's compiler."""

    memory: int
    products: int
    seconds: float


def analyse_loss(method: Method, dtype: str, target: topology.Topology | None) -> Compiled:
    """Compiles a loss and its gradient for a chip of a topology, or for this machine."""
    place = SingleDeviceSharding(target.devices[0] if target else jax.devices()[0])

    def shape(*sizes: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype), sharding=place)

    states = shape(4, LOSS_TOKENS // 4, LOSS_WIDTH, dtype=dtype)
    output = Output(Unembedding(states, shape(LOSS_WIDTH, LOSS_CLASSES, dtype=dtype)))
    valid = shape(4, LOSS_TOKENS // 4)
    batch = {"label": shape(4, LOSS_TOKENS // 4, dtype="int32"), "mask": shape(4), "valid": valid}

    def loss(student: Output, teacher: Output, batch: core.Batch) -> jax.Array:
        return core.mean(method.apply({}, student, teacher, batch), method.valid(batch))

    gradient = jax.value_and_grad(loss)
    compiled = jax.jit(gradient).lower(output, output, batch).compile()
    memory, counted = compiled.memory_analysis(), flops.count(gradient, output, output, batch)
    seconds = costs.estimate(compiled, chips.find_chip(target), counted, 1).seconds if target else 0.0
    return Compiled(memory.temp_size_in_bytes + memory.output_size_in_bytes, sum(counted.values()), seconds)


def compare_losses(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each loss."""
    target, rows = topology.find(given.topology) if given.topology else None, []
    for name, loss in LOSSES.items():
        dense = analyse_loss(loss(), given.dtype, target)
        for chunk in given.loss_chunk:
            chunked = analyse_loss(loss(chunk=chunk), given.dtype, target)
            row: dict[str, Any] = {"name": name} | ({"chunk": chunk} if len(given.loss_chunk) > 1 else {})
            row |= {"dense MiB": round(dense.memory / 2**20), "chunked MiB": round(chunked.memory / 2**20)}
            row |= {"memory": chunked.memory / dense.memory, "products": chunked.products / dense.products}
            if target:
                row |= {"dense ms": 1e3 * dense.seconds, "chunked ms": 1e3 * chunked.seconds}
                row["time"] = chunked.seconds / dense.seconds
            rows.append(row)
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
    parser.add_argument("--loss-chunk", type=int, nargs="+", default=[64], help="tokens of a chunk of a loss alone")
    parser.add_argument("--topology", default="", help="a chip that losses are compiled for, such as v5p:1x1x1")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    if given.tokens % given.length:
        parser.error(f"--tokens must be a multiple of --length, got {given.tokens} and {given.length}")
    if given.topology and not given.losses:
        parser.error("--topology is for --losses: steps are run")
    if given.topology:
        jax.config.update("jax_platforms", "cpu")
    if given.losses:
        rows = compare_losses(given)
    else:
        rows = [measure(vocabulary, given) for vocabulary in given.vocabularies]
    results.write(given.write, {"": rows})


if __name__ == "__main__":
    main()
