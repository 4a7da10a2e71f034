"""Tiny Shakespeare: on-policy distillation, a policy gradient of the tokens that the student writes.

    python -m jaxdistill.launch --config configs/tiny_shakespeare/opd.py --workdir runs/shakespeare_opd
    python -m jaxdistill.launch --config configs/tiny_shakespeare/opd.py:smoke --workdir runs/shakespeare_opd_smoke

Text, networks and stages are those of `kd.py`. `distilled` starts from the weights of `alone`, continues the first 64
bytes of every window with 64 of its own, and learns from the teacher's log-probabilities of these alone: the estimator
k1 of KL(student || teacher) in each token. The smaller rate is for the noise of its gradient.

Paper:    Lu & Thinking Machines Lab, 2025, https://thinkingmachines.ai/blog/on-policy-distillation; the text is ours.
Measured: docs/on_policy.md, 400 steps, 3 seeds: NLL 2.088 ± 0.017 nats, of `alone`, from which
          it starts, 2.082 ± 0.009.
"""

from jaxdistill.configs.tiny_shakespeare import kd
from ml_collections import ConfigDict

MODES = kd.MODES


def get_config(mode: str = "") -> ConfigDict:
    c = kd.get_config(mode)
    c.terms.opd = dict(method="sampled_kl", estimator="k1", weight=1.0)
    half = c.data.length // 2
    c.stages.distil = dict(
        networks=dict(teacher={}, student=dict(weights="stage:alone")),
        terms=dict(opd={}),
        on_policy=dict(share=1.0, prompt=half, tokens=half),
        learning_rate=dict(c.learning_rate.to_dict(), peak_value=1e-3, end_value=1e-4),
    )
    return c
