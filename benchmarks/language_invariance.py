"""Changes of losses of language models by what must not change them: packing, padding, parts of a batch, caches.

    python benchmarks/language_invariance.py [--methods kd gkd ...] [--write docs/results/language_invariance.json]

Eight texts with answers, of 4 to 8 tokens, are learned by a decoder of one layer from another one, in float32. Each row
is a method that compares logits of tokens, with its defaults. A column is the relative change of the loss, or of the
gradient by the student's parameters (norm of the difference over norm), of the same texts

    packed             in 4 rows of 16 tokens, which each hold several (`data/packing.py`)
    padded left/right  with 3 columns of other tokens before, or after them
    accumulated        in 2 micro-batches
    chunked            5 predictions at a time (`losses/chunked.py`)
    padded vocabulary  with 5 more tokens in both networks, which are cut off (`keep_classes`)
    devices            on 4 devices
    cached             with the teacher's hidden states from a cache

through the loss of the training step (`train/step.py`); all methods are terms of one, each with a student of its own of
the same weights. "-" is what a method refuses: one that compares predictions with each other (`needs_whole_batch`) has
no parts, and one of texts that the student writes has no packed rows. Changes are in units of 1e-7.
"""

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import jax
import jax.numpy as jnp
import numpy as np
import optax
import results
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxdistill.config import registry
from jaxdistill.core import Batch, Method, Output, Term, Variables, fold_in
from jaxdistill.data.packing import Packed, first_fit
from jaxdistill.data.tokenized_texts import FIELDS, TokenizedTexts
from jaxdistill.data.tokenizers import Tokens
from jaxdistill.models.decoder import Decoder
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.networks import Cached, Frozen, Source, Trained
from jaxdistill.networks.options import NetworkRef
from jaxdistill.networks.source import Outputs
from jaxdistill.train import mesh
from jaxdistill.train.init import init_state
from jaxdistill.train.step import accumulated, make_loss

TEXTS, LENGTH, VOCABULARY, MORE, DEVICES = 8, 8, 19, 5, 4
STYLE = {"layers": 1, "heads": 2, "positions": "rotary", "norm": "rms", "tied": False}
WIDTHS = {"student": 8, "teacher": 12}
DRAWS = ("random_sampling",)
"""Methods whose values are random numbers of each row; their means do not change."""

UNIT = 1e-7
"""The unit of the changes in the file of results."""

