"""Tiny Shakespeare, byte by byte: a small Llama teaches one with a fifth of its parameters.

    python -m jaxdistill.launch --config configs/tiny_shakespeare/kd.py --workdir runs/shakespeare
    python -m jaxdistill.launch --config configs/tiny_shakespeare/kd.py:smoke --workdir runs/shakespeare_smoke

A million characters of plays (Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks", 2015), in
windows of 128 bytes; a token is a byte. `distilled` learns the next byte and, at every place, the whole distribution
that the teacher has of it (word-level distillation of Kim & Rush 2016, https://arxiv.org/abs/1606.07947, with words
made bytes); `alone` is the same student on the same windows without the teacher. The smoke form reads sums, a text
that is generated, and needs no data.

Paper:    none on this text.
Measured: on the test split at the last step, three seeds, mean and standard deviation; KL is from the teacher, in nats:

          network    parameters  nats per byte    bits per byte    accuracy      KL
          teacher       357,024  1.661 ± 0.019   2.396 ± 0.028   51.2 ± 0.2
          alone          67,824  1.864 ± 0.023   2.689 ± 0.034   45.4 ± 0.7   0.345 ± 0.027
          distilled      67,824  1.837 ± 0.013   2.650 ± 0.019   46.3 ± 0.4   0.305 ± 0.001

          python benchmarks/seeds.py --config configs/tiny_shakespeare/kd.py --seeds 3 --workdir runs/shakespeare \\
              --metrics nll bits_per_byte accuracy kl
"""

from jaxdistill.configs.stages import teacher_alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")
LLAMA = dict(model="decoder", positions="rotary", norm="rms", activation="swiglu", bias=False, length=128)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 32, 1000
    c.data = dict(name="tiny_shakespeare", length=128)
    c.networks = dict(
        teacher=dict(LLAMA, source="frozen", layers=3, width=96, heads=4, hidden=256, weights="stage:teacher"),
        student=dict(LLAMA, source="trained", layers=2, width=48, heads=2, hidden=128),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=0.5),
        kd=dict(method="forward_kl", temperature=1.0, weight=0.5),
    )
    c.optimizer = dict(name="adamw", weight_decay=0.1, b2=0.95, decay_on="kernel|embedding", clip=1.0)
    c.learning_rate = dict(
        name="warmup_cosine_decay", init_value=0.0, peak_value=3e-3, end_value=3e-4, warmup_steps=100
    )
    c.evaluate = dict(every=250, metrics=("nll", "accuracy"))
    c.stages = teacher_alone_distil(("nll", "perplexity", "bits_per_byte", "accuracy", "agreement", "kl"))
    if mode == "smoke":
        c.batch, c.steps = 16, 4
        c.learning_rate.warmup_steps = 1
        c.data = dict(name="arithmetic", length=32)
    return c
