"""Tiny Shakespeare: GKD, half of the texts continued by the student itself.

    python -m jaxdistill.launch --config configs/tiny_shakespeare/gkd.py --workdir runs/shakespeare_gkd
    python -m jaxdistill.launch --config configs/tiny_shakespeare/gkd.py:smoke --workdir runs/shakespeare_gkd_smoke

Text, networks and stages are those of `kd.py`. `distilled` starts from the weights of `alone`, since an untrained
student writes noise. In half of a batch it continues the first 64 bytes of a window with 64 of its own; the teacher
grades these and the windows of the data alike, by the generalised Jensen-Shannon divergence.

Paper:    Agarwal et al., ICLR 2024, https://arxiv.org/abs/2306.13649 (lambda = 0.5, beta = 0.5); the text is ours.
Measured: docs/on_policy.md, 400 steps, 3 seeds: KL to the teacher 0.181 ± 0.013 nats, of its
          control `continued` 0.241 ± 0.016.
"""

from jaxdistill.configs.tiny_shakespeare import kd
from ml_collections import ConfigDict

MODES = kd.MODES


def get_config(mode: str = "") -> ConfigDict:
    c = kd.get_config(mode)
    c.terms.gkd = dict(method="gkd", beta=0.5, weight=1.0)
    half = c.data.length // 2
    c.stages.distil = dict(
        networks=dict(teacher={}, student=dict(weights="stage:alone")),
        terms=dict(gkd={}),
        on_policy=dict(share=0.5, prompt=half, tokens=half),
    )
    return c