LOSS, GRADIENT = 1e-6, 1e-5
"""Bounds of the relative changes."""

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to compute the loss of the texts.

    Attributes:
        batch: aligned.
        networks: by name.
        variables: of the networks, by name.
        chunk: predictions that are compared at a time; 0 for all.
        parts: micro-batches.
        devices: number of devices.
    """

    batch: Batch
    networks: Mapping[str, Source]
    variables: Mapping[str, Tree]
    chunk: int = 0
    parts: int = 1
    devices: int = 1


def list_methods() -> list[str]:
    """Returns the methods that compare logits of tokens, which are classes."""
    members = {name: registry.find("method", name) for name in registry.names("method") if name not in DRAWS}
    return [name for name, x in members.items() if issubclass(x, LogitsMethod) and "classes" in x.predictions]


def is_possible(method: Method, form: str) -> bool:
    """Returns whether a method permits a form."""
    is_of_parts = form in ("accumulated", "chunked")
    return not (method.needs_whole_batch and is_of_parts) and not (method.needs_samples and form == "packed")


def make_texts() -> TokenizedTexts:
    """Returns the texts; about half of the tokens of each are its answer."""
    draw = np.random.default_rng(0)
    counts = draw.integers(4, LENGTH + 1, TEXTS)
    total = counts.sum()
    starts = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(total) - np.repeat(starts[:-1], counts)
    tokens = Tokens(
        draw.integers(0, VOCABULARY, total).astype(np.int32),
        np.zeros(total, np.int8),
        np.zeros(total, np.int32),
        starts,
    )
    learned = (place >= np.repeat(counts // 2, counts)).astype(np.int8)
    return TokenizedTexts(tokens, np.full(TEXTS, -1, np.int32), LENGTH, answers={"": learned})


def align(fields: Mapping[str, np.ndarray]) -> Batch:
    """Returns the batch of all rows of a split."""
    rows = len(fields["tokens"])
    arrays = {name: jnp.asarray(x) for name, x in fields.items()}
    return align_next_tokens(arrays | {"mask": jnp.ones(rows), "index": jnp.arange(rows), "view": jnp.zeros(rows, int)})


def pad(batch: Batch, left: int, right: int) -> Batch:
    """Returns a batch with columns of other tokens beside its texts."""
    fields = {name: x for name, x in batch.items() if name in FIELDS and name != "word"}
    padded = {
        name: np.pad(x, ((0, 0), (left, right)), constant_values=7 * (name == "tokens")) for name, x in fields.items()
    }
    return align({**padded, "label": np.full(len(batch["tokens"]), -1)})


def make_decoder(name: str, classes: int = VOCABULARY) -> Decoder:
    return Decoder(classes, width=WIDTHS[name], **STYLE)


def draw_variables(name: str, batch: Batch) -> Tree:
    """Returns weights of a spread at which predictions differ; a compiled initialisation would take longer."""
    draw = np.random.default_rng(len(name))
    shapes = jax.eval_shape(make_decoder(name).init, jax.random.key(0), batch["tokens"])
    return jax.tree.map(lambda x: jnp.float32(draw.normal(0.1 + (x.ndim == 1), 0.4, x.shape)), shapes)


def widen(variables: Tree) -> Tree:
    """Returns weights with rows for further tokens."""
    flat = flatten_dict(variables, sep="/")
    draw = np.random.default_rng(9)
    for name, axis in (("params/embed/embedding", 0), ("params/head/kernel", 1)):
        shape = list(flat[name].shape)
        shape[axis] = MORE
        flat[name] = jnp.concatenate([flat[name], jnp.float32(draw.normal(size=shape))], axis)
    return unflatten_dict(flat, sep="/")


def narrow(gradient: Tree, like: Tree) -> tuple[Tree, list[jax.Array]]:
    """Returns a gradient without the rows of further tokens, and these rows."""
    flat, expected, rest = flatten_dict(gradient, sep="/"), flatten_dict(like, sep="/"), []
    for name, x in flat.items():
        shape = expected[name].shape
        rest += [x[shape[0] :] if x.shape[0] > shape[0] else x[..., shape[-1] :]] if x.shape != shape else []
        flat[name] = x[tuple(map(slice, shape))]
    return unflatten_dict(flat, sep="/"), rest


def make_plain() -> Form:
    """Returns the form of one text in a row, padded on the right."""
    batch = align(make_texts().take(np.arange(TEXTS)))
    networks = {"student": Trained(make_decoder("student")), "teacher": Frozen(make_decoder("teacher"))}
    return Form(batch, networks, {name: draw_variables(name, batch) for name in WIDTHS})


def pack(plain: Form) -> Form:
    """Returns the form of several texts in rows of twice the length."""
    texts = dataclasses.replace(make_texts(), length=2 * LENGTH)
    bins = first_fit(texts.token_counts, 2 * LENGTH)
    packed = Packed(texts, np.concatenate(bins), np.cumsum([0, *map(len, bins)]))
    return dataclasses.replace(plain, batch=align(packed.take(np.arange(len(packed)))))


def make_forms() -> dict[str, Form]:
    """Returns the plain form, "", and the others by name."""
    plain = make_plain()
    networks, variables, batch = plain.networks, plain.variables, plain.batch
    wide = {
        name: dataclasses.replace(x, module=make_decoder(name, VOCABULARY + MORE), class_order=tuple(range(VOCABULARY)))
        for name, x in networks.items()
    }
    logits = networks["teacher"](variables["teacher"], batch, {}, None)[0].logits
    shared = {"kernel": logits.kernel}
    cached = Cached("teacher", VOCABULARY, shared=jax.eval_shape(lambda: shared))
    return {
        "": plain,
        "packed": pack(plain),
        "padded left": dataclasses.replace(plain, batch=pad(batch, 3, 0)),
        "padded right": dataclasses.replace(plain, batch=pad(batch, 0, 3)),
        "accumulated": dataclasses.replace(plain, parts=2),
        "chunked": dataclasses.replace(plain, chunk=5),
        "padded vocabulary": Form(batch, wide, {name: widen(x) for name, x in variables.items()}),
        "devices": dataclasses.replace(plain, devices=DEVICES),
        "cached": Form(
            {**batch, "cached/teacher/hidden": logits.hidden},
            {**networks, "teacher": cached},
            {**variables, "teacher": {"unembedding": shared}},
        ),
    }


@dataclasses.dataclass(frozen=True)
class Copies(Trained):
    """Students of one module, of which each has its own params: their outputs `[students, ...]`."""

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        return jax.vmap(lambda own: Trained.__call__(self, own, batch, outputs, None)[0])(variables), {}


@dataclasses.dataclass(frozen=True)
class Copy(Source):
    """The output of one of `Copies`."""

    of: NetworkRef
    number: int

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        return jax.tree.map(lambda x: x[self.number], outputs[self.of]), {}


def differentiate(form: Form, methods: Mapping[str, Method]) -> dict[str, tuple[float, Tree]]:
    """Returns the loss of each method, and its gradient by the student's parameters."""
    student = form.networks["student"]
    networks = {
        "students": Copies(student.module, class_order=student.class_order),
        "teacher": form.networks["teacher"],
    }
    networks |= {f"student {name}": Copy("students", number) for number, name in enumerate(methods)}
    terms = {name: Term(method.clone(chunk=form.chunk), student=f"student {name}") for name, method in methods.items()}
    params = jax.tree.map(lambda x: jnp.stack([x] * len(methods)), form.variables["student"])
    weights = {"students": params, "teacher": form.variables["teacher"]}
    gradient = accumulated(jax.grad(make_loss(networks, terms), has_aux=True), terms, form.parts)
    keys = fold_in(jax.random.key(1), [*networks, *terms])
    batch: Any = form.batch

    def compute(weights: Tree, batch: Batch) -> tuple[Tree, Tree]:
        state, frozen = init_state(networks, terms, optax.sgd(0.0), batch, key=jax.random.key(0), weights=weights)
        gradients, (metrics, _) = gradient(state, frozen, batch, keys)
        return metrics, gradients["students"]

    if form.devices > 1:
        devices = mesh.make_mesh({"data": form.devices}, jax.devices()[: form.devices])
        batch = mesh.put(devices, {name: np.asarray(x) for name, x in batch.items()})
        weights = mesh.everywhere(devices, jax.device_get(weights))
        compute = mesh.traced_on(devices, compute)
    metrics, gradients = jax.device_get(jax.jit(compute)(weights, batch))
    of_each = [jax.tree.map(lambda x, n=number: x[n], gradients) for number in range(len(methods))]
    return {name: (float(metrics[name]), of_each[number]) for number, name in enumerate(methods)}


