"""Digits, few labels: every mode of distillation, as configuration of the one step.

    python -m jaxdistill.launch --config configs/digits/modes.py --workdir runs/kd
    python -m jaxdistill.launch --config configs/digits/modes.py:mutual --workdir runs/mutual
    python -m jaxdistill.launch --config configs/digits/modes.py:all --workdir runs/modes
    python -m jaxdistill.launch --config configs/digits/modes.py:mutual-smoke --workdir runs/smoke
    python -m jaxdistill.launch --config configs/digits/modes.py:smoke --workdir runs/smoke

The mode is the name of a function below, or `all`, or nothing for plain KD; with `-smoke` every stage takes four steps.
Each function reads as one mode: its stages, and the rows of the final table. As in `kd.py`, a teacher has seen every
label of the 1,077 training images, a student sees all images and ten labels of each class, unless a mode
states otherwise. Nothing was tuned for a mode: the table shows that each works, and roughly how much it gains.

Paper:    none; the task is ours. What each mode is after, is cited by the source or method that makes it.
Measured: docs/modes.md (python benchmarks/modes.py --workdir runs/modes --write docs/modes.md).
"""

from ml_collections import ConfigDict

MLP = dict(model="mlp", widths=(64,))
WIDE = dict(model="mlp", widths=(256,))
RESNET = dict(model="cifar_resnet", depth=8, width=1)
TASK = dict(method="cross_entropy", weight=1.0)
KD = dict(method="kd", temperature=4.0, weight=1.0)
RULES = ("average", "soup", "fisher", "slerp", "task_arithmetic", "ties", "dare")


def learns(name: str, like: str = "") -> dict:
    """A stage in which a network learns from labels alone."""
    entry = dict(source="trained", weights="", **(dict(like=like) if like else {}))
    return dict(networks={name: entry}, terms=dict(task=dict(student=name)))


def distils(teacher: str, *members: str, **more) -> dict:
    """A stage in which the student learns from a network of the top level, which needs the members."""
    cast = dict.fromkeys((teacher, *members, "student"))
    return dict(networks={name: {} for name in cast}, terms=dict(task={}, kd=dict(teacher=teacher)), **more)


def of(stage: str, like: str = "student") -> dict:
    """A row of the final table: a network as a stage has left it."""
    return dict(like=like, source="frozen", weights=f"stage:{stage}#{like}")


def alone(c):
    c.stages.alone = learns("student")
    return dict(alone=of("alone"))


def kd(c):
    c.stages.kd = distils("teacher")
    return dict(kd=of("kd"))


def ensemble(c):
    """Three teachers of other architectures and input sizes; alike, by confidence in the label, and a term each."""
    c.networks.second = dict(source="frozen", weights="stage:second", **WIDE)
    c.networks.third = dict(source="frozen", weights="stage:third", preprocess=dict(size=16), **RESNET)
    three = ("teacher", "second", "third")
    c.networks.mean = dict(source="ensemble", of=three)
    c.networks.sure = dict(source="ensemble", of=three, weighting="confidence")
    for name in ("second", "third"):
        c.stages[name] = learns(name) | dict(data=dict(labels_per_class=0), steps=c.stages.teacher.steps)
    c.stages.ensemble = distils("mean", *three)
    c.stages.ensemble_confidence = distils("sure", *three)
    terms = {f"kd_{name}": KD | dict(teacher=name, weight=1 / 3) for name in three}
    c.stages.several = dict(networks={name: {} for name in (*three, "student")}, terms=dict(task={}, **terms))
    return dict(
        second={},
        third={},
        mean={},
        ensemble=of("ensemble"),
        ensemble_confidence=of("ensemble_confidence"),
        several=of("several"),
    )


def peers(c, teachers: dict[str, str], networks: dict, weight=1.0) -> dict:
    """A stage in which the student and a peer learn from labels and from each other, by way of `teachers`."""
    c.networks.peer = dict(source="trained", model="mlp", widths=(32, 32))
    taught = {f"kd_{name}": KD | dict(student=name, teacher=by, weight=weight) for name, by in teachers.items()}
    terms = dict(task={}, peer_task=TASK | dict(student="peer"), **taught)
    return dict(networks=dict(student={}, peer={}, **networks), terms=terms)


