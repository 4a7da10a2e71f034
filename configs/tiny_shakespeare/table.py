"""Tiny Shakespeare: the students of `kd.py`, `seqkd.py`, `gkd.py` and `opd.py` under one teacher.

    python -m jaxdistill.launch --config configs/tiny_shakespeare/table.py --workdir runs/shakespeare_table
    python -m jaxdistill.launch --config configs/tiny_shakespeare/table.py:smoke --workdir runs/shakespeare_table_smoke

Each student is that of its file, trained for as many steps, in each of which the teacher grades one batch:

    alone              the text, without the teacher
    off_policy_kd      the text and KL from the teacher (`kd.py`)
    seq_kd             second halves of windows that the teacher writes, as labels (`seqkd.py`)
    continued          `alone`, for as many steps again: the control of the next two, which start from its weights
    gkd_half           JSD(0.5), half of a batch continued by the student (`gkd.py`)
    on_policy_k1       a policy gradient towards the teacher on what the student writes (`opd.py`)

Paper:    those of the files; the text is ours.
Measured: docs/on_policy.md (python benchmarks/on_policy.py --task tiny_shakespeare).
"""

from jaxdistill.configs.tiny_shakespeare import gkd, kd, opd, seqkd
from ml_collections import ConfigDict

MODES = kd.MODES
FILES = {"off_policy_kd": kd, "seq_kd": seqkd, "gkd_half": gkd, "on_policy_k1": opd}


def get_config(mode: str = "") -> ConfigDict:
    c = kd.get_config(mode)
    stages = {name: c.stages[name] for name in ("teacher", "alone")}
    stages["continued"] = dict(networks=dict(student=dict(weights="stage:alone")), terms=dict(task=dict(weight=1.0)))
    for name, file in FILES.items():
        single = file.get_config(mode)
        c.terms.update(single.terms)
        stages[name] = dict(single.stages.distil)
        stages[name].setdefault("terms", dict(task={}, kd={}))
    students = ["alone", *(name for name in stages if name not in ("teacher", "alone"))]
    frozen = {name: dict(like="student", source="frozen", weights=f"stage:{name}#student") for name in students}
    evaluate = c.stages.evaluate.copy_and_resolve_references()
    evaluate.networks = dict(teacher={}, **frozen)
    evaluate.evaluate.networks = ("teacher", *students)
    c.stages = dict(stages, evaluate=evaluate)
    return c