def compare(plain: tuple[float, Tree], other: tuple[float, Tree]) -> tuple[float, float]:
    """Returns the relative changes of a loss and of its gradient."""
    (loss, gradient), (other_loss, other_gradient) = plain, other
    same, rest = narrow({"params": other_gradient}, {"params": gradient})
    changes = jax.tree.leaves(jax.tree.map(lambda x, y: x - y, same["params"], gradient)) + rest
    norm = optax.tree.norm(gradient)
    return abs(other_loss - loss) / abs(loss), float(optax.tree.norm(changes) / norm)


def measure(methods: Mapping[str, Method], forms: Mapping[str, Form]) -> list[dict[str, Any]]:
    """Returns the row of each method: the changes of loss and gradient by form, none for a form that it refuses."""
    plain = differentiate(forms[""], methods)
    rows = {name: {"name": name} for name in methods}
    for form in [form for form in forms if form]:
        possible = {name: method for name, method in methods.items() if is_possible(method, form)}
        others = differentiate(forms[form], possible)
        for name, row in rows.items():
            changes = compare(plain[name], others[name]) if name in others else (None, None)
            row |= {f"{form}, {part}": change for part, change in zip(("loss", "gradient"), changes, strict=True)}
        print(f"{form}: {max(compare(plain[name], others[name]) for name in others)}", flush=True)
    for row in rows.values():
        for part in ("loss", "gradient"):
            changes = [value for key, value in row.items() if key.endswith(f", {part}") and value is not None]
            row[f"largest, {part}"] = max(changes)
    return [*rows.values()]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list_methods())
    parser.add_argument("--write", type=pathlib.Path)
    given = parser.parse_args(words)
    rows = measure({name: registry.find("method", name)() for name in given.methods}, make_forms())
    for row in rows:
        row |= {key: round(value / UNIT, 2) for key, value in row.items() if isinstance(value, float)}
    results.write(given.write, {"": rows}, unit=UNIT)


if __name__ == "__main__":
    main()