def mutual(c):
    c.stages.mutual = peers(c, dict(student="peer", peer="student"), {})
    return dict(mutual=of("mutual"), mutual_peer=of("mutual", "peer"))


def codistillation(c):
    """Peers learn from each other's copies of up to 50 steps ago, once there are any."""
    old = {f"old_{name}": dict(source="delayed", of=name, every=50) for name in ("student", "peer")}
    late = dict(values=(0.0, 1.0), at=(50,))
    c.stages.codistillation = peers(c, dict(student="old_peer", peer="old_student"), old, weight=late)
    return dict(codistillation=of("codistillation"))


def peer_ensemble(c):
    both = dict(both=dict(source="ensemble", of=("student", "peer"), average="logits"))
    c.stages.peer_ensemble = peers(c, dict(student="both", peer="both"), both)
    return dict(peer_ensemble=of("peer_ensemble"))


def ema(c):
    c.networks.slow = dict(source="ema", of="student", decay=0.99)
    c.stages.ema = distils("slow")
    return dict(ema=of("ema"), ema_teacher=of("ema") | dict(weights="stage:ema#slow"))


def born_again(c):
    """Two generations of the same network, each taught by the one before."""
    elders = ("alone", "born_again")
    for elder, child in zip(elders, ("born_again", "born_again_twice"), strict=True):
        c.networks[f"elder_{elder}"] = dict(source="frozen", weights=f"stage:{elder}#student", **MLP)
        c.stages[child] = distils(f"elder_{elder}")
    return dict(born_again=of("born_again"), born_again_twice=of("born_again_twice"))


def exits(c):
    """The last layer teaches an exit at the first; the control has no exit."""
    c.networks.deep = dict(source="trained", model="mlp", widths=(64, 64))
    c.networks.exit = dict(source="head", of="deep", tap="hidden1")
    c.stages.deep_alone = learns("deep")
    c.stages.exits = dict(
        networks=dict(deep={}, exit={}),
        terms=dict(
            task=dict(student="deep"),
            exit_task=TASK | dict(student="exit"),
            kd=dict(student="exit", teacher="deep"),
        ),
    )
    return dict(deep_alone=of("deep_alone", "deep"), exits=of("exits", "deep"))


def assistants(c):
    """A chain of decreasing size."""
    c.networks.assistant = dict(source="frozen", weights="stage:assistant", **WIDE)
    c.stages.assistant = dict(
        networks=dict(teacher={}, assistant=dict(source="trained", weights="")),
        terms=dict(task=dict(student="assistant"), kd=dict(student="assistant")),
    )
    c.stages.assistants = distils("assistant")
    return dict(assistant={}, assistants=of("assistants"))


def together(c):
    """The teacher learns from all labels while it teaches, and is drawn to the student; the student sees no label."""
    c.stages.together = dict(
        networks=dict(teacher=dict(source="trained", weights=""), student={}),
        terms=dict(
            task=dict(student="teacher"),
            kd={},
            back=KD | dict(student="teacher", teacher="student", weight=0.1),
        ),
        data=dict(labels_per_class=0),
        steps=c.stages.teacher.steps,
    )
    return dict(together=of("together"), together_teacher=of("together", "teacher"))


def reverse(c):
    """A small teacher that saw ten labels of each class, for a larger student that sees none."""
    c.networks.large = dict(source="trained", **RESNET)
    c.networks.weak = dict(source="frozen", weights="stage:alone#student", **MLP)
    surer = dict(to=0.5, over_fraction=0.2)
    methods = dict(reverse=KD, weak_to_strong=dict(method="weak_to_strong", confidence=surer))
    c.stages.large_alone = learns("large") | dict(steps=c.stages.teacher.steps)
    for name, method in methods.items():
        c.stages[name] = dict(
            networks=dict(weak={}, large={}),
            terms={name: method | dict(student="large", teacher="weak")},
            steps=c.stages.teacher.steps,
        )
    return {name: of(name, "large") for name in ("large_alone", *methods)}


