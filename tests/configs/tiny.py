"""The main job in a few seconds: MLPs on the digits, with every kind of thing that a run writes."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 12, 2
    c.data = dict(name="digits", augment=("pad_crop:1", "rotate:5"), labels_per_class=20)
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(24,), weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(8,), dropout=0.2),
        slow=dict(source="ema", of="student", decay=0.9),
    )
    c.terms = dict(
        task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=2.0, weight=dict(to=1.0, over=8))
    )
    c.optimizer = dict(name="adam", clip=1.0)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(every=4, metrics=("accuracy", "nll"))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher")),
            data=dict(labels_per_class=0),
        ),
        distil=dict(checkpoint=dict(keep="best", metric="slow/nll")),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={},
                student=dict(source="frozen", weights="stage:distil"),
                slow=dict(like="student", source="frozen", weights="stage:distil"),
            ),
            evaluate=dict(
                split="test",
                networks=("teacher", "student", "slow"),
                pairs=("slow:student",),
                metrics=("accuracy", "f1", "nll", "ece", "agreement", "kl", "confusion", "reliability"),
                saliency=False,
            ),
        ),
    )
    return c
