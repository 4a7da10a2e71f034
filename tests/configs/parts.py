"""Three teachers, each of a part of the digits, in one program; `:single` is one of them, `:conv` has convolutions."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 32, 6, 2
    c.data = dict(name="digits", augment=("pad_crop:1",), partition=dict(of=3, by="class"))
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(16,), dropout=0.2, weights="stage:teachers@0"),
    )
    c.terms = dict(task=dict(method="cross_entropy", student="teacher"))
    c.optimizer = dict(name="adam")
    c.learning_rate = dict(name="cosine_decay", init_value=1e-3)
    c.evaluate = dict(every=3, metrics=("accuracy",))
    if mode.endswith("conv"):
        c.networks.teacher = dict(source="frozen", model="cifar_resnet", depth=8, width=1, weights="stage:teachers@0")
        c.optimizer = dict(name="sgd", momentum=0.9)
    swept = {} if mode.startswith("single") else dict(seed=(0, 1, 1), data=dict(partition=dict(part=(0, 1, 2))))
    parts = {f"part{k}": dict(like="teacher", weights=f"stage:teachers#teacher@{k}") for k in range(3)}
    c.stages = dict(teachers=dict(networks=dict(teacher=dict(source="trained", weights="")), sweep=swept))
    if not mode.startswith("single"):
        c.stages.evaluate = dict(kind="evaluate", networks=parts, evaluate=dict(split="validation"))
    return c
