"""The training step: the whole of distillation in one function.

Run the networks in order; for every term, stop the teacher's gradient, compute the method's values, average them over
the valid predictions, weight and add them; differentiate; update. There is no branch for any mode: a mode is a choice
of networks and terms. `jit`, shardings, donation and `scan` are added outside.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdistill import core
from jaxdistill.core import Batch, LogitsForm, Output, State, Term, Variables
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks import Divides, Follows, Revises, Source, in_order, run

Frozen = Mapping[str, Variables]
Metrics = dict[str, jax.Array]
Texts = Mapping[str, Any]
Write = Callable[[Mapping[str, Variables], Batch, jax.Array, State], tuple[Batch, Texts, Metrics]]
Step = Callable[[State, Frozen, Batch], tuple[State, Metrics]]

INPUT, WRITING, OPTIMIZER = "input", "writing", "optimizer"
"""Parts of a step in profiles and estimates, beside `networks.NAME` and `terms.NAME`."""


def make_step(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    tx: optax.GradientTransformation,
    augment: Callable[[Batch], Batch] = lambda batch: batch,
    *,
    accumulate: int = 1,
    freeze: Callable[[Any], Any] = lambda params: params,
    write: Write = lambda variables, batch, key, state: (batch, {}, {}),
) -> Step:
    """Returns `step(state, frozen, batch) -> (state, metrics)`, pure, ready for `jit`.

    Args:
        networks: name -> source.
        terms: name -> summand of the loss.
        tx: the optimizer.
        augment: batch -> batch, on the device; all networks get one and the same result. Its randomness is a
            function of the examples, not of the step (`data.augment`).
        accumulate: the number of micro-batches over which the gradient is summed.
        freeze: params -> params, stops the gradient of frozen ones (`optim.freezing`).
        write: (variables, batch, key, state) -> (batch, the next state's texts, metrics) (`generation.on_policy`).

    The metrics are float32 scalars: every term's mean under its own name and its `_means` of several teachers, `loss`
    their weighted sum, `grad_norm`, `weight_norm` after the update, and those of `write`. `frozen` is `{name:
    {collection: tree}}`, never changed, never differentiated.
    """
    networks = in_order(networks)
    check_terms(networks, terms)
    whole = [name for name, term in terms.items() if term.method.needs_whole_batch]
    if accumulate > 1 and whole:
        raise UserError(
            f"accumulate must be 1 with term {whole[0]!r}, got {accumulate}: {type(terms[whole[0]].method).__name__}"
            " compares the rows of a batch, and micro-batches would change its loss. Use a smaller batch."
        )
    gradients = accumulated(jax.grad(make_loss(networks, terms, freeze), has_aux=True), terms, accumulate)

    def step(state: State, frozen: Frozen, batch: Batch) -> tuple[State, Metrics]:
        step_key = jax.random.fold_in(state.key, state.step)
        keys = core.fold_in(step_key, [*networks, *terms])
        batch, texts, written = _prepare(augment, write, state, frozen, batch=batch, key=step_key)
        grads, (metrics, variables) = gradients(state, frozen, batch, keys)
        with jax.named_scope(OPTIMIZER):
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
            params: Any = optax.apply_updates(state.params, updates)
        everything = core.merge_variables(params, variables, frozen)
        variables |= {
            name: {**variables[name], **network.revise(everything[name], state.step + 1)}
            for name, network in networks.items()
            if name in variables and isinstance(network, Revises)
        }
        variables |= {
            name: network.follow(variables[name], everything[network.of], state.step + 1)
            for name, network in networks.items()
            if isinstance(network, Follows)
        }
        metrics |= {"grad_norm": optax.tree.norm(grads), "weight_norm": optax.tree.norm(params), **written}
        changed = {"params": params, "variables": variables, "opt_state": opt_state, "texts": texts}
        return dataclasses.replace(state, step=state.step + 1, **changed), metrics

    return step


def _prepare(
    augment: Callable[[Batch], Batch], write: Write, state: State, frozen: Frozen, *, batch: Batch, key: jax.Array
) -> tuple[Batch, Texts, Metrics]:
    with jax.named_scope(INPUT):
        batch = augment(batch)
    with jax.named_scope(WRITING):
        return write(core.merge_variables(state.params, state.variables, frozen), batch, key, state)


def check_terms(networks: Mapping[str, Source], terms: Mapping[str, Term]) -> None:
    """Checks the names of terms, and those of their students and teachers.

    Raises:
        UserError: for a term named like a network, whose variables would be one another's; for a network that does not
            exist; and for a method without the teacher that it needs.
    """
    for name, term in terms.items():
        if name in networks:
            raise UserError(
                f"terms.{name} must have a name that no network has, got {name!r}. Rename the term; the networks are"
                f" {[*networks]}"
            )
        if term.student not in networks:
            raise unknown(f"terms.{name}.student", term.student, networks, "a network")
        if term.teacher is None and term.method.needs_teacher:
            raise UserError(
                f"terms.{name}.teacher must be a network, got None: {type(term.method).__name__} needs a teacher. There"
                f" are {[*networks]}"
            )
        if term.teacher is not None and term.teacher not in networks:
            raise unknown(f"terms.{name}.teacher", term.teacher, networks, "a network")


def _check_values(name: str, values: jax.Array, valid: jax.Array) -> None:
    if values.shape[: valid.ndim] != valid.shape:
        raise UserError(
            f"terms.{name} must return one value per prediction {list(valid.shape)}, got {list(values.shape)}."
            " Return the values of the method without their mean; the step averages those that count."
        )


def make_loss(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    freeze: Callable[[Any], Any] = lambda params: params,
) -> Callable[..., Any]:
    """Returns `loss(params, variables, frozen, batch, *, keys, step, totals) -> (loss, (metrics, variables))`.

    `totals` counts each term's valid predictions in the whole batch, of which `batch` may be a part: the losses of
    the parts add up to that of the whole.
    """

    def loss_fn(
        params: Mapping[str, Any],
        variables: Mapping[str, Variables],
        frozen: Frozen,
        batch: Batch,
        *,
        keys: Mapping[str, jax.Array],
        step: jax.Array,
        totals: Mapping[str, jax.Array],
    ) -> tuple[jax.Array, tuple[Metrics, dict[str, Variables]]]:
        everything = core.merge_variables(freeze(params), variables, frozen)
        outputs, updated = run(networks, everything, batch, keys)
        metrics: Metrics = {}
        loss = jnp.float32(0)
        for name, term in terms.items():
            with jax.named_scope(f"terms.{name}"):
                values, updated[name] = term.method_at(step).apply(
                    everything.get(name, {}),
                    outputs[term.student],
                    _teach(outputs.get(term.teacher or "")),
                    batch,
                    rngs={"method": keys[name]},
                    mutable=[*variables.get(name, {})],
                )
                valid = term.method.valid(batch)
                _check_values(name, values, valid)
                metrics |= _means(name, values, valid, totals[name], parts=_divide(networks, term, batch))
                loss += term.weight(step) * metrics[name]
        changed: dict[str, Variables] = {
            name: {**before, **updated.get(name, {})} for name, before in variables.items()
        }
        return loss, ({**metrics, "loss": loss}, changed)

    return loss_fn


def _teach(output: Output | None) -> Output | None:
    """Returns a teacher's output without gradient; states of an unembedding are apart from the loss, as cached ones."""
    if output is not None and isinstance(output.logits, LogitsForm):
        output = dataclasses.replace(output, logits=jax.tree.map(jax.lax.optimization_barrier, output.logits))
    return jax.lax.stop_gradient(output)


def _divide(networks: Mapping[str, Source], term: Term, batch: Batch) -> Mapping[str, jax.Array]:
    """Returns the examples of each network that the teacher of a term consists of; none if it is one."""
    teacher = networks.get(term.teacher or "")
    return teacher.divide(batch) if isinstance(teacher, Divides) else {}


def _means(
    name: str, values: jax.Array, valid: jax.Array, total: jax.Array, *, parts: Mapping[str, jax.Array]
) -> Metrics:
    """Returns the mean of a term; of each part also `TERM/PART`, its summand, and `TERM/PART/share` of predictions."""
    total = jnp.maximum(total, 1.0)
    metrics = {name: core.mean(values, valid, fraction=_count(valid) / total)}
    for part, mask in parts.items():
        counted = valid * mask.reshape(mask.shape + (1,) * (valid.ndim - 1))
        share = _count(counted) / total
        metrics |= {f"{name}/{part}": core.mean(values, counted, fraction=share), f"{name}/{part}/share": share}
    return metrics


def accumulated(gradient: Callable[..., Any], terms: Mapping[str, Term], parts: int) -> Callable[..., Any]:
    """Sums the gradient of `make_loss` over micro-batches: `(state, frozen, batch, keys) -> (grads, ...)`.

    Sums and counts are added, so that the result equals the large batch's, up to batch statistics, which are
    each micro-batch's own.

    Args:
        gradient: of `make_loss`.
        terms: the loss's.
        parts: the number of micro-batches.
    """

    def gradients(state: State, frozen: Frozen, batch: Batch, keys: Mapping[str, jax.Array]) -> tuple[Any, Any]:
        totals = {name: _count(term.method.valid(batch)) for name, term in terms.items()}
        if parts == 1:
            moment = {"keys": keys, "step": state.step, "totals": totals}
            return gradient(state.params, state.variables, frozen, batch, **moment)

        def add(carry: tuple[Any, Any], part: tuple[jax.Array, Batch]) -> tuple[tuple[Any, Any], Metrics]:
            grads, variables = carry
            number, micro_batch = part
            # A method draws for each example by its index, which the parts do not change; a network for the batch.
            part_keys = {n: key if n in terms else jax.random.fold_in(key, number) for n, key in keys.items()}
            moment = {"keys": part_keys, "step": state.step, "totals": totals}
            new_grads, (metrics, variables) = gradient(state.params, variables, frozen, micro_batch, **moment)
            return (jax.tree.map(jnp.add, grads, new_grads), variables), metrics

        start = (jax.tree.map(jnp.zeros_like, state.params), state.variables)
        split = (jnp.arange(parts), jax.tree.map(interleave, batch))
        (grads, variables), metrics = jax.lax.scan(add, start, split)
        return grads, (jax.tree.map(lambda x: jnp.sum(x, 0), metrics), variables)

    def interleave(x: jax.Array) -> jax.Array:
        # Row i goes to micro-batch i mod n: a batch sharded over its rows stays where it is.
        return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    return gradients


def _count(valid: jax.Array) -> jax.Array:
    return jnp.sum(valid.astype(jnp.float32))
