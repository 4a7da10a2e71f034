"""Texts of a batch that a network writes: the rows that change, their prompts, labels and keys; and bad settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.generation import on_policy
from jaxdistill.generation.on_policy import OnPolicy
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.mlp import MLP
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.networks import Trained

NETWORKS = {
    "student": Trained(Decoder(classes=11, layers=1, width=8, heads=2, length=16)),
    "mlp": Trained(MLP(classes=11)),
}
TOKENS = jnp.array(
    [[1, 2, 3, 4, 5, 0, 0, 0], [6, 7, 8, 9, 1, 2, 3, 4], [0, 0, 5, 6, 7, 8, 0, 0], [9, 9, 9, 9, 0, 0, 0, 0]]
)
MASK = (TOKENS > 0).astype(jnp.int32)
ANSWERS = jnp.array(
    [[0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0, 0, 0]]
)
BATCH = align_next_tokens(
    {
        "tokens": TOKENS,
        "token_mask": MASK,
        "answer_mask": ANSWERS,
        "mask": jnp.ones(4),
        "index": jnp.array([4, 7, 1, 3]),
        "label": jnp.full(4, -1),
    }
)
HALF = OnPolicy(share=0.5, tokens=3)


@pytest.fixture(scope="module")
def variables():
    made = NETWORKS["student"].init(jax.random.key(0), BATCH, {}, {})
    return {"student": jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, made)}


def written(settings, variables, batch=BATCH, seed=0):
    write = on_policy.make_write(settings, NETWORKS, align_next_tokens)
    return jax.jit(write)(variables, batch, jax.random.key(seed), state(0))[0]


def state(step, texts=None):
    return core.State(jnp.int32(step), jax.random.key(0), params={}, variables={}, opt_state=(), texts=texts or {})


def test_a_share_of_the_rows_has_the_prompts_of_the_data_and_answers_of_the_network(variables):
    batch = written(HALF, variables)
    assert batch["written"].tolist() == [1, 0, 1, 0]
    for name in ("tokens", "label"):
        np.testing.assert_array_equal(batch[name][1::2], BATCH[name][1::2])
    np.testing.assert_array_equal(batch["tokens"][0, :5], [0, 0, 1, 2, 3])  # the prompt ends where writing begins
    np.testing.assert_array_equal(batch["tokens"][2, :5], [0, 0, 0, 0, 5])
    np.testing.assert_array_equal(batch["token_mask"][0], [0, 0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(batch["answer_mask"][0], [0, 0, 0, 0, 0, 1, 1, 1])
    # The logits of the last token of the prompt and of two written ones have labels.
    np.testing.assert_array_equal(batch["valid"][0], [0, 0, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(batch["label"][0, 4:7], batch["tokens"][0, 5:])


def test_greedy_texts_are_the_argmax_of_the_network_on_them(variables):
    batch = written(dataclasses.replace(HALF, share=1.0, temperature=0.0), variables)
    output, _ = NETWORKS["student"](variables["student"], batch, {}, None)
    likeliest = np.asarray(core.dense(output.logits)).argmax(-1)
    valid = np.asarray(batch["valid"]) > 0
    assert valid.sum() == 12
    np.testing.assert_array_equal(likeliest[valid], np.asarray(batch["label"])[valid])


def test_a_text_depends_on_the_key_and_the_example_alone(variables):
    whole = written(dataclasses.replace(HALF, share=1.0), variables)
    moved = {name: x[::-1] for name, x in BATCH.items()}
    np.testing.assert_array_equal(
        whole["tokens"], written(dataclasses.replace(HALF, share=1.0), variables, moved)["tokens"][::-1]
    )
    assert not np.array_equal(
        whole["tokens"], written(dataclasses.replace(HALF, share=1.0), variables, seed=1)["tokens"]
    )


def test_samples_of_a_prompt_take_the_rows_after_it(variables):
    batch = written(dataclasses.replace(HALF, share=1.0, samples=2), variables, {**BATCH, "route": jnp.arange(4)})
    np.testing.assert_array_equal(batch["tokens"][0, :5], batch["tokens"][1, :5])
    assert batch["route"].tolist() == [0, 0, 2, 2]  # a text has the teacher of its prompt
    assert not np.array_equal(batch["tokens"][0], batch["tokens"][1])
    np.testing.assert_array_equal(batch["tokens"][2, :5], [0, 0, 0, 0, 5])


def test_of_texts_without_answers_the_first_tokens_are_the_prompt(variables):
    plain = {name: x for name, x in BATCH.items() if name not in ("token_mask", "answer_mask")}
    batch = written(dataclasses.replace(HALF, prompt=2), variables, plain)
    np.testing.assert_array_equal(batch["tokens"][0, :5], [0, 0, 0, 1, 2])
    np.testing.assert_array_equal(batch["answer_mask"][1], np.ones(8))


@pytest.mark.slow
def test_the_first_token_after_an_empty_prompt_does_not_count_and_a_text_without_answer_is_a_prompt(variables):
    answers = ANSWERS.at[0].set(MASK[0]).at[2].set(0)
    batch = written(HALF, variables, {**BATCH, "answer_mask": answers})
    np.testing.assert_array_equal(batch["token_mask"][0], [0, 0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(batch["valid"][0], [0, 0, 0, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(batch["tokens"][2, :5], [0, 5, 6, 7, 8])
    np.testing.assert_array_equal(batch["valid"][2], [0, 0, 0, 0, 1, 1, 1, 0])


def test_a_prompt_of_padding_is_no_example(variables):
    padded = {**BATCH, "mask": jnp.array([0.0, 1, 1, 1])}
    batch = written(dataclasses.replace(HALF, share=1.0, samples=2), variables, padded)
    assert batch["mask"].tolist() == [0, 0, 1, 1]
    assert not batch["valid"][:2].any()


def test_steps_read_the_texts_of_a_step_before_with_their_examples_until_others_are_due(variables):
    settings = dataclasses.replace(HALF, staleness=1)
    shapes = on_policy.buffer(settings, BATCH)
    write = jax.jit(on_policy.make_write(settings, NETWORKS, align_next_tokens))
    moved = {name: x[::-1] for name, x in BATCH.items()}
    texts, batches = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes), []
    for step, batch in enumerate((BATCH, moved, moved)):
        made, texts, numbers = write(variables, batch, jax.random.key(step), state(step, texts))
        assert jax.tree.map(lambda x: (x.shape, x.dtype), texts) == jax.tree.map(lambda x: (x.shape, x.dtype), shapes)
        assert numbers["written_age"] == step % 2
        assert {name: x[1::2].tolist() for name, x in made.items() if name in ("tokens", "index", "label")} == {
            name: batch[name][1::2].tolist() for name in ("tokens", "index", "label")
        }
        batches.append(made)
    for name, x in written(HALF, variables).items():
        np.testing.assert_array_equal(batches[0][name], x)
        np.testing.assert_array_equal(batches[1][name][::2], x[::2])
    for name, x in written(HALF, variables, moved, seed=2).items():
        np.testing.assert_array_equal(batches[2][name], x)


@pytest.mark.parametrize(
    ("settings", "batch", "message"),
    [
        (OnPolicy(share=1.5), {}, r"on_policy\.share must be in \[0, 1\], got 1\.5"),
        (OnPolicy(share=0.5, temperature=-1.0), {}, r"on_policy\.temperature must be at least 0"),
        (OnPolicy(share=0.5, writer="studnet"), {}, r"on_policy\.writer must be .*'student'"),
        (OnPolicy(share=0.5, writer="mlp"), {}, r"on_policy\.writer must be a causal network .* got 'mlp'"),
        (OnPolicy(share=0.5, tokens=8), {}, r"on_policy\.tokens must be below the 8 tokens of a text"),
        (OnPolicy(share=0.5, tokens=3, samples=3), {}, r"on_policy\.share must give a multiple of samples=3 texts"),
        (OnPolicy(share=0.1, tokens=3), {}, r"on_policy\.share must give a multiple .* which is 0"),
        (OnPolicy(share=0.5, tokens=3, stop=(11,)), {}, r"on_policy\.stop must be in \[0, 10\], got 11"),
        (
            OnPolicy(share=0.5, tokens=3, staleness=-1),
            {},
            r"on_policy\.staleness must be at least 0 and finite, got -1",
        ),
        (OnPolicy(share=0.5, tokens=3, alarm="stopp"), {}, r"on_policy\.alarm must be .* got 'stopp'"),
        (OnPolicy(share=0.5, tokens=3, entropy=(2.0, 1.0)), {}, r"on_policy\.entropy must be \(least, largest\)"),
        (OnPolicy(share=0.5, tokens=3, length=(2.0,)), {}, r"on_policy\.length must be \(least, largest\), got \(2"),
        (OnPolicy(share=0.5, length=(-5.0, -1.0)), {}, r"length must be \(least, largest\), got \(-5\.0, .* below 64"),
        (OnPolicy(share=0.5, tokens=3, length=(3.0, 9.0)), {}, r"length must be .* got \(3\.0, 9\.0\).* below 3 "),
        (OnPolicy(share=0.5, tokens=3, repetition=(1.0, 2.0)), {}, r"repetition must be .* got \(1\.0, .* below 1 "),
        (
            OnPolicy(share=0.5, tokens=3, entropy=(float("nan"), 2.0)),
            {},
            r"entropy must be .* below inf",
        ),
        (OnPolicy(share=float("nan")), {}, r"on_policy\.share must be in \[0, 1\], got nan"),
        (OnPolicy(share=0.5, tokens=3), {"segment": TOKENS}, r"share must be 0 for data with \['segment'\]"),
        (OnPolicy(share=0.5, tokens=3), {"cached/teacher/logits": TOKENS}, r"share must be 0 beside cached outputs"),
        (OnPolicy(share=0.5, tokens=3), {"answer_mask": None}, r"prompt must be in \[1, 5\] for texts without answers"),
    ],
)
def test_bad_settings_are_refused(settings, batch, message):
    fields = {name: x for name, x in {**BATCH, **batch}.items() if x is not None}
    with pytest.raises(UserError, match=message):
        on_policy.check(settings, NETWORKS, fields, "on_policy")


@pytest.mark.parametrize(
    "change", [{"temperature": 0.0}, {"share": 0.0}, {"writer": "teacher"}, {"top_k": 3}, {"staleness": 1}]
)
def test_terms_of_samples_refuse_texts_of_another_distribution(change):
    settings = OnPolicy(share=1.0)
    on_policy.check_samples(settings, "student", "term 'kl'")
    with pytest.raises(UserError, match=r"term 'kl' must have texts that 'student' draws from its own distribution"):
        on_policy.check_samples(dataclasses.replace(settings, **change), "student", "term 'kl'")
