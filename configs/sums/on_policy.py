"""Sums with answers: a decoder that has learned to add teaches a small one, on answers of the data or its own.

    python -m jaxdistill.launch --config configs/sums/on_policy.py --workdir runs/sums
    python -m jaxdistill.launch --config configs/sums/on_policy.py:on_policy_reverse_kl --workdir runs/sums_reverse
    python -m jaxdistill.launch --config configs/sums/on_policy.py:smoke --workdir runs/sums_smoke

The mode is the name of a method, or nothing for all of them. The teacher learns from 7,000 sums with their answers. The
student has the answers of 400 sums, and 2,000 prompts. `start` learns the answers, as GKD's students are fine-tuned
first; every other student continues from its weights, for the same number of steps, in each of which the teacher grades
one batch of answers:

    alone                   the 400 answers, without the teacher
    off_policy_kd           KL from the teacher on the 400 answers
    gkd_half                JSD(0.5) on the prompts of these, half of them answered by the student (GKD, lambda = 0.5)
    seq_kd                  answers that the teacher writes to the 2,000 prompts, as labels (Kim & Rush, 2016)
    gkd_one                 JSD(0.5) on the student's answers to these prompts (lambda = 1)
    on_policy_reverse_kl    KL from the student on these (MiniLLM's divergence, by its exact gradient in each token)

`exact_match` of the final table is the share of test sums whose answer a network writes token for token.

Paper:    Agarwal et al., ICLR 2024, https://arxiv.org/abs/2306.13649; the task is ours.
Measured: docs/on_policy.md (python benchmarks/on_policy.py).
"""

from typing import Any

from ml_collections import ConfigDict

LLAMA = dict(model="decoder", positions="rotary", norm="rms", activation="swiglu", bias=False, length=10)
STUDENT_WRITES = dict(share=1.0, tokens=4, stop=(10,))
PROMPTS = dict(subset=dict(count=2000))
"""The sums of which a student reads the prompts alone."""

METHODS = {
    "alone": dict(terms=dict(task={})),
    "off_policy_kd": dict(terms=dict(kd={})),
    "gkd_half": dict(terms=dict(gkd={}), on_policy=dict(STUDENT_WRITES, share=0.5)),
    "seq_kd": dict(
        terms=dict(task={}), on_policy=dict(STUDENT_WRITES, writer="teacher", temperature=0.0), data=PROMPTS
    ),
    "gkd_one": dict(terms=dict(gkd={}), on_policy=STUDENT_WRITES, data=PROMPTS),
    "on_policy_reverse_kl": dict(terms=dict(reverse={}), on_policy=STUDENT_WRITES, data=PROMPTS),
}
"""Terms, writers and prompts by method; a stop token is a line feed."""

METRICS = ("exact_match", "nll", "accuracy", "agreement", "kl")
MODES = ("", "smoke", *METHODS)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.steps_per_call = 64, 700, 25
    c.data = dict(name="sums", subset=dict(count=400))
    c.networks = dict(
        teacher=dict(LLAMA, source="frozen", layers=2, width=64, heads=4, hidden=192, weights="stage:teacher"),
        student=dict(LLAMA, source="trained", layers=2, width=48, heads=4, hidden=128, weights="stage:start"),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=1.0),
        kd=dict(method="forward_kl", temperature=1.0, weight=1.0),
        gkd=dict(method="gkd", beta=0.5, normalize_beta=True, weight=1.0),
        reverse=dict(method="reverse_kl", temperature=1.0, weight=1.0),
    )
    c.optimizer = dict(name="adamw", weight_decay=0.1, b2=0.95, decay_on="kernel|embedding", clip=1.0)
    c.learning_rate = _rate(3e-3)
    c.evaluate = dict(every=0, metrics=("exact_match", "nll"))
    c.stages = _stages(METHODS if mode in ("", "smoke") else {"alone": METHODS["alone"], mode: METHODS[mode]})
    if mode == "smoke":
        c.batch, c.steps = 16, 4
        c.stages.teacher.steps = c.stages.start.steps = 4
    return c


def _rate(peak: float) -> dict[str, Any]:
    shape = dict(name="warmup_cosine_decay", init_value=0.0, warmup_fraction=0.05)
    return dict(shape, peak_value=peak, end_value=peak / 10)


def _stages(methods: dict[str, Any]) -> dict[str, Any]:
    teacher = dict(
        networks=dict(teacher=dict(source="trained", weights="")),
        terms=dict(task=dict(student="teacher")),
        data=dict(subset=dict(count=0)),
        batch=128,
        steps=1500,
        learning_rate=_rate(5e-3),
    )
    start = dict(networks=dict(student=dict(weights="")), terms=dict(task={}), steps=600)
    without = dict(networks=dict(student={}))
    students = {name: (without if name == "alone" else {}) | method for name, method in methods.items()}
    frozen = {name: dict(like="student", source="frozen", weights=f"stage:{name}#student") for name in students}
    networks = dict(teacher={}, **frozen)
    evaluate = dict(split="test", networks=tuple(networks), metrics=METRICS)
    final = dict(kind="evaluate", networks=networks, evaluate=evaluate)
    return dict(teacher=teacher, start=start, **students, evaluate=final)
