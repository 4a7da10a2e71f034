"""Digits: a network is pruned, distilled, quantised, measured and exported, in one pipeline.

    python -m jaxdistill.launch --config configs/digits/compress.py --workdir runs/digits_compress
    python -m jaxdistill.launch --config configs/digits/compress.py:smoke --workdir runs/digits_compress_smoke

`prune` removes half of the units of every layer, those of the least influence on the loss (Taylor). `distil` trains
what is left by the teacher, `quantize` the same in 8 bits, weights and inputs of layers. The final table has what each
step costs, `pruned` and `rounded` without training. The export is compared with the network before it has its name.

Paper:    none; the task is ours.
Measured: docs/compression.md has each step, over seeds (python benchmarks/compression.py --task digits).
"""

from jaxdistill.configs.stages import prune_distil_quantize
from ml_collections import ConfigDict

MODES = ("", "smoke")
HALF = dict(structure=dict(view="structure", keep=0.5, width=True, importance="taylor"))
EIGHT_BITS = dict(quantize=dict(view="quantize", bits=8, activations=8))


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 128, 400
    c.data = dict(name="digits", augment=("pad_crop:1", "rotate:10"), labels_per_class=10)
    c.networks = dict(teacher=dict(source="trained", model="mlp", widths=(256, 256)))
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=4.0))
    c.optimizer = dict(name="adamw", weight_decay=1e-4)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-3)
    c.evaluate = dict(metrics=("accuracy", "nll"))
    teacher = dict(data=dict(labels_per_class=0), learning_rate=dict(name="cosine_decay", init_value=3e-3))
    export = dict(format="stablehlo", bits=8)
    c.stages = prune_distil_quantize(HALF, EIGHT_BITS, ("accuracy", "nll", "agreement"), export=export, teacher=teacher)
    if mode == "smoke":
        c.steps = 4
    return c
