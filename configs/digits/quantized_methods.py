"""Digits, few labels: what quantization takes from students of feature distillation, and what training gives back.

    python -m jaxdistill.launch --config configs/digits/quantized_methods.py --workdir runs/quantized_fitnet
    python -m jaxdistill.launch --config configs/digits/quantized_methods.py:all --workdir runs/quantized_methods
    python -m jaxdistill.launch --config configs/digits/quantized_methods.py:smoke --workdir runs/smoke

The mode is the name of a method, `all` of them, or nothing for FitNet. Students, teacher and terms are those of
`zoo.py`. Of each student there are five rows: `NAME`, in float32; `NAME_int8` and `NAME_int4`, quantized after
training; `NAME_qat`, which goes on in 4 bits on the labels; `NAME_qad`, which also learns from its own full-precision
self. Weights have a scale for each channel, and inputs of layers, of as many bits, one for each example: there channels
of large values do harm. SimKD is left out, whose student is read by the teacher's classifier.

Paper:    none; the task is ours.
Measured: docs/compression.md (python benchmarks/quantized_methods.py).
"""

from jaxdistill.configs.digits import zoo
from ml_collections import ConfigDict

METHODS = ("kd", "fitnet", "at", "fsp", "nst", "ft", "ab", "ofd", "vid", "reviewkd", "semckd", "srrl", "mgd", "afd")
MODES = ("", "all", "smoke", *METHODS)
FORMS = ("int8", "int4", "qat", "qad")


def get_config(mode: str = "") -> ConfigDict:
    chosen = {"": ("fitnet",), "all": METHODS, "smoke": ("fitnet",)}.get(mode, (mode,))
    c = zoo.get_config("all")
    needed = ["teacher", "alone", *(["paraphrase"] if "ft" in chosen else []), *chosen]
    stages = {name: c.stages[name] for name in needed}
    rows = dict(teacher={})
    for name in ("alone", *chosen):
        stages |= {f"{name}_qat": tune(name, distil=False), f"{name}_qad": tune(name, distil=True)}
        frozen = dict(like="student", source="frozen")
        rows[name] = dict(frozen, weights=f"stage:{name}#student")
        rows[f"{name}_int8"] = dict(rows[name], compress=rounded(8))
        rows[f"{name}_int4"] = dict(rows[name], compress=rounded(4))
        for form in ("qat", "qad"):
            rows[f"{name}_{form}"] = dict(frozen, weights=f"stage:{name}_{form}#student", compress=rounded(4))
    stages["evaluate"] = dict(
        kind="evaluate",
        networks=rows,
        evaluate=dict(split="test", networks=(*rows,), metrics=("accuracy", "nll", "agreement")),
    )
    if mode == "smoke":
        c.steps = 4
        stages = {
            name: {key: value for key, value in stage.items() if key != "steps"} for name, stage in stages.items()
        }
    c.stages = stages
    return c


def rounded(bits: int) -> dict:
    """Returns the view of weights and inputs of so many bits."""
    return dict(round=dict(view="quantize", bits=bits, activations=bits))


def tune(name: str, distil: bool) -> dict:
    """Returns the stage in which a method's student goes on in 4 bits, on labels alone or also on its own outputs."""
    weights = f"stage:{name}#student"
    networks = dict(student=dict(weights=weights, compress=rounded(4)))
    terms = dict(task={})
    if distil:
        networks["exact"] = dict(like="student", source="frozen", weights=weights)
        terms["kd"] = dict(method="kd", teacher="exact", temperature=4.0)
    return dict(networks=networks, terms=terms, steps=100, learning_rate=dict(name="cosine_decay", init_value=1e-3))
