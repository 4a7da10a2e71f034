"""Methods for text encoders: values by hand, and other settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.conformance import toy_outputs
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.losses import attention, token
from jaxdistill.methods.distilbert import DistilBERT
from jaxdistill.methods.hidden_state import HiddenState
from jaxdistill.methods.minilm import MiniLM
from jaxdistill.methods.minilmv2 import MiniLMv2, relation_kl
from jaxdistill.methods.mobilebert import MobileBERT
from jaxdistill.methods.patient_kd import PatientKD, patient_kd
from jaxdistill.methods.text_gram import TextGram, hidden_gram, token_gram
from jaxdistill.methods.tinybert import TinyBERT, prediction

BATCH = toy_outputs.batch("texts")
STUDENT, TEACHER, WIDE = (toy_outputs.output("texts", seed, wide=seed == 2) for seed in (0, 1, 2))
VARIANTS = [
    TextGram("token"),
    TextGram("hidden", "block0"),
    HiddenState("cosine"),
    HiddenState(layers="mean:block*"),
    TinyBERT("prediction"),
    TinyBERT(layers="block1"),
    DistilBERT(label_weight=0.0),
    DistilBERT(restrict_to_masked=True),
    MiniLM("block0=block1"),
    MiniLMv2("query-key, value-value", 4),
    MobileBERT("block1", attention_weight=0.0),
]


def loss(method, student, teacher, batch=BATCH):
    variables = method.init(jax.random.key(0), student, teacher, batch)
    return core.mean(method.apply(variables, student, teacher, batch), method.valid(batch))


@pytest.mark.slow
@pytest.mark.parametrize("method", VARIANTS, ids=lambda method: type(method).__name__)
def test_other_settings_learn_and_ignore_padded_tokens(method):
    method.check()
    is_token = BATCH["token_mask"] > 0

    def spoil(path, x):
        if x.ndim < 3:
            return x
        keep = is_token.reshape(*is_token.shape, *[1] * (x.ndim - 2))
        if "scores" in str(path):
            keep = is_token[:, None, :, None] & is_token[:, None, None, :]
        return jnp.where(keep, x, 7.0)

    spoiled = jax.tree_util.tree_map_with_path(spoil, (STUDENT, TEACHER))
    np.testing.assert_allclose(loss(method, *spoiled), loss(method, STUDENT, TEACHER), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda s: loss(method, s, TEACHER)))(STUDENT)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(gradient)) > 0
    wild = toy_outputs.output("texts", 0, 1e4)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.jit(jax.grad(lambda s: loss(method, s, WIDE)))(wild)))


def test_distilbert_averages_each_term_over_its_own_tokens():
    logits = [np.asarray(x.logits) for x in (STUDENT, TEACHER)]
    log_q, log_p = (np.asarray(jax.nn.log_softmax(x / 2)) for x in logits)
    kl = 4 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
    label, is_token = np.asarray(BATCH["label"]), np.asarray(BATCH["token_mask"]) > 0
    hard = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits[0])), label[..., None], -1)[..., 0][label >= 0]
    left, target = (np.asarray(x.tap("final")) for x in (STUDENT, TEACHER))
    cosine = (left * target).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(target, axis=-1)
    rest = 2 * hard.mean() + (1 - cosine[is_token]).mean()
    np.testing.assert_allclose(loss(DistilBERT(), STUDENT, TEACHER), 5 * kl[is_token].mean() + rest, rtol=1e-5)
    restricted = loss(DistilBERT(restrict_to_masked=True), STUDENT, TEACHER)
    np.testing.assert_allclose(restricted, 5 * kl[label >= 0].mean() + rest, rtol=1e-5)


def test_distilbert_without_labels_can_be_split():
    plain = DistilBERT(label_weight=0.0)
    assert (plain.needs_labels, plain.needs_whole_batch) == (False, False)
    assert (DistilBERT().needs_labels, DistilBERT().needs_whole_batch) == (True, True)
    assert DistilBERT(label_weight=0.0, restrict_to_masked=True).needs_whole_batch
    unlabelled = {name: x for name, x in BATCH.items() if name != "label"}
    assert np.isfinite(loss(plain, STUDENT, TEACHER, unlabelled))
    parts = [jax.tree.map(lambda x, i=i: x[i::2], (STUDENT, TEACHER, BATCH)) for i in (0, 1)]
    shares = [plain.valid(part[2]).sum() / plain.valid(BATCH).sum() for part in parts]
    added = sum(share * loss(plain, *part) for share, part in zip(shares, parts, strict=True))
    np.testing.assert_allclose(added, loss(plain, STUDENT, TEACHER), rtol=1e-5)


def test_patient_kd_leaves_the_last_layer_to_the_logits():
    """PKD-Last of the paper pairs layers 1 to 5 of 6 with 7 to 11 of 12: here 1 of 2 with 3 of 4."""
    states = jax.random.normal(jax.random.key(0), (6, 2, 3, 4))
    student = Output(jnp.zeros((2, 3)), {f"block{i}": states[i] for i in range(2)})
    teacher = Output(jnp.zeros((2, 3)), {f"block{i}": states[2 + i] for i in range(4)})
    value = PatientKD(layers="last:block*").apply({}, student, teacher, {"mask": jnp.ones(2)})
    np.testing.assert_allclose(value, patient_kd(states[0][:, 0], states[4][:, 0]), rtol=1e-6)


def test_patient_kd_by_hand():
    student, teacher = jnp.array([[3.0, 4.0]]), jnp.array([[4.0, 3.0]])
    np.testing.assert_allclose(patient_kd(student, teacher), [0.08], rtol=1e-5)
    np.testing.assert_allclose(patient_kd(5 * student, teacher), [0.08], rtol=1e-5)
    np.testing.assert_allclose(patient_kd(student, teacher, normalize=False), [2.0])


def test_patient_kd_uses_the_first_token_of_all_layers_but_the_last():
    taps = {f"block{i}": jax.random.normal(jax.random.key(i), (2, 3, 4)) for i in range(4)}
    method, student = PatientKD(), Output(None, {"block0": taps["block0"], "block1": taps["block2"]})
    actual = method.apply({}, student, Output(None, taps), BATCH)
    np.testing.assert_allclose(actual, patient_kd(taps["block0"][:, 0], taps["block1"][:, 0]), rtol=1e-6)


def one_text(seed, width, blocks=1, heads=2):
    """An output for one text of three tokens, the last of them padding."""
    keys = iter(jax.random.split(jax.random.key(seed), 9 * blocks))
    taps = {"embed": jax.random.normal(next(keys), (1, 3, width))}
    for block in range(blocks):
        taps[f"block{block}"] = jax.random.normal(next(keys), (1, 3, width))
        taps[f"block{block}/scores"] = jax.random.normal(next(keys), (1, heads, 3, 3))
        for part in ("query", "key", "value"):
            taps[f"block{block}/{part}"] = jax.random.normal(next(keys), (1, 3, heads, width // heads))
    return Output(None, taps)


TEXT = {"token_mask": jnp.array([[1, 1, 0]]), "mask": jnp.ones(1)}
THERE = TEXT["token_mask"]


def kl_rows(student, teacher):
    """The mean KL of softmax rows over heads and the two tokens, in numpy."""
    p, q = (np.exp(np.asarray(x, np.float64)[:, :, :2, :2]) for x in (teacher, student))
    p, q = (x / x.sum(-1, keepdims=True) for x in (p, q))
    return (p * np.log(p / q)).sum(-1).mean()


def test_tinybert_by_hand():
    student, teacher = one_text(0, 4), one_text(1, 4, blocks=2)
    pairs = ("embed", "embed"), ("block0", "block1")
    expected = sum(np.mean(np.square(student.tap(a) - teacher.tap(b))[:, :2]) for a, b in pairs)
    scores = np.square(student.tap("block0/scores") - teacher.tap("block1/scores"))
    actual = TinyBERT().apply({}, student, teacher, TEXT)
    np.testing.assert_allclose(actual, [expected + scores[:, :, :2, :2].mean()], rtol=1e-5)


def test_tinybert_has_one_map_for_embeddings_and_all_layers():
    student, teacher = one_text(0, 4, blocks=2), one_text(1, 6, blocks=2)
    params = TinyBERT().init(jax.random.key(0), student, teacher, TEXT)["params"]
    assert jax.tree.map(jnp.shape, params) == {"fit": {"kernel": (4, 6), "bias": (6,)}}
    mixed = Output(None, dict(student.taps) | {"embed": jnp.zeros((1, 3, 5))})
    with pytest.raises(UserError, match="as wide as the embeddings, 5 and"):
        TinyBERT().init(jax.random.key(0), mixed, teacher, TEXT)


def test_tinybert_predictions_of_texts_and_of_tokens():
    teacher, student = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]])), jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
    by_hand = [-0.2 * np.log(0.25) - 0.8 * np.log(0.75), np.log(2)]
    np.testing.assert_allclose(prediction(student, teacher, 1.0), by_hand, rtol=1e-6)
    np.testing.assert_allclose(prediction(2 * student, 2 * teacher, 2.0), by_hand, rtol=1e-6)
    method, batch = TinyBERT("prediction"), {"token_mask": jnp.array([[1, 1], [1, 0]])}
    assert (method.same_classes, TinyBERT().same_classes) == (True, False)
    np.testing.assert_allclose(method.apply({}, Output(student), Output(teacher), batch), by_hand, rtol=1e-6)
    tokens = [Output(jnp.stack([x, x])) for x in (student, teacher)]
    expected = [np.mean(by_hand), by_hand[0]]
    np.testing.assert_allclose(method.apply({}, *tokens, batch), expected, rtol=1e-6)


def test_minilm_by_hand_on_the_last_layers():
    student, teacher = one_text(0, 4, blocks=2), one_text(1, 8, blocks=3)
    relations = []
    for result, block in ((student, 1), (teacher, 2)):
        value = np.asarray(result.tap(f"block{block}/value"))
        relations.append(np.einsum("bihd,bjhd->bhij", value, value) / np.sqrt(value.shape[-1]))
    expected = kl_rows(student.tap("block1/scores"), teacher.tap("block2/scores")) + kl_rows(*relations)
    np.testing.assert_allclose(MiniLM().apply({}, student, teacher, TEXT), [expected], rtol=1e-4)


def test_minilmv2_takes_different_widths_and_heads():
    student, teacher = one_text(0, 4, heads=2), one_text(1, 12, heads=3)
    actual = MiniLMv2(relation_heads=4).apply({}, student, teacher, TEXT)
    expected = 0
    for part in ("query", "key", "value"):
        vectors = [np.asarray(x.tap(f"block0/{part}")).reshape(1, 3, 4, -1) for x in (student, teacher)]
        expected += kl_rows(*(np.einsum("bihd,bjhd->bhij", x, x) / np.sqrt(x.shape[-1]) for x in vectors))
    np.testing.assert_allclose(actual, [expected], rtol=1e-4)
    with pytest.raises(UserError, match="relation heads must divide the width 4, got 3"):
        MiniLMv2().apply({}, student, teacher, TEXT)  # the teacher's 3


def test_minilmv2_value_relations_are_those_of_minilm():
    student, teacher = one_text(0, 4), one_text(1, 8)
    left, right = student.tap("block0/value"), teacher.tap("block0/value")
    relations = (attention.relation(x, x) for x in (left, right))
    expected = token.mean(attention.kl(*relations, THERE), THERE)
    np.testing.assert_allclose(relation_kl((left, left), (right, right), THERE, 2), expected, rtol=1e-6)
    assert np.isfinite(MiniLMv2("query-key").apply({}, student, teacher, TEXT)).all()


def test_mobilebert_by_hand():
    student, teacher = one_text(0, 4, blocks=2), one_text(1, 4, blocks=2)
    feature = sum(np.square(student.tap(x) - teacher.tap(x))[:, :2].mean() for x in ("block0", "block1"))
    maps = sum(kl_rows(student.tap(x), teacher.tap(x)) for x in ("block0/scores", "block1/scores"))
    np.testing.assert_allclose(MobileBERT().apply({}, student, teacher, TEXT), [feature + maps], rtol=1e-5)
    weighed = MobileBERT("uniform:block*", 100.0, 0.5).apply({}, student, teacher, TEXT)
    np.testing.assert_allclose(weighed, [100 * feature + 0.5 * maps], rtol=1e-5)


def test_grams_by_hand():
    student, teacher, is_token = jnp.array([[[1.0, 2.0], [3.0, 0.0], [9.0, 9.0]]]), jnp.zeros((1, 3, 2)), THERE
    features = np.array([[10.0, 2.0], [2.0, 4.0]]) / 2
    tokens = np.array([[5.0, 3.0], [3.0, 9.0]]) / 2
    for gram, expected in ((hidden_gram, features), (token_gram, tokens)):
        actual = gram((student, student), (teacher, teacher), is_token)
        np.testing.assert_allclose(actual, [np.mean(expected**2)], rtol=1e-6)


@pytest.mark.parametrize("gram", [hidden_gram, token_gram])
def test_grams_of_an_empty_text(gram):
    left, right = jax.random.normal(jax.random.key(0), (2, 1, 3, 2))
    actual = jax.jit(jax.value_and_grad(lambda x: gram((x, x), (right, right), jnp.zeros((1, 3))).sum()))(left)
    assert all((x == 0).all() for x in actual)


def test_hidden_grams_are_of_neighbours():
    student, teacher = one_text(0, 4, blocks=3), one_text(1, 4, blocks=3)
    left, right = ([x.tap(f"block{i}") for i in range(3)] for x in (student, teacher))
    expected = sum(hidden_gram(left[i : i + 2], right[i : i + 2], THERE) for i in (0, 1))
    np.testing.assert_allclose(TextGram().apply({}, student, teacher, TEXT), expected, rtol=1e-6)
    expected = sum(token_gram((x, x), (y, y), THERE) for x, y in zip(left, right, strict=True))
    np.testing.assert_allclose(TextGram("token").apply({}, student, teacher, TEXT), expected, rtol=1e-6)


def test_hidden_states_of_a_language_model_without_padding():
    batch = {"tokens": jnp.zeros((1, 3), int), "mask": jnp.ones(1)}
    left, right = (np.asarray(one_text(seed, 4).tap("block0")) for seed in (0, 1))
    cosine = (left * right).sum(-1) / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)
    for distance, expected in (("mse", np.square(left - right).mean()), ("cosine", (1 - cosine).mean())):
        actual = loss(HiddenState(distance), one_text(0, 4), one_text(1, 4), batch)
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("method", [TinyBERT(), MiniLM(), MobileBERT()], ids=lambda method: type(method).__name__)
def test_attention_of_different_numbers_of_heads_is_refused(method):
    with pytest.raises(UserError, match="number of heads 2, got 4"):
        method.init(jax.random.key(0), one_text(0, 8, heads=4), one_text(1, 8), TEXT)


@pytest.mark.parametrize(
    "method",
    [
        DistilBERT(temperature=0.0),
        DistilBERT(cosine_weight=-1.0),
        HiddenState("mae"),
        TinyBERT("both"),
        TinyBERT(temperature=float("inf")),
        TinyBERT(layers="mean:block*"),
        MiniLM("block0=block1,block1=block3"),
        MiniLM("learned:block*"),
        MiniLMv2(relation_heads=-1),
        MiniLMv2("query"),
        MiniLMv2("query-values"),
        MiniLMv2(layers="mean:block*"),
        MobileBERT("learned:block*"),
        MobileBERT(feature_weight=-1.0),
        MobileBERT(attention_weight=-1.0),
        TextGram("layer"),
        TextGram(layers="learned:block*"),
    ],
    ids=lambda method: type(method).__name__,
)
def test_invalid_fields_are_refused(method):
    with pytest.raises(UserError):
        method.check()
