"""Texts of a file in a few seconds: a bag of embeddings of the teacher's tokens, batches of two lengths."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every, c.steps_per_call = 8, 16, 2, 2
    c.data = dict(name="text_rows", text="text", label="label", length=16, buckets=(8, 16))
    c.data.splits = dict(train="[:75%]", validation="[75%:]")
    c.networks = dict(
        student=dict(
            source="trained", model="bag_of_embeddings", width=8, widths=(), vocabulary=25, input="teacher_tokens"
        )
    )
    c.terms = dict(task=dict(method="cross_entropy"))
    c.optimizer = dict(name="adam")
    c.learning_rate = dict(name="constant", value=1e-2)
    c.evaluate = dict(every=8, metrics=("accuracy", "nll"))
    c.stages = dict(train={})
    return c
