"""Sums with answers: a decoder that has learned to add teaches a small one, on answers of the data or its own.

    python -m jaxdistill.launch --config configs/sums/on_policy.py --workdir runs/sums
    python -m jaxdistill.launch --config configs/sums/on_policy.py:on_policy_reverse --workdir runs/sums_reverse
    python -m jaxdistill.launch --config configs/sums/on_policy.py:smoke --workdir runs/sums_smoke

The mode is the name of a method, or nothing for all of them. The teacher learns from 7,000 sums with their answers, the
students from 500 of these, for the same number of steps, each of which the teacher grades one batch of answers:

    alone                the data's answers, without the teacher
    off_policy_kd        KL from the teacher on the data's answers
    seq_kd               answers that the teacher writes, as labels (Kim & Rush, 2016)
    gkd_half             JSD(0.5), half of the answers written by the student (GKD, lambda = 0.5)
    gkd_one              JSD(0.5), all of them (lambda = 1)
    on_policy_forward    KL from the teacher on the student's answers
    on_policy_reverse    KL from the student on the student's answers (MiniLLM's divergence, by its exact gradient in
                         each token)

`exact_match` of the final table is the share of test sums whose answer a network writes token for token.

Paper:    Agarwal et al., ICLR 2024, https://arxiv.org/abs/2306.13649; the task is ours.
Measured: docs/on_policy.md (python benchmarks/on_policy.py).
"""

from typing import Any

from jaxdistill.configs.stages import teacher_alone_distil
from ml_collections import ConfigDict

LLAMA = dict(model="decoder", positions="rotary", norm="rms", activation="swiglu", bias=False, length=10)
STUDENT_WRITES = dict(share=1.0, tokens=4, stop=(10,))
METHODS = dict(
    off_policy_kd=dict(terms=dict(kd={})),
    seq_kd=dict(terms=dict(task={}), on_policy=dict(STUDENT_WRITES, writer="teacher", temperature=0.0)),
    gkd_half=dict(terms=dict(gkd={}), on_policy=dict(STUDENT_WRITES, share=0.5)),
    gkd_one=dict(terms=dict(gkd={}), on_policy=STUDENT_WRITES),
    on_policy_forward=dict(terms=dict(kd={}), on_policy=STUDENT_WRITES),
    on_policy_reverse=dict(terms=dict(reverse={}), on_policy=STUDENT_WRITES),
)
"""Terms and writers by method; a stop token is a line feed."""

METRICS = ("exact_match", "nll", "accuracy", "agreement", "kl")
MODES = ("", "smoke", *METHODS)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 128, 2000
    c.data = dict(name="sums", subset=dict(count=500))
    c.networks = dict(
        teacher=dict(LLAMA, source="frozen", layers=3, width=96, heads=4, hidden=256, weights="stage:teacher"),
        student=dict(LLAMA, source="trained", layers=2, width=48, heads=4, hidden=128),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=1.0),
        kd=dict(method="forward_kl", temperature=1.0, weight=1.0),
        gkd=dict(method="gkd", beta=0.5, normalize_beta=True, weight=1.0),
        reverse=dict(method="reverse_kl", temperature=1.0, weight=1.0),
    )
    c.optimizer = dict(name="adamw", weight_decay=0.1, b2=0.95, decay_on="kernel|embedding", clip=1.0)
    c.learning_rate = dict(
        name="warmup_cosine_decay", init_value=0.0, peak_value=3e-3, end_value=3e-4, warmup_fraction=0.05
    )
    c.evaluate = dict(every=0, metrics=("exact_match", "nll"))
    base: dict[str, Any] = teacher_alone_distil(METRICS, data=dict(subset=dict(count=0)), steps=4000)
    chosen = METHODS if mode in ("", "smoke") else {mode: METHODS[mode]}
    stages = dict(teacher=base["teacher"], alone=base["alone"], **chosen)
    frozen = {
        name: dict(like="student", source="frozen", weights=f"stage:{name}#student")
        for name in stages
        if name != "teacher"
    }
    networks = dict(teacher={}, **frozen)
    evaluate = dict(split="test", networks=tuple(networks), metrics=METRICS)
    c.stages = dict(**stages, evaluate=dict(kind="evaluate", networks=networks, evaluate=evaluate))
    if mode == "smoke":
        c.batch, c.steps, c.stages.teacher.steps = 16, 4, 4
    return c
