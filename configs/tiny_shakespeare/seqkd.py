"""Tiny Shakespeare: sequence-level distillation, texts continued by the teacher.

    python -m jaxdistill.launch --config configs/tiny_shakespeare/seqkd.py --workdir runs/shakespeare_seqkd
    python -m jaxdistill.launch --config configs/tiny_shakespeare/seqkd.py:smoke --workdir runs/shakespeare_seqkd_smoke

Text, networks and stages are those of `kd.py`. `distilled` learns the next byte on windows whose last 64 bytes the
teacher has drawn after the first 64. The paper takes the likeliest continuations, found by a beam; of free text these
repeat themselves, so that ours are samples.

Paper:    Kim & Rush, EMNLP 2016, https://arxiv.org/abs/1606.07947, section 3.2; the text is ours.
Measured: docs/on_policy.md, 400 steps, 3 seeds: NLL 2.214 ± 0.015 nats, of `alone` 2.082 ± 0.009.
"""

from jaxdistill.configs.tiny_shakespeare import kd
from ml_collections import ConfigDict

MODES = kd.MODES


def get_config(mode: str = "") -> ConfigDict:
    c = kd.get_config(mode)
    half = c.data.length // 2
    c.stages.distil = dict(
        terms=dict(task=dict(weight=1.0)),
        on_policy=dict(share=1.0, writer="teacher", prompt=half, tokens=half),
    )
    return c
