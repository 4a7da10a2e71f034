"""The step: the whole of distillation in one function.

Run the networks in order; for every term, stop the teacher's gradient, ask the method for its values, average
them under the mask, weigh, add; differentiate; update. There is no branch for any mode: a mode is a choice of
networks and terms. `jit`, shardings, donation and `scan` are added outside.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from jaxdistill import core
from jaxdistill.core import Batch, State, Term
from jaxdistill.networks import Follows, Source, in_order, run

Step = Callable[..., tuple[State, dict[str, jax.Array]]]


def make_step(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    tx: optax.GradientTransformation,
    augment: Callable[[Batch], Batch] = lambda batch: batch,
    accumulate: int = 1,
) -> Step:
    """Returns `step(state, frozen, batch) -> (state, metrics)`, pure, ready for `jit`.

    Args:
        networks: name -> source.
        terms: name -> summand of the loss.
        tx: the optimizer.
        augment: batch -> batch, on the device; the networks see one and the same result. Its randomness is a
            function of the examples, not of the step (`data.augment`).
        accumulate: how many micro-batches the gradient is summed over.

    The metrics are float32 scalars: every term's mean under its own name, `loss` their weighted sum,
    `grad_norm`, and `weight_norm` after the update. `frozen` is `{name: {collection: tree}}`, never changed,
    never differentiated.
    """
    networks = in_order(networks)
    gradients = accumulated(jax.grad(make_loss(networks, terms), has_aux=True), terms, accumulate)

    def step(state, frozen, batch):
        keys = core.fold_in(jax.random.fold_in(state.key, state.step), [*networks, *terms])
        grads, (metrics, variables) = gradients(state, frozen, augment(batch), keys)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        known = core.merge_variables(params, variables, frozen)
        variables |= {
            name: network.follow(variables[name], known[network.of], state.step + 1)
            for name, network in networks.items()
            if isinstance(network, Follows)
        }
        metrics |= {"grad_norm": optax.tree.norm(grads), "weight_norm": optax.tree.norm(params)}
        return state.replace(step=state.step + 1, params=params, variables=variables, opt_state=opt_state), metrics

    return step


def make_loss(networks: Mapping[str, Source], terms: Mapping[str, Term]) -> Callable:
    """Returns `loss_fn(params, variables, frozen, batch, keys, now, totals) -> (loss, (metrics, variables))`.

    `totals` counts each term's predictions in the whole batch, of which `batch` may be a part: the losses of
    the parts add up to the whole one's.
    """

    def loss_fn(params, variables, frozen, batch, keys, now, totals):
        known = core.merge_variables(params, variables, frozen)
        outputs, changed = run(networks, known, batch, keys)
        metrics, loss = {}, jnp.float32(0)
        for name, term in terms.items():
            values, changed[name] = term.method_at(now).apply(
                known.get(name, {}),
                outputs[term.student],
                jax.lax.stop_gradient(outputs.get(term.teacher)),
                batch,
                rngs={"method": keys[name]},
                mutable=[*variables.get(name, {})],
            )
            valid = term.method.valid(batch)
            metrics[name] = core.mean(values, valid, fraction=_count(valid) / jnp.maximum(totals[name], 1.0))
            loss += term.weight(now) * metrics[name]
        variables = {name: dict(own) | dict(changed.get(name, {})) for name, own in variables.items()}
        return loss, (metrics | {"loss": loss}, variables)

    return loss_fn


def accumulated(grad: Callable, terms: Mapping[str, Term], parts: int) -> Callable:
    """Wraps the gradient of `make_loss` to be summed over micro-batches: `(state, frozen, batch, keys) -> ...`.

    Sums and counts are added, so that the result equals the large batch's, up to batch statistics, which are
    each micro-batch's own.
    """

    def gradients(state, frozen, batch, keys):
        totals = {name: _count(term.method.valid(batch)) for name, term in terms.items()}
        if parts == 1:
            return grad(state.params, state.variables, frozen, batch, keys, state.step, totals)

        def add(carry, part):
            grads, metrics, variables = carry
            number, micro = part
            # A method draws for each example by its index, which the parts do not change; a network for the batch.
            own = {n: key if n in terms else jax.random.fold_in(key, number) for n, key in keys.items()}
            new, (said, variables) = grad(state.params, variables, frozen, micro, own, state.step, totals)
            return (jax.tree.map(jnp.add, grads, new), jax.tree.map(jnp.add, metrics, said), variables), None

        nothing = dict.fromkeys([*terms, "loss"], jnp.float32(0))
        start = (jax.tree.map(jnp.zeros_like, state.params), nothing, state.variables)
        split = (jnp.arange(parts), jax.tree.map(interleave, batch))
        (grads, metrics, variables), _ = jax.lax.scan(add, start, split)
        return grads, (metrics, variables)

    def interleave(x):
        # Row i goes to micro-batch i mod n: a batch sharded over its rows stays where it is.
        return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    return gradients


def _count(valid: jax.Array) -> jax.Array:
    return jnp.sum(valid.astype(jnp.float32))
