"""Teachers with other prompts: their predictions of the answer, where the student has it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.config import load
from jaxdistill.core import Output, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.networks.aligned import Aligned
from jaxdistill.networks.meaning import Meaning
from jaxdistill.networks.source import Context
from jaxdistill.pipeline import run

STUDENT, TEACHER = (
    {"tokens": [[1, 2, 7, 8, 9, 0, 0]], "token_mask": [[1, 1, 1, 1, 1, 0, 0]], "answer_mask": [[0, 0, 1, 1, 1, 0, 0]]},
    {"tokens": [[3, 4, 1, 2, 7, 8, 9]], "token_mask": [[1] * 7], "answer_mask": [[0, 0, 0, 0, 1, 1, 1]]},
)
BATCH = align_next_tokens(
    {name: jnp.array(x) for name, x in STUDENT.items()}
    | {f"teacher_{name}": jnp.array(x) for name, x in TEACHER.items()}
    | {"mask": jnp.ones(1)}
)
HIDDEN = jnp.arange(7.0).reshape(1, 7, 1)


@pytest.mark.parametrize("form", [Unembedding(HIDDEN, jnp.ones((1, 3))), HIDDEN * jnp.ones((1, 1, 3))])
def test_logits_of_the_answer_stand_where_the_student_predicts_it(form):
    """The student's answer is predicted at 1 to 3, the teacher's at 3 to 5."""
    logits = Aligned("big")({}, BATCH, {"big": Output(form)}, None)[0].logits
    assert type(logits) is type(form) or isinstance(logits, jax.Array)
    np.testing.assert_array_equal(core.dense(logits)[0, 1:4, 0], [3, 4, 5])
    assert BATCH["valid"][0].tolist() == [0, 1, 1, 1, 0, 0, 0]


def test_equal_prompts_give_the_teacher_itself():
    batch = {**BATCH, "teacher_valid": BATCH["valid"]}
    logits = Aligned("big")({}, batch, {"big": Output(HIDDEN)}, None)[0].logits
    counted = np.asarray(batch["valid"]) > 0
    np.testing.assert_array_equal(np.asarray(logits)[counted], np.asarray(HIDDEN)[counted])


def test_mistakes():
    with pytest.raises(UserError, match="of must be a network of teacher_tokens"):
        Aligned("big")({}, BATCH, {"big": Output(HIDDEN[:, :5])}, None)
    context = Context(
        3, None, input="tokens", meanings={"tokens": Meaning((), "a"), "teacher_tokens": Meaning((), "b")}
    )
    with pytest.raises(UserError, match="networks.net.source must be another than 'aligned'.*Take method 'uld'"):
        Aligned.build("net", {"of": "big"}, context)
    same = dataclasses.replace(context, meanings={"tokens": Meaning((), "a"), "teacher_tokens": Meaning((), "a")})
    assert Aligned.build("net", {"of": "big"}, same) == Aligned("big")


@pytest.mark.slow
def test_a_stage_with_other_prompts(tmp_path):
    """Shapes of the teacher's logits are those of the student's tokens, also if both texts are cut."""
    rows = [{"q": f"{n}+1=", "h": f"hint {n + 1}: {n}+1=", "a": str(n + 1)} for n in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    decoder = {"model": "decoder", "layers": 1, "width": 8, "heads": 2, "length": 24}
    names = {"name": "answers", "path": str(tmp_path / "a.jsonl"), "text": "q", "answer": "a", "teacher_text": "h"}
    alone = {
        "networks": {"big": {"source": "trained", "weights": "", "input": "tokens"}},
        "data": {"text": "h", "teacher_text": ""},
        "terms": {"task": {"method": "cross_entropy", "student": "big"}},
    }
    distil = {"networks": {"big": {}, "teacher": {}, "student": {}}, "terms": {"kd": {"method": "forward_kl"}}}
    config = {
        "batch": 8,
        "steps": 2,
        "data": names | {"end": "\n", "length": 12},
        "networks": {
            "big": decoder | {"source": "frozen", "input": "teacher_tokens", "weights": "stage:alone"},
            "teacher": {"source": "aligned", "of": "big"},
            "student": decoder | {"source": "trained"},
        },
        "stages": {"alone": alone, "distil": distil},
    }
    stages = run.prepare(load.stages(config), tmp_path / "run")
    assert core.prediction_shape(stages["distil"].shapes.outputs["teacher"].logits) == (8, 12)
