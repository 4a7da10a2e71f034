"""Times a KD step by how its teacher speaks: live, with its BatchNorm folded, in fewer bits, or cached in memory.

    python benchmarks/cached.py
    python benchmarks/cached.py --pairs resnet32x4 --batch 128 --rounds 10 --write cached.json

A step gathers its batch (and the cached answers) from arrays on the device by index, without augmentation, as in an
epoch whose views repeat: teacher forward, student forward and backward, SGD with momentum. The reference of the ratios
is the plain live teacher in float32. Weights are random, which changes no time; what the narrow forms cost in accuracy
is told by every run that uses them (`jaxdistill/stages/precision_report.py`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing

from jaxdistill import Frozen, Term, Trained, make_step
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Cached
from jaxdistill.runtime import allocator, xla_options
from jaxdistill.train.init import compiler_options, initial

CLASSES, EXAMPLES = 100, 2_048
PAIRS = {
    "resnet20": (CifarResNet(CLASSES, depth=20), CifarResNet(CLASSES, depth=8)),
    "resnet32x4": (CifarResNet(CLASSES, depth=32, width=4), CifarResNet(CLASSES, depth=8, width=4)),
    "mlp": (MLP(CLASSES, (1200, 1200)), MLP(CLASSES, (128,))),
}
"""name -> (teacher, student)."""


def forms(teacher) -> dict[str, object]:
    """The ways in which a teacher speaks, the reference first."""
    live, half = Frozen(teacher), teacher.clone(dtype=jnp.bfloat16)
    return {
        "live": live,
        "live, folded": dataclasses.replace(live, fold=True),
        "live, folded, bfloat16": Frozen(half, fold=True),
        "live, folded, int8": dataclasses.replace(live, fold=True, quantize="int8"),
        "cached": Cached("teacher", CLASSES),
    }


def held() -> dict[str, jax.Array]:
    """Images, labels and cached answers, on the device."""
    draw = np.random.default_rng(0)
    return {
        "image": jnp.asarray(draw.normal(size=(EXAMPLES, 32, 32, 3)), jnp.float32),
        "label": jnp.asarray(draw.integers(0, CLASSES, EXAMPLES), jnp.int32),
        "cached/teacher/logits": jnp.asarray(draw.normal(size=(EXAMPLES, CLASSES)), jnp.float16),
    }


def stepper(teacher, student, whole, batch: int, steps: int):
    """Returns a call that makes `steps` steps and waits for the last."""
    networks = {"teacher": teacher, "student": Trained(student)}
    terms = {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD(temperature=4.0))}
    tx = optax.sgd(0.05, momentum=0.9, nesterov=True)
    make = make_step(networks, terms, tx)

    def fed(whole, index):
        rows = {"index": index, "view": jnp.zeros_like(index), "mask": jnp.ones(index.shape, jnp.float32)}
        return {name: x[index] for name, x in whole.items()} | rows

    index = np.random.default_rng(1).integers(0, EXAMPLES, (64, batch)).astype(np.int32)
    shapes = jax.eval_shape(fed, whole, index[0])

    def first():
        state, frozen = initial(networks, terms, tx, shapes, jax.random.key(0), {})
        return state, {name: networks[name].reduce(own, shapes) for name, own in frozen.items()}

    state, frozen = jax.jit(first, compiler_options=compiler_options())()
    step = xla_options.jit(lambda state, frozen, whole, index: make(state, frozen, fed(whole, index)), donate_argnums=0)
    known = {"state": state, "done": 0}

    def call():
        for _ in range(steps):
            known["state"], metrics = step(known["state"], frozen, whole, index[known["done"] % len(index)])
            known["done"] += 1
        jax.block_until_ready((known["state"], metrics))

    return call


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument("--pairs", nargs="+", choices=[*PAIRS], default=[*PAIRS])
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=4, help="in a call; an MLP makes 20 times as many")
    given = parser.parse_args()
    tables = {}
    for pair in given.pairs:
        teacher, student = PAIRS[pair]
        for batch in given.batch:
            steps, whole = given.steps * (20 if pair == "mlp" else 1), held()
            calls = {name: stepper(form, student, whole, batch, steps) for name, form in forms(teacher).items()}
            seconds = timing.interleaved(calls, given.rounds)
            tables[f"{pair}, batch {batch}"] = timing.compared(seconds, "live", batch * steps)
    timing.write(given.write, tables)


if __name__ == "__main__":
    main()
