"""Texts of a batch that a network writes itself, before the step computes its loss on them.

    share = 1    every text is the student's own: on-policy distillation
    0 < share    a part of each batch, lambda of GKD (Agarwal et al., ICLR 2024, https://arxiv.org/abs/2306.13649,
                 algorithm 1, which writes whole batches with that probability)
    writer       the student, as it is in this step; or the teacher: sequence-level distillation (Kim & Rush, EMNLP
                 2016, https://arxiv.org/abs/1606.07947) without a pass over the data before

    staleness    steps that read a text again after the one that wrote it: of `staleness + 1` steps the first writes.
                 The state holds the texts, and so does a checkpoint

Everything is part of the jitted step: a resumed run writes the same texts. No gradient passes the writing.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, State, Variables
from jaxdistill.errors import UserError, check_between, check_least, unknown
from jaxdistill.generation import health
from jaxdistill.generation.sampler import Cache, Predict, Sampling, end_in_one_column, sample
from jaxdistill.networks import Source, Trained

Texts = Mapping[str, Any]
"""`rows`, the fields of the written rows of a batch, with their `numbers` and the `step` that wrote them."""

Write = Callable[[Mapping[str, Variables], Batch, Array, State], tuple[Batch, Texts, dict[str, Array]]]
"""`(variables by network, batch, key, state) -> (batch, the next state's texts, metrics)`."""

WRITTEN = "written"
"""The field of a batch, `[batch]`, that is 1 for texts that a network has written."""


@dataclasses.dataclass(frozen=True)
class OnPolicy(Sampling):
    """The texts that a network writes in each step.

    A text is a prompt of the data, all tokens before those of `answer_mask`, or the first `prompt` tokens of a text
    without answers; and the tokens that are written after it. Of a prompt that leaves no room for `tokens`, the last
    tokens are taken.
    """

    share: float = option(0.0, "share of the texts of a batch that are written; 0 for none")
    writer: str = option("student", "network that writes them")
    staleness: int = option(0, "steps that read the written texts again before others are written", least=0)
    prompt: int = option(0, "tokens of a prompt, of texts without answers", least=0)
    length: tuple[float, ...] = option((), "bounds of the mean number of written tokens; () for none")
    repetition: tuple[float, ...] = option((), "bounds of the fraction of repeated pairs of tokens; () for none")
    entropy: tuple[float, ...] = option((), "bounds of the mean of -log q of a written token in nats; () for none")
    alarm: str = option("stop", '"stop" or "warn", if the mean of 20 steps is out of bounds')

    def check(self, path: str) -> None:
        super().check(path)
        check_between(f"{path}.share", self.share, 0, 1)
        check_least(f"{path}.staleness", self.staleness, 0)
        if self.alarm not in ("stop", "warn"):
            raise unknown(f"{path}.alarm", self.alarm, ("stop", "warn"))
        for name, most in {"length": self.tokens, "repetition": 1, "entropy": math.inf}.items():
            bounds = getattr(self, name)
            if bounds and (len(bounds) != 2 or not (bounds[0] < bounds[1] and 0 <= bounds[0] < most)):
                raise UserError(
                    f"{path}.{name} must be (least, largest), got {bounds}. Set a least from 0 on, below {most:g} and"
                    " the largest, or leave it out for no bounds"
                )

    @property
    def bounds(self) -> dict[str, tuple[float, ...]]:
        """The bounds by the key of the log."""
        names = {health.LENGTH: self.length, health.REPETITION: self.repetition, health.ENTROPY: self.entropy}
        return {name: bounds for name, bounds in names.items() if bounds}

    def count(self, batch: int) -> int:
        """Returns the number of texts of a batch that are written."""
        return round(self.share * batch)


def check(settings: OnPolicy, networks: Mapping[str, Source], batch: Mapping[str, Any], path: str) -> None:
    """Checks the settings against the networks and the shapes of a batch.

    Args:
        settings: of the stage.
        networks: of the stage, by name.
        batch: shapes by field.
        path: of the settings, for messages.

    Raises:
        UserError: for settings that contradict these.
    """
    settings.check(path)
    if settings.writer not in networks:
        raise unknown(f"{path}.writer", settings.writer, networks, "a network of the stage")
    writer = networks[settings.writer]
    if not is_writer(writer):
        raise UserError(
            f"{path}.writer must be a causal network that can store keys and values, got {settings.writer!r}. Take one"
            " of model 'decoder'"
        )
    fields = sorted({"segment", "document", "teacher_tokens"} & {*batch})
    if "tokens" not in batch or fields:
        raise UserError(
            f"{path}.share must be 0 for data with {fields or 'no tokens'}, got {settings.share}: such texts cannot be"
            " written. Take texts of one document, which both networks read as the same tokens"
        )
    cached = [name for name in batch if name.startswith("cached/")]
    if cached:
        raise UserError(
            f"{path}.share must be 0 beside cached outputs, got {settings.share}: {cached[0]!r} is of other texts. Let"
            " the teacher run, with source='frozen'"
        )
    size, length = batch["tokens"].shape
    if settings.tokens >= length:
        raise UserError(
            f"{path}.tokens must be below the {length} tokens of a text, of which the prompt needs one, got"
            f" {settings.tokens}. Write fewer, or raise data.length"
        )
    if "answer_mask" not in batch and not 0 < settings.prompt <= length - settings.tokens:
        raise UserError(
            f"{path}.prompt must be in [1, {length - settings.tokens}] for texts without answers, got"
            f" {settings.prompt}. The rest of a text is written"
        )
    count = settings.count(size)
    if count % settings.samples or not count:
        raise UserError(
            f"{path}.share must give a multiple of samples={settings.samples} texts of a batch of {size}, got"
            f" {settings.share}, which is {count}. Change one of the two"
        )
    classes = getattr(getattr(writer, "module", None), "classes", 0)
    for token in settings.stop:
        check_between(f"{path}.stop", token, 0, classes - 1)


def is_writer(network: Source) -> bool:
    """Whether a network stores keys and values of the tokens before, so that it can write."""
    return isinstance(network, Trained) and getattr(network.module, "stores_keys", False)


def check_samples(settings: OnPolicy, student: str, what: str) -> None:
    """Raises `UserError` unless texts are drawn from the distribution of a student, as a term needs them to be."""
    drawn = (settings.temperature, settings.top_k, settings.top_p, settings.staleness) == (1.0, 0, 1.0, 0)
    if not settings.share or settings.writer != student or not drawn:
        raise UserError(
            f"{what} must have texts that {student!r} draws from its own distribution, got on_policy with"
            f" share={settings.share}, writer={settings.writer!r}, temperature={settings.temperature},"
            f" top_k={settings.top_k}, top_p={settings.top_p}, staleness={settings.staleness}. Set"
            f" share, writer={student!r}, and leave the others out"
        )


def make_write(settings: OnPolicy, networks: Mapping[str, Source], align: Callable[[Batch], Batch]) -> Write:
    """Returns the function that replaces texts of a batch, and describes them (`health.summarize`).

    Args:
        settings: of the stage, checked.
        networks: by name.
        align: batch -> batch, adds the labels of its texts (`Task.align`).
    """

    def write_now(variables: Mapping[str, Variables], batch: Batch, key: Array) -> tuple[Batch, dict[str, Array]]:
        size, length = batch["tokens"].shape
        rows = spread(settings.count(size), size)
        mask = batch["token_mask"]
        prompt_mask = mask & _before_answers(batch.get("answer_mask"), mask, settings.prompt)
        first = rows[:: settings.samples]
        tokens, is_prompt = end_in_one_column(batch["tokens"][first], prompt_mask[first])
        place = length - settings.tokens
        text = sample(
            make_predict(networks[settings.writer], variables[settings.writer]),
            tokens[:, -place:],
            is_prompt[:, -place:],
            examples=batch["index"][first],
            key=key,
            sampling=settings,
        )
        replaced = {
            "tokens": text.tokens.astype(batch["tokens"].dtype),
            "token_mask": text.token_mask,
            "answer_mask": text.answer_mask,
            WRITTEN: jnp.ones(len(rows), jnp.int32),
        }
        # Samples of a prompt stand for the examples whose rows they take; a prompt of padding is no example.
        of_prompts = {name: batch[name][first] for name in ("mask", "route") if name in batch}
        replaced |= {name: jnp.repeat(x, settings.samples) for name, x in of_prompts.items()}
        return {**{name: x[rows] for name, x in batch.items()}, **replaced}, health.summarize(text)

    def write(
        variables: Mapping[str, Variables], batch: Batch, key: Array, state: State
    ) -> tuple[Batch, Texts, dict[str, Array]]:
        size, length = batch["tokens"].shape
        mask = batch.get("token_mask", jnp.ones((size, length), bool)) > 0
        prompts = {**batch, "token_mask": mask}

        def renew(_: Texts) -> Texts:
            rows, numbers = write_now(variables, prompts, key)
            return {"rows": rows, "numbers": numbers, "step": state.step}

        texts = _renew_at(settings, renew, state) if settings.staleness else renew({})
        rows = spread(settings.count(size), size)
        answers = batch.get("answer_mask", mask) > 0
        fields = {**prompts, "answer_mask": answers, WRITTEN: jnp.zeros(size, jnp.int32)}
        mixed = {name: fields[name].at[rows].set(x) for name, x in texts["rows"].items()}
        if not settings.staleness:
            return align(mixed), {}, texts["numbers"]
        age = (state.step - texts["step"]).astype(jnp.float32)
        return align(mixed), texts, {**texts["numbers"], health.AGE: age}

    return write


def _renew_at(settings: OnPolicy, renew: Callable[[Texts], Texts], state: State) -> Texts:
    """Returns the texts of the state, or others at each step that writes."""

    def is_due(carry: tuple[Array, Texts]) -> Array:
        return carry[0]

    # A loop of at most one turn: of lanes under `vmap`, `cond` would write in each step, and drop it.
    start = state.step % (settings.staleness + 1) == 0, state.texts
    return jax.lax.while_loop(is_due, lambda carry: (jnp.bool_(False), renew(carry[1])), start)[1]


def buffer(settings: OnPolicy, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the shapes of the texts that a state holds; {} unless steps read them again.

    Args:
        settings: of the stage, checked.
        batch: shapes by field.
    """
    if not settings.share or not settings.staleness:
        return {}
    size, length = batch["tokens"].shape
    count = settings.count(size)
    rows = {name: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype) for name, x in batch.items()}
    masks = dict.fromkeys(("token_mask", "answer_mask"), jax.ShapeDtypeStruct((count, length), jnp.bool_))
    names = (health.LENGTH, health.REPETITION, health.ENTROPY)
    return {
        "rows": {**rows, **masks, WRITTEN: jax.ShapeDtypeStruct((count,), jnp.int32)},
        "numbers": dict.fromkeys(names, jax.ShapeDtypeStruct((), jnp.float32)),
        "step": jax.ShapeDtypeStruct((), jnp.int32),
    }


def make_predict(network: Source, variables: Variables) -> Predict:
    """Returns the function by which the sampler calls a network."""
    assert isinstance(network, Trained)

    def predict(cache: Cache, tokens: Array, token_mask: Array) -> tuple[Output, Cache]:
        return network.predict_next(variables, cache, tokens, token_mask)

    return predict


def spread(count: int, size: int) -> Int[Array, " {count}"]:
    """Returns the positions of `count` of `size` rows, at equal distances, so that devices write as many each."""
    return jnp.arange(count) * size // count


def _before_answers(
    answer_mask: Float[Array, "batch length"] | Int[Array, "batch length"] | Bool[Array, "batch length"] | None,
    mask: Bool[Array, "batch length"],
    prompt: int,
) -> Bool[Array, "batch length"]:
    """Returns whether a token is of the prompt."""
    if answer_mask is None:
        return jnp.cumsum(mask, 1) <= prompt
    return jnp.cumsum(answer_mask > 0, 1) == 0
