"""A step of distillation of a small decoder over a large vocabulary: chunked losses against dense ones.

    python benchmarks/vocabulary.py
    python benchmarks/vocabulary.py --vocabularies 32000 128000 --tokens 1024 --chunk 128 --dtype bfloat16

One step is the student's forward and backward pass, the teacher's forward pass and SGD, by the next token and by
`forward_kl`. "dense" compares the logits of all tokens at once (`chunk=0`), "chunked" those of some at a time
(`losses/chunked.py`). Memory is what XLA says of the compiled step, `compiled.memory_analysis().temp_size_in_bytes`:
all that is there beside arguments and results; it is read before anything runs. Times are medians of interleaved pairs
after a warm-up. With the defaults, 1,024 tokens, the dense form needs 3 GiB at 128,000 classes beside its parameters.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdistill import Frozen, Term, Trained, make_step
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.methods.next_token_cross_entropy import NextTokenCrossEntropy
from jaxdistill.models.decoder import Decoder
from jaxdistill.runtime import allocator
from jaxdistill.train.init import compiler_options, initial

LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "heads": 4}


def step(vocabulary: int, chunk: int, given: argparse.Namespace):
    """Compiles a step; returns it and what it is called with."""
    dtype = jnp.dtype(given.dtype)
    networks = {
        "teacher": Frozen(Decoder(vocabulary, **LLAMA, layers=4, width=256, dtype=dtype)),
        "student": Trained(Decoder(vocabulary, **LLAMA, layers=2, width=128, dtype=dtype)),
    }
    terms = {
        "task": Term(NextTokenCrossEntropy(chunk=chunk), teacher=None),
        "kd": Term(ForwardKL(chunk=chunk)),
    }
    rows = given.tokens // given.length
    tokens = np.random.default_rng(0).integers(0, vocabulary, (rows, given.length))
    batch = {"tokens": jnp.asarray(tokens, jnp.int32), "index": jnp.arange(rows), "mask": jnp.ones(rows)}
    tx = optax.sgd(1e-2)
    shapes = jax.eval_shape(lambda: batch)
    start = jax.jit(
        lambda: initial(networks, terms, tx, shapes, jax.random.key(0), {}), compiler_options=compiler_options()
    )
    state, frozen = start()
    compiled = jax.jit(make_step(networks, terms, tx), donate_argnums=0).lower(state, frozen, batch).compile()
    return compiled, state, frozen, batch


class Side:
    """One of the two forms, and how long its steps took."""

    def __init__(self, vocabulary: int, chunk: int, given: argparse.Namespace):
        self.compiled, self.state, self.frozen, self.batch = step(vocabulary, chunk, given)
        self.memory = self.compiled.memory_analysis().temp_size_in_bytes
        self.seconds: list[float] = []
        self.loss = 0.0

    def run(self) -> None:
        began = time.perf_counter()
        self.state, metrics = self.compiled(self.state, self.frozen, self.batch)
        self.loss = float(jax.block_until_ready(metrics["loss"]))
        self.seconds.append(time.perf_counter() - began)


def row(vocabulary: int, given: argparse.Namespace) -> str:
    """Measures both forms at one vocabulary and writes a row of the table."""
    dense, chunked = (Side(vocabulary, chunk, given) for chunk in (0, given.chunk))
    for _ in range(1 + given.repeats):
        for side in (dense, chunked):
            side.run()
    if not np.isclose(dense.loss, chunked.loss, rtol=1e-2 if given.dtype == "bfloat16" else 1e-4):
        raise SystemExit(f"the two forms differ: losses {dense.loss} and {chunked.loss}")
    ratios = [one / other for one, other in zip(dense.seconds[1:], chunked.seconds[1:], strict=True)]
    times = [statistics.median(side.seconds[1:]) for side in (dense, chunked)]
    cells = [f"{vocabulary:,}", *(f"{side.memory / 2**20:,.0f}" for side in (dense, chunked))]
    cells += [f"{dense.memory / chunked.memory:.1f}", *(f"{seconds:.2f}" for seconds in times)]
    return "| " + " | ".join([*cells, f"{statistics.median(ratios):.2f}"]) + " |"


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 128_000])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    if given.tokens % given.length:
        parser.error(f"--tokens {given.tokens} are not whole texts of --length {given.length}")
    device = jax.devices()[0]
    print(
        f"{given.tokens} tokens, chunks of {given.chunk}, {given.dtype}, {device.device_kind}, jax {jax.__version__}\n"
    )
    print("| classes | dense MiB | chunked MiB | ratio | dense s | chunked s | dense / chunked |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for vocabulary in given.vocabularies:
        print(row(vocabulary, given), flush=True)


if __name__ == "__main__":
    main()
