"""AG News: MiniLM is fine-tuned, pruned, distilled, quantised, measured and exported, in one pipeline.

    python -m jaxdistill.launch --config configs/ag_news/compress.py --workdir runs/ag_news_compress
    python -m jaxdistill.launch --config configs/ag_news/compress.py:smoke --workdir runs/ag_news_compress_smoke

`prune` removes half of the hidden units and heads of every block, those of the least influence on the loss (Taylor);
`distil` trains what is left by the teacher, `quantize` the same with kernels and embeddings in 8 bits. The final table
has what each step costs, `pruned` and `rounded` without training; the export is compared with the network before it has
its name. The teacher is in `configs/texts.py`.

Measured: not yet.
"""

from jaxdistill.configs.stages import prune_distil_quantize
from jaxdistill.configs.texts import FINETUNE, classification
from ml_collections import ConfigDict

MODES = ("", "smoke")
DATA = dict(name="ag_news_subset", text="title", pair="description", length=128, buckets=(48, 64, 96, 128), pool=16)
# One head alone is refused, so that the smoke keeps its two.
HALF = dict(structure=dict(view="structure", keep=0.5, least=2, importance="taylor"))
EIGHT_BITS = dict(
    quantize=dict(view="quantize", bits=8, activations=8),
    embeddings=dict(view="quantize", bits=8, match="embedding"),
)


def get_config(mode: str = "") -> ConfigDict:
    c = classification("smoke" if mode == "smoke" else "layers", DATA, dict(kd=dict(method="kd", temperature=2.0)))
    teacher = c.stages.teacher.to_dict()
    c.networks = dict(teacher=c.networks.teacher)
    c.epochs, c.learning_rate = c.epochs and 1, dict(FINETUNE, peak_value=5e-5)
    budget = {key: teacher[key] for key in ("epochs", "steps", "learning_rate") if key in teacher}
    export = dict(format="stablehlo", bits=8)
    c.stages = prune_distil_quantize(HALF, EIGHT_BITS, ("accuracy", "nll", "agreement"), export=export, teacher=budget)
    return c
