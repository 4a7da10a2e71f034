"""Texts that the networks of an evaluation write after the same prompts, beside the data's answers, for the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, Output, State, Variables
from jaxdistill.data.tokenizers import open_tokenizer
from jaxdistill.generation.on_policy import OnPolicy, is_writer, make_write
from jaxdistill.networks import dependencies
from jaxdistill.stages.examples import choose_evenly, compile_rows, over_examples
from jaxdistill.train.evaluate import run_outputs

FIGURE = "texts"
"""The name of the section in `Task.figures`, and the key in `evaluation.json`."""


def compute_texts(stage: Stage, variables: Mapping[str, Variables]) -> list[dict[str, Any]]:
    """Returns `evaluate.texts` evenly spaced examples of a task of texts; [] without any, or without a writer.

    Each has `index`, `prompt` and `answer` of the data as texts, and `networks`: by name the `text` that it writes if
    it always takes the likeliest token, as long as the answer; `exact`, whether these are the answer's tokens; and
    `nll`, the mean over the answer's tokens in nats, read after the right tokens. Without `answer_mask` the answer is
    the second half of a text. Networks that cannot store keys, which would take long to write, are left out.
    """
    dataset, split = stage.data.dataset, stage.data.dataset.split(stage.settings.evaluate.split)
    names = [name for name in stage.evaluation.networks if is_writer(stage.networks[name])]
    parts = {"segment", "document", "teacher_tokens"} & {*dataset.fields}
    if FIGURE not in stage.data.task.figures or parts or not names or not stage.settings.evaluate.texts:
        return []
    index = choose_evenly(len(split), stage.settings.evaluate.texts)
    fields = split.take(index)
    mask = np.asarray(fields.get("token_mask", np.ones_like(fields["tokens"]))) > 0
    half = fields["tokens"].shape[1] // 2
    is_answer = fields["answer_mask"] > 0 if "answer_mask" in fields else np.cumsum(mask, 1) > half
    texts = [_cut(*rows) for rows in zip(fields["tokens"], mask, is_answer, strict=True)]
    longest = min(max(len(answer) for _, answer in texts), fields["tokens"].shape[1] - 1)
    if not longest:
        return []
    settings = OnPolicy(share=1.0, tokens=longest, temperature=0.0, prompt=half)
    rows = _write(stage, variables, names, index, settings=settings)
    decode = _make_decode(stage)
    return [
        {
            "index": int(index[number]),
            "prompt": decode([], prompt),
            "answer": decode(prompt, answer),
            "networks": {
                name: {
                    "text": decode(prompt, rows[name]["tokens"][number][: len(answer)]),
                    "exact": np.array_equal(rows[name]["tokens"][number][: len(answer)], answer),
                    "nll": float(rows[name]["nll"][number]),
                }
                for name in names
            },
        }
        for number, (prompt, answer) in enumerate(texts)
        if len(prompt) and len(answer)
    ]


def _cut(tokens: np.ndarray, mask: np.ndarray, is_answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the prompt of a text and the answer after it, both without padding."""
    begun = np.cumsum(is_answer & mask) > 0
    ended = np.cumsum(begun & mask & ~is_answer) > 0  # the rest of a chat
    return tokens[mask & ~begun], tokens[mask & begun & ~ended]


def _write(
    stage: Stage, variables: Mapping[str, Variables], names: Sequence[str], index: np.ndarray, *, settings: OnPolicy
) -> dict[str, dict[str, np.ndarray]]:
    """Returns, by network, the written `tokens` `[examples, written]`, and `nll` `[examples]` of the data's answers."""
    running = dependencies(stage.networks, names)

    def compute(variables: Mapping[str, Variables], batch: Batch) -> dict[str, dict[str, jax.Array]]:
        outputs = run_outputs(running, variables, batch, window=stage.settings.evaluate.window, names=tuple(names))
        rows, state = {}, State(jnp.int32(0), jax.random.key(0), params={}, variables={}, opt_state=())
        for name in names:
            of_network = OnPolicy(**{**vars(settings), "writer": name})
            write = make_write(of_network, stage.networks, lambda written: written)
            written = write(variables, batch, state.key, state)[0]["tokens"][:, -settings.tokens :]
            rows[name] = {"tokens": written, "nll": _mean_nll(outputs[name], batch, settings.prompt)}
        return rows

    return over_examples(stage, compile_rows(stage, compute), variables, index)


def _mean_nll(output: Output, batch: Batch, prompt: int) -> jax.Array:
    """Returns the mean over the tokens of each answer, `[batch]`, one row of logits at a time."""
    valid = batch["valid"] > 0
    if "answer_mask" not in batch:  # the label at a position is the token after it
        mask = batch.get("token_mask", jnp.ones_like(batch["tokens"]))
        valid &= jnp.cumsum(mask > 0, 1) >= prompt

    def of_row(parts: tuple[Any, jax.Array, jax.Array]) -> jax.Array:
        rows, label, counted = parts
        logits = core.dense(core.with_rows(output.logits, rows)).astype(jnp.float32)
        chosen = jnp.take_along_axis(logits, label[:, None], -1)[:, 0]
        values = jnp.where(counted, jax.nn.logsumexp(logits, -1) - chosen, 0.0)
        return jnp.sum(values) / jnp.maximum(jnp.sum(counted), 1)

    return jax.lax.map(of_row, (core.rows(output.logits), batch["label"], valid))


def _make_decode(stage: Stage) -> Any:
    """Returns `(tokens before, tokens) -> text`: bytes, words of the tokenizer of the data, or else numbers."""
    if stage.data.dataset.of_bytes:
        return lambda before, tokens: bytes(np.asarray(tokens, np.uint8)).decode(errors="replace")
    if not stage.settings.data.tokenizer:
        return lambda before, tokens: " ".join(map(str, tokens))
    library = open_tokenizer(stage.settings.data.tokenizer).library

    def decode(before: Sequence[int], tokens: Sequence[int]) -> str:
        # Alone, the first token of some tokenizers would lose the space before it.
        start, whole = (library.decode([*map(int, x)], skip_special_tokens=False) for x in (before, [*before, *tokens]))
        return whole.removeprefix(start)

    return decode
