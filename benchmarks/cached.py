"""Times a KD step by the form of its teacher: live, with its BatchNorm folded, in fewer bits, or cached in memory.

    python benchmarks/cached.py
    python benchmarks/cached.py --pairs resnet32x4 --batch 128 --rounds 10 --write cached.json

A step gathers its batch (and the cached outputs) from arrays on the device by index, without augmentation, as in an
epoch whose views repeat: teacher forward, student forward and backward, SGD with momentum. The reference of the ratios
is the plain live teacher in float32. Weights are random, which changes no time; every run that uses fewer bits reports
their cost in accuracy (`jaxdistill/stages/precision_report.py`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import results
import timing

from jaxdistill import Frozen, Term, Trained, make_step
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Cached
from jaxdistill.runtime import allocator, xla_options
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.train.init import compiler_options, init_state

Arrays = Mapping[str, jax.Array]

CLASSES, EXAMPLES = 100, 2_048
PAIRS = {
    "resnet20": (CifarResNet(CLASSES, depth=20), CifarResNet(CLASSES, depth=8)),
    "resnet32x4": (CifarResNet(CLASSES, depth=32, width=4), CifarResNet(CLASSES, depth=8, width=4)),
    "mlp": (MLP(CLASSES, (1200, 1200)), MLP(CLASSES, (128,))),
}
"""name -> (teacher, student)."""


def make_forms(teacher: Any) -> dict[str, object]:
    """Returns the forms of a teacher, the reference first."""
    live, half = Frozen(teacher), teacher.clone(dtype=jnp.bfloat16)
    return {
        "live": live,
        "live, folded": dataclasses.replace(live, fold=True),
        "live, folded, bfloat16": Frozen(half, fold=True),
        "live, folded, int8": dataclasses.replace(live, fold=True, quantize="int8"),
        "cached": Cached("teacher", CLASSES),
    }


def make_data() -> dict[str, jax.Array]:
    """Returns images, labels and cached outputs, on the device."""
    draw = np.random.default_rng(0)
    return {
        "image": jnp.asarray(draw.normal(size=(EXAMPLES, 32, 32, 3)), jnp.float32),
        "label": jnp.asarray(draw.integers(0, CLASSES, EXAMPLES), jnp.int32),
        "cached/teacher/logits": jnp.asarray(draw.normal(size=(EXAMPLES, CLASSES)), jnp.float16),
    }


def make_call(teacher: Any, student: Any, data: Arrays, *, batch: int, steps: int) -> Callable[[], None]:
    """Returns a call that makes `steps` steps and waits for the last."""
    networks = {"teacher": teacher, "student": Trained(student)}
    terms = {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD(temperature=4.0))}
    tx = optax.sgd(0.05, momentum=0.9, nesterov=True)
    make = make_step(networks, terms, tx)

    def gather(data: Arrays, index: jax.Array) -> Arrays:
        rows = {"index": index, "view": jnp.zeros_like(index), "mask": jnp.ones(index.shape, jnp.float32)}
        return {name: x[index] for name, x in data.items()} | rows

    index = np.random.default_rng(1).integers(0, EXAMPLES, (64, batch)).astype(np.int32)
    shapes = jax.eval_shape(gather, data, index[0])

    def init() -> tuple[Any, Any]:
        state, frozen = init_state(networks, terms, tx, shapes, key=jax.random.key(0))
        return state, {name: networks[name].for_inference(variables, shapes) for name, variables in frozen.items()}

    state, frozen = jax.jit(init, compiler_options=compiler_options())()
    step = xla_options.jit(
        lambda state, frozen, data, index: make(state, frozen, gather(data, index)), donate_argnums=0
    )
    progress = {"state": state, "done": 0}

    def call() -> None:
        for _ in range(steps):
            progress["state"], metrics = step(progress["state"], frozen, data, index[progress["done"] % len(index)])
            progress["done"] += 1
        jax.block_until_ready((progress["state"], metrics))

    return call


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=7)
    parser.add_argument("--pairs", nargs="+", choices=[*PAIRS], default=[*PAIRS])
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=4, help="in a call; an MLP makes 20 times as many")
    given = parser.parse_args()
    tables = {}
    for pair in given.pairs:
        teacher, student = PAIRS[pair]
        for batch in given.batch:
            steps, data = given.steps * (20 if pair == "mlp" else 1), make_data()
            calls = {
                name: make_call(form, student, data, batch=batch, steps=steps)
                for name, form in make_forms(teacher).items()
            }
            seconds = time_interleaved(calls, given.rounds)
            tables[f"{pair}, batch {batch}"] = timing.compare(seconds, "live", batch * steps)
    results.write(given.write, tables)


if __name__ == "__main__":
    main()
