"""A ladder of students: three or four sizes and lengths of training in one run, with and without a teacher.

    jaxdistill sweep benchmarks/configs/worth.py:digits --workdir runs/ladder \\
        --values data.partition.of=16,8,4

Modes: `digits` or `mnist`, with `,weak` for a teacher that has seen few labels. A run has one number of examples, a
part of the training split; its four lanes have parts and seeds of their own. In each stage `taught_W`, of width W,
learns from the teacher alone, and `alone_W` from the labels. `benchmarks/worth.py` runs it.
"""

from ml_collections import ConfigDict

MODES = ("digits", "digits,weak", "mnist", "mnist,weak")

WIDTHS = (16, 32, 64, 256)
STEPS = (100, 200, 400, 1600)
LANES = 4


def get_config(mode: str = "digits") -> ConfigDict:
    task, weak = mode.partition(",")[0], mode.endswith(",weak")
    c = ConfigDict()
    c.batch, c.log_every, c.steps_per_call = 64, 50, 10
    lanes = tuple(range(LANES))
    c.sweep = dict(seed=lanes, data=dict(partition=dict(part=lanes)))
    c.data = dict(name=task, partition=dict(of=4))
    if task == "mnist":
        c.data.splits = dict(train="train[:50000]", validation="train[50000:52000]", test="test")
    c.networks = dict(teacher=dict(source="frozen", model="mlp", widths=(128, 128), weights="stage:teacher@0"))
    c.terms = dict(labels=dict(method="cross_entropy", student="teacher"))
    for width in WIDTHS:
        for name in (f"taught_{width}", f"alone_{width}"):
            c.networks[name] = dict(source="trained", model="mlp", widths=(width,))
        c.terms[f"kd_{width}"] = dict(method="kd", student=f"taught_{width}", temperature=1.0)
        c.terms[f"task_{width}"] = dict(method="cross_entropy", student=f"alone_{width}")
    students = [name for name in c.networks if name != "teacher"]
    c.optimizer = dict(name="adamw", weight_decay=1e-4)
    c.learning_rate = 1e-2
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(labels={}),
            sweep=dict(seed=(0,)),
            data=dict(partition=dict(of=1), labels_per_class=20 if weak else 0),
            steps=100 if weak else 400,
            learning_rate=dict(name="cosine_decay", init_value=1e-3),
        )
    )
    for steps in STEPS:
        c.stages[f"steps_{steps}"] = dict(
            networks=dict(teacher={}, **{name: {} for name in students}),
            terms={f"{kind}_{width}": {} for kind in ("kd", "task") for width in WIDTHS},
            steps=steps,
            evaluate=dict(every=steps // 5, metrics=("nll",)),
            checkpoint=dict(keep="best", metric="nll"),
        )
    evaluated = {
        f"{name}_{steps}": dict(like=name, source="frozen", weights=f"stage:steps_{steps}#{name}")
        for steps in STEPS
        for name in students
    }
    c.stages.evaluate = dict(
        kind="evaluate",
        networks=dict(teacher={}, **evaluated),
        evaluate=dict(
            split="test",
            networks=("teacher", *evaluated),
            metrics=("nll", "accuracy"),
            saliency=False,
        ),
    )
    return c