def partitions(c):
    """Four teachers on four parts of the data, trained side by side; merged, and the merged one distilled.

    `own` start each from a seed of its own; the others from one network that has seen ten labels of each class.
    """
    c.networks.expert = dict(source="frozen", weights="stage:whole", **WIDE)
    parts, labels, steps = (0, 1, 2, 3), dict(labels_per_class=0), c.stages.teacher.steps
    c.stages.whole = learns("expert") | dict(data=labels, steps=steps)
    c.stages.start = learns("expert") | dict(steps=steps)
    c.stages.expert_student = distils("expert")
    rows = dict(expert={}, expert_student=of("expert_student"), start=of("start", "expert"))

    def student(name, taught_by):
        c.networks[name] = taught_by
        members = taught_by.get("of", ())
        c.stages[f"{name}_student"] = distils(name, *members)
        rows.update({name: {}, f"{name}_student": of(f"{name}_student")})

    def merged(name, cut, **settings):
        lanes = {f"part{k}": dict(like="expert", weights=f"stage:{cut}_parts#expert@{k}") for k in parts}
        base = dict(start=dict(like="expert", weights="stage:start")) if settings.get("base") else {}
        c.stages[f"{name}_merge"] = dict(
            kind="merge", networks=lanes | base, data=labels, merge=dict(networks=tuple(lanes), **settings)
        )
        student(name, dict(source="frozen", weights=f"stage:{name}_merge#merged", **WIDE))

    for cut, by in (("own", "iid"), ("iid", "iid"), ("class", "class")):
        train = learns("expert")
        if cut != "own":
            train["networks"]["expert"]["weights"] = "stage:start"
        sweep = dict(data=dict(partition=dict(part=parts)), **(dict(seed=parts) if cut == "own" else {}))
        data = dict(partition=dict(of=4, by=by), **labels)
        c.stages[f"{cut}_parts"] = train | dict(data=data, sweep=sweep, steps=steps)
        for k in parts:
            c.networks[f"{cut}{k}"] = dict(source="frozen", weights=f"stage:{cut}_parts#expert@{k}", **WIDE)
        student(f"{cut}_ensemble", dict(source="ensemble", of=tuple(f"{cut}{k}" for k in parts)))
        if cut == "own":
            merged("own_average", cut, rule="average")
            merged("own_aligned", cut, rule="average", align=True)
            continue
        for rule in RULES if c.stages.teacher.steps > 4 else ("average", "ties"):  # the smoke run is a test
            based = dict(base="start") if rule in ("task_arithmetic", "ties", "dare") else {}
            merged(f"{cut}_{rule}", cut, rule=rule, **based)
    return rows


def classifiers(c):
    """Stored outputs of teachers of scikit-learn; and one of each kind on a third of the data, as an ensemble."""
    kinds = dict(svm="svm", forest="forest")
    for name, kind in kinds.items():
        c.stages[name] = dict(kind="sklearn", sklearn=dict(name=kind), data=dict(labels_per_class=0, augment=()))
    third = {
        "third_forest": dict(kind="sklearn", sklearn=dict(name="forest")),
        "third_svm": dict(kind="sklearn", sklearn=dict(name="svm")),
        "third_network": learns("third_network") | dict(steps=c.stages.teacher.steps),
    }
    for part, (name, stage) in enumerate(third.items()):
        c.stages[name] = stage | dict(data=dict(labels_per_class=0, augment=(), partition=dict(of=3, part=part)))
    for name in (*kinds, "third_forest", "third_svm"):
        c.networks[name] = dict(source="cached", cache=f"stage:{name}")
    c.networks.third_network = dict(source="frozen", weights="stage:third_network", **MLP)
    c.networks.mixed = dict(source="ensemble", of=tuple(third))
    clean = dict(data=dict(augment=()))
    c.stages.clean = distils("teacher", **clean)
    for name in kinds:
        c.stages[f"{name}_student"] = distils(name, **clean)
    c.stages.mixed_student = distils("mixed", *third, **clean)
    students = {f"{name}_student": of(f"{name}_student") for name in (*kinds, "mixed")}
    return {name: {} for name in (*kinds, *third, "mixed")} | dict(clean=of("clean")) | students


