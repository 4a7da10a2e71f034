"""Two teachers of the digits that differ by their seeds, merged by two rules, and what becomes of them."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 12, 4
    c.data = dict(name="digits")
    model = dict(model="cifar_resnet", depth=8, width=1) if mode == "conv" else dict(model="mlp", widths=(16, 12))
    c.networks = dict(teacher=dict(source="frozen", weights="stage:one", **model))
    c.terms = dict(task=dict(method="cross_entropy", student="teacher"))
    c.optimizer = dict(name="adam")
    c.learning_rate = 1e-2
    c.evaluate = dict(metrics=("accuracy",))
    merged = dict(
        kind="merge",
        networks=dict(
            one=dict(like="teacher", weights="stage:one"),
            two=dict(like="teacher", weights="stage:two"),
        ),
        merge=dict(networks=("one", "two")),
    )
    teach = dict(networks=dict(teacher=dict(source="trained", weights="")))
    c.stages = dict(
        one=dict(seed=1, **teach),
        two=dict(seed=2, **teach),
        merge=merged | dict(merge=dict(networks=("one", "two"), align=True)),
        soup=merged | dict(merge=dict(networks=("one", "two"), rule="soup", into="soup")),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={},
                merged=dict(like="teacher", weights="stage:merge#merged"),
                soup=dict(like="teacher", weights="stage:soup"),
            ),
            evaluate=dict(split="test", networks=("teacher", "merged", "soup")),
        ),
    )
    return c
