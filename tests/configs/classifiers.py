"""Teachers of scikit-learn on parts of the digits, merged with a network as an ensemble, in a few seconds."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 128, 10, 5
    c.data = dict(name="digits")
    c.networks = dict(
        forest=dict(source="cached", cache="stage:forest"),
        logistic=dict(source="cached", cache="stage:logistic"),
        network=dict(source="frozen", model="mlp", widths=(16,), weights="stage:network"),
        teacher=dict(source="ensemble", of=("forest", "logistic", "network")),
        student=dict(source="trained", model="mlp", widths=(16,)),
    )
    c.terms = dict(kd=dict(method="kd", temperature=2.0))
    c.optimizer = dict(name="adam")
    c.learning_rate = 1e-2
    c.evaluate = dict(every=5, metrics=("accuracy", "agreement"), saliency=False)
    c.cache = dict(dtype="float32")

    def part(number, by="iid"):
        return dict(partition=dict(of=3, part=number, by=by))

    forest = dict(name="forest", settings=dict(n_estimators=20))
    c.stages = dict(
        forest=dict(kind="sklearn", sklearn=forest, data=part(0, "class")),
        logistic=dict(kind="sklearn", sklearn=dict(name="logistic"), data=part(1), cache=dict(store="top_k", k=9)),
        network=dict(
            networks=dict(network=dict(source="trained", weights="")),
            terms=dict(task=dict(method="cross_entropy", student="network")),
            data=part(2),
        ),
        distil=dict(networks=dict(forest={}, logistic={}, network={}, teacher={}, student={})),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                forest={},
                logistic={},
                network={},
                teacher={},
                student=dict(source="frozen", weights="stage:distil"),
            ),
            evaluate=dict(split="test"),
        ),
    )
    return c