def cached(c):
    """Stored outputs of the teacher: of the clean image, and of eight views of each."""
    for views, augment in ((1, dict(augment=())), (8, {})):
        c.stages[f"cache{views}"] = dict(
            kind="cache", networks=dict(teacher={}), cache=dict(views=views, splits=("train",)), data=augment
        )
        c.networks[f"stored{views}"] = dict(source="cached", cache=f"stage:cache{views}")
        c.stages[f"cached{views}"] = distils(f"stored{views}", data=augment)
    return dict(cached1=of("cached1"), cached8=of("cached8"))


def other_data(c):
    """Label-free, on images that are not the teacher's: noise, shuffled pixels, and three of the ten classes."""
    free = dict(networks=dict(teacher={}, student={}), terms=dict(kd={}))
    plain = dict(labels_per_class=0, unlabelled=True)
    kinds = dict(noise="uniform", shuffled="shuffled")
    c.stages.label_free = free | dict(data=plain)
    for name, kind in kinds.items():
        c.stages[name] = free | dict(
            data=dict(weight=0.0, mix={name: dict(name="noise", noise=dict(kind=kind))}, **plain)
        )
    c.stages.three_classes = free | dict(data=dict(classes=(0, 1, 2), **plain))
    return {name: of(name) for name in ("label_free", *kinds, "three_classes")}


def mnist(c):
    """Label-free on MNIST's images, at 8 x 8 pixels; needs the set (`stages.mnist.data.mix.mnist.data_dir`)."""
    c.stages.mnist = dict(
        networks=dict(teacher={}, student={}),
        terms=dict(kd={}),
        data=dict(labels_per_class=0, unlabelled=True, weight=0.0, mix=dict(mnist=dict(name="mnist", size=8))),
    )
    return dict(mnist=of("mnist"))


ALL = (
    kd,
    ensemble,
    mutual,
    codistillation,
    peer_ensemble,
    ema,
    born_again,
    exits,
    assistants,
    together,
    reverse,
    partitions,
    classifiers,
    cached,
    other_data,
)
NAMES = {mode.__name__: (mode,) for mode in (*ALL, mnist)} | {"": (kd,), "all": ALL}
MODES = (*NAMES, *(f"{name}-smoke" for name in NAMES if name), "smoke")


def get_config(mode: str = "") -> ConfigDict:
    name, _, smoke = ("-smoke" if mode == "smoke" else mode).partition("-")
    c = ConfigDict()
    c.batch, c.steps = 128, 1000
    c.data = dict(name="digits", augment=("pad_crop:1", "rotate:10"), labels_per_class=10)
    c.networks = dict(
        teacher=dict(source="frozen", weights="stage:teacher", **RESNET),
        student=dict(source="trained", **MLP),
    )
    c.terms = dict(task=TASK, kd=KD)
    c.optimizer = dict(name="adamw", weight_decay=1e-4)
    c.learning_rate = dict(name="cosine_decay", init_value=3e-3)
    c.evaluate = dict(metrics=())
    c.stages = dict(teacher=learns("teacher") | dict(data=dict(labels_per_class=0), steps=4 if smoke else 400))
    rows = dict(teacher={}) | alone(c)
    for add in NAMES[name]:
        rows |= add(c)
    if smoke:
        c.steps = 4
    needed = {member for row in rows for member in c.networks.get(row, {}).get("of", ())}
    c.stages.evaluate = dict(
        kind="evaluate",
        networks=rows | {name: {} for name in needed if name not in rows},
        evaluate=dict(
            split="test",
            networks=tuple(rows),
            metrics=("accuracy", "nll", "ece", "agreement", "kl", "copied_errors"),
            saliency=False,
        ),
    )
    return c
