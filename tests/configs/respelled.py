"""Teachers with a tokenizer of their own: of other tokens than the student's, and of equal ones."""

from ml_collections import ConfigDict

DECODER = dict(model="decoder", layers=1, heads=2, positions="rotary", norm="rms", bias=False, length=24)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 8, 4, 1
    c.data = dict(name="answers", path="", text="q", answer="a", length=24, teacher_tokenizer=mode, spans=True)
    c.optimizer, c.learning_rate = dict(name="sgd"), 0.3
    c.evaluate = dict(metrics=("nll",))
    teacher = dict(DECODER, source="frozen", width=16, weights="stage:first", classes=20)
    c.networks = dict(
        big=dict(teacher, input="teacher_tokens"),
        same=dict(teacher),
        teacher=dict(source="respelled", of="big", chunk=40),
        student=dict(DECODER, source="trained", width=8),
    )
    c.terms = dict(alm=dict(method="alm", chunk=40))
    own = dict(tokenizer=mode, teacher_tokenizer="", spans=False)
    c.stages = dict(
        first=dict(
            data=own,
            networks=dict(same=dict(source="trained", weights="")),
            terms=dict(task=dict(method="cross_entropy", student="same")),
        ),
        bytes=dict(networks=dict(big={}, teacher={}, student={})),
        equal=dict(data=dict(tokenizer=mode), networks=dict(big={}, teacher={}, student={})),
        plain=dict(
            data=own,
            networks=dict(same={}, student={}),
            terms=dict(kd=dict(method="forward_kl", teacher="same", chunk=40)),
        ),
    )
    return c
