"""Digits, few labels: every classification method distils the same teacher into the same small residual network.

    python -m jaxdistill.launch --config configs/digits/zoo.py --workdir runs/zoo
    python -m jaxdistill.launch --config configs/digits/zoo.py:dkd --workdir runs/zoo
    python -m jaxdistill.launch --config configs/digits/zoo.py:all --workdir runs/zoo
    python -m jaxdistill.launch --config configs/digits/zoo.py:smoke --workdir runs/smoke

The mode is the name of a method, `all` of them, or nothing for plain KD. Networks and data are those of nobody's paper;
what differs between stages is the one term. The student sees every training image and the labels of ten of each class:
methods that need labels learn from these alone, the others from all images. Weights are those of the CRD benchmark
where it has one, else chosen once by the size of the loss; nothing was tuned on the test split.

Paper:    none; the task is ours.
Measured: docs/zoo.md (python benchmarks/zoo.py --workdir runs/zoo --write docs/zoo.md).
"""

from ml_collections import ConfigDict

SLOPES = dict(student="slope_student", teacher="slope_teacher")

RECIPES = {
    # logits
    "kd": {},
    "hard_label": {},
    "logit_regression": {},
    "dkd": dict(weight=dict(to=1.0, over_epochs=5)),
    "nkd": {},
    "dist": {},
    "logit_standardization": {},
    "mlkd": {},
    "ctkd": dict(progress=dict(start=0.0, to=1.0, over_epochs=10)),
    "wsld": {},
    "teacher_free": {},
    "class_wise_top_k": {},
    "total_variation": {},
    "ranking": {},
    "multi_label": {},
    "adaptive_temperature": {},
    # features
    "fitnet": dict(weight=100.0),
    "at": dict(weight=1000.0),
    "fsp": dict(weight=50.0),
    "nst": dict(weight=50.0),
    "ft": dict(teacher="factors", maps=2, norm=True, weight=200.0),
    "ab": {},
    "ofd": {},
    "vid": {},
    "reviewkd": {},
    "semckd": dict(weight=400.0),
    "simkd": dict(student="reader"),
    "srrl": dict(student="reader"),
    "mgd": {},
    "afd": dict(weight=100.0),
    # relations
    "sp": dict(weight=3000.0),
    "cc": dict(weight=50.0),
    "rkd": dict(distance_weight=25.0, angle_weight=50.0),
    "pkt": dict(weight=30000.0),
    "kdsvd": {},
    "ickd": {},
    "irg": {},
    "cka": {},
    "crd": dict(examples=1077, weight=0.8),
    "seed": {},
    # derivatives, beside KD
    "sobolev": SLOPES,
    "jacobian": SLOPES,
}
"""method -> fields of its term that differ from the method's defaults."""

SMOKE = ("kd", "ctkd", "ft", "simkd", "crd", "jacobian")
MODES = ("", "all", "smoke", *RECIPES)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 128, 200
    c.data = dict(name="digits", augment=("pad_crop:1", "rotate:10"), labels_per_class=10)
    c.networks = dict(
        teacher=dict(source="frozen", model="cifar_resnet", depth=8, width=2, weights="stage:teacher"),
        student=dict(source="trained", model="cifar_resnet", depth=8, width=1),
        # networks that some methods compare
        factors=dict(source="head", of="teacher", tap="stage3", head="paraphraser"),
        reader=dict(source="reused_classifier", of="student", tap="stage3"),
        slope_student=dict(source="derivative", of="student", mode="jvp"),
        slope_teacher=dict(source="derivative", of="teacher", mode="jvp"),
    )
    c.terms = dict(task=dict(method="cross_entropy"))
    c.optimizer = dict(name="adamw", weight_decay=1e-4, clip=5.0)
    c.learning_rate = dict(name="cosine_decay", init_value=3e-3)
    c.evaluate = dict(metrics=("accuracy", "nll"))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher")),
            data=dict(labels_per_class=0),
        ),
        alone=dict(networks=dict(student={}), terms=dict(task={})),
    )
    chosen = {"": ["kd"], "all": list(RECIPES), "smoke": SMOKE}.get(mode, [mode])
    if "ft" in chosen:
        c.stages.paraphrase = dict(
            networks=dict(teacher={}, factors={}),
            terms=dict(rebuild=dict(method="fitnet", adapter=False, layers="reconstruction=stage3", student="factors")),
        )
    rows = dict(teacher={}, alone=dict(like="student", source="frozen", weights="stage:alone"))
    for name in chosen:
        c.stages[name] = stage(name)
        rows[name] = dict(like="student", source="frozen", weights=f"stage:{name}#student")
    if "simkd" in chosen:  # what is deployed is the student as the teacher's classifier reads it
        rows["simkd_student"] = rows["simkd"]
        rows["simkd"] = dict(like="reader", of="simkd_student", weights="stage:simkd#reader")
    measured = ["teacher", "alone", *chosen]
    c.stages.evaluate = dict(
        kind="evaluate",
        networks=rows,
        evaluate=dict(split="test", networks=measured, metrics=("accuracy", "nll", "ece", "agreement")),
    )
    if mode == "smoke":
        c.steps = 4
    return c


def stage(name: str) -> dict:
    """The stage of one method: the task, its term, and the networks that the term needs."""
    term = dict(method=name) | RECIPES[name]
    networks, terms = dict(teacher={}, student={}), {"task": {}, name: term}
    if name == "ft":
        networks["factors"] = dict(weights="stage:paraphrase", frozen=True)
    if term.get("student") == "reader":
        networks["reader"] = {}
    if name == "simkd":  # the paper's student learns features alone; its classifier is the teacher's
        terms.pop("task")
    if name in ("sobolev", "jacobian"):
        how = dict(mode="vjp" if name == "jacobian" else "jvp")
        networks |= dict(slope_student=how, slope_teacher=how)
        terms["kd"] = dict(method="kd")
    return dict(networks=networks, terms=terms)
