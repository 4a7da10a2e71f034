"""Two teachers by the column `kind` of sums: all on the device, one on the device, and from caches."""

from ml_collections import ConfigDict

DECODER = dict(model="decoder", layers=1, heads=2, positions="rotary", norm="rms", bias=False, length=12)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 8, 4, 1
    c.data = dict(name="answers", path="", text="q", answer="a", end="\n", length=12, route="kind")
    c.optimizer, c.learning_rate = dict(name="sgd"), 0.3
    c.evaluate = dict(metrics=("nll",))
    c.networks = dict(
        even=dict(DECODER, source="frozen", width=16, weights="stage:first"),
        odd=dict(DECODER, source="frozen", width=12, weights="stage:second"),
        teacher=dict(source="routed", of=("even", "odd")),
        student=dict(DECODER, source="trained", width=8),
    )
    c.terms = dict(kd=dict(method="forward_kl", chunk=20))
    c.stages = dict(
        first=dict(networks=dict(even=dict(source="trained", weights="")), terms=learn("even")),
        second=dict(networks=dict(odd=dict(source="trained", weights="")), terms=learn("odd")),
        all=dict(),
        one=dict(
            networks=dict(even=dict(offload=True), odd=dict(offload=True), teacher=dict(resident="one"), student={})
        ),
        ask_even=dict(kind="cache", networks=dict(even={}), cache=hidden("even")),
        ask_odd=dict(kind="cache", networks=dict(odd={}), cache=hidden("odd")),
        read=dict(
            networks=dict(
                even=dict(source="cached", cache="stage:ask_even"),
                odd=dict(source="cached", cache="stage:ask_odd"),
                teacher={},
                student={},
            )
        ),
        ask=dict(
            kind="cache",
            networks=dict(even={}, odd={}, teacher={}),
            cache=dict(network="teacher", store="top_k", k=255, dtype="float32"),
        ),
        read_one=dict(
            networks=dict(stored=dict(source="cached", cache="stage:ask", tail="bucket"), student={}),
            terms=dict(listed=dict(method="top_k", k=255, teacher="stored", chunk=20)),
        ),
        **averages(),
        measure=dict(
            kind="evaluate",
            networks=dict(even={}, odd={}, teacher={}, student=dict(weights="stage:all")),
            evaluate=dict(
                split="validation", reference="teacher", metrics=("nll", "accuracy", "kl", "agreement"), texts=0
            ),
        ),
    )
    return c


def averages():
    """Stages with the average of both teachers: computed in chunks, at once, and from caches of states."""
    average = dict(source="ensemble", of=("even", "odd"), weighting="confidence", member_weights=(1.0, 2.0))
    cached = dict(even=dict(source="cached", cache="stage:ask_even"), odd=dict(source="cached", cache="stage:ask_odd"))
    at_once = dict(even=dict(dense=True), odd=dict(dense=True))
    forms = dict(averaged=dict(even={}, odd={}), averaged_dense=at_once, averaged_read=cached)
    return {name: dict(networks=dict(members, teacher=average, student={})) for name, members in forms.items()}


def learn(name):
    return dict(task=dict(method="cross_entropy", student=name))


def hidden(name):
    return dict(network=name, store="hidden", dtype="float32")
