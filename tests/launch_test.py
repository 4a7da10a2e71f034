"""The command: what it says to mistakes, and with which status it ends."""

import signal
import subprocess

import numpy as np
import pytest

import runs
from jaxdistill import launch
from runs import LONG, command, launched, until

MISTAKES = {
    "model": ("c.networks.student.model = 'mpl'", "no model 'mpl'; did you mean 'mlp'"),
    "model field": ("c.networks.student.width = 3", "no model 'mlp': key 'width'; did you mean 'widths'"),
    "model field's kind": (
        "c.networks.student = dict(model='mlp', widths='wide')",
        "widths='wide' is a str; it is a tuple",
    ),
    "depth": (
        "c.networks.student = dict(model='cifar_resnet', depth=9)",
        "no CifarResNet of depth 9; the depth must be 6n+2: take 8 or 14",
    ),
    "dtype": ("c.networks.student.dtype = 'float16'", "no dtype 'float16'"),
    "source": (
        "c.networks.student.source = 'trianed'",
        "source for network 'student' 'trianed'; did you mean 'trained'",
    ),
    "no networks": ("c.networks = dict()", "no network at the top level for stage 'evaluate' to copy: 'student'"),
    "frozen without weights": ("c.networks.teacher.weights = ''", "'teacher' is frozen and has no weights"),
    "method": ("c.terms.kd.method = 'kdd'", "no method 'kdd'; did you mean 'kd'"),
    "method field": ("c.terms.kd.tempreature = 3.0", "no method 'kd': key 'tempreature'; did you mean 'temperature'"),
    "temperature": ("c.terms.kd.temperature = 0.0", "term 'kd': temperature=0.0 makes no sense"),
    "temperature's kind": (
        "c.terms.kd = dict(method='kd', temperature='hot')",
        "temperature='hot' is a str; it is a float",
    ),
    "weight": ("c.terms.task.weight = -1.0", "term 'task': weight=-1.0 makes no sense"),
    "weight nan": ("c.terms.task.weight = float('nan')", "weight=nan makes no sense"),
    "smoothing": ("c.terms.task.label_smoothing = 1.5", "label_smoothing=1.5 makes no sense"),
    "term's network": ("c.terms.kd.teacher = 'techer'", "teacher 'techer'; did you mean 'teacher'"),
    "term's name": ("c.terms.loss = dict(method='kd')", "a term cannot be named 'loss'"),
    "ema's network": ("c.networks.slow.of = 'studnet'", "'studnet'; did you mean 'student'"),
    "ema's decay": ("c.networks.slow.decay = 1.5", "decay=1.5 makes no sense"),
    "tap": (
        "c.networks.early = dict(source='exit', of='student', tap='hiden1'); c.terms.kd.student = 'early'",
        "no tap 'hiden1'; did you mean 'hidden1'? there are ['hidden1', 'pooled']",
    ),
    "circle": (
        "c.networks.a = dict(source='ensemble', of=('b', 'b')); c.networks.b = dict(source='ensemble', of=('a', 'a'))",
        "in a circle",
    ),
    "classes": ("c.networks.student.classes = 7", "student 'student' has 7 classes and teacher 'teacher' 10"),
    "optimizer": ("c.optimizer.name = 'adm'", "no optimizer 'adm'; did you mean 'adam'"),
    "optimizer's field": ("c.optimizer.momentun = 0.9", "argument of optimizer adam 'momentun'"),
    "schedule": ("c.rate.name = 'cosine'", "no schedule 'cosine'; did you mean 'cosine_decay'"),
    "metric": ("c.evaluate.metrics = ('acuracy',)", "no metric 'acuracy'; did you mean 'accuracy'"),
    "evaluated network": ("c.evaluate.networks = ('studnet',)", "no network in evaluate 'studnet'"),
    "best by": (
        "c.stages.distil.checkpoint.by = 'student/acuracy'",
        "'student/acuracy'; did you mean 'student/accuracy'",
    ),
    "augmentation": ("c.data.augment = ('flpi',)", "no augmentation 'flpi'; did you mean 'flip'"),
    "augmentation's number": ("c.data.augment = ('pad_crop:x',)", "as in 'pad_crop:4'"),
    "dataset": ("c.data.name = 'digit'", "no dataset 'digit'; did you mean 'digits'"),
    "no dataset": ("c.data.name = ''", "no dataset is named"),
    "split": ("c.evaluate.split = 'valid'; c.evaluate.every = 4", "no split 'valid'; did you mean 'validation'"),
    "labels": ("c.data.labels = -3", "data.labels=-3 makes no sense"),
    "resident": ("c.data.resident = 'maybe'", "no setting of data.resident 'maybe'"),
    "batch": ("c.batch = 12", "a batch of 12 cannot be divided by"),
    "no batch": ("c.batch = 0", "batch=0 makes no sense"),
    "accumulate": ("c.accumulate = 3", "accumulate = 3; take 63 or 66"),
    "mesh": ("c.mesh = dict(data=3)", "does not fit 8 devices"),
    "sharding's set": ("c.sharding = ('fdsp',)", "no set of sharding rules in sharding 'fdsp'; did you mean 'fsdp'"),
    "sharding's axis": ("c.sharding = ('fsdp',)", "mesh's axis 'fsdp', which has one device; set mesh.fsdp"),
    "sharding that splits nothing": (
        "c.sharding = ('fsdp',); c.mesh = dict(data=4, fsdp=2)",
        "sharding='fsdp' splits no array: there is none of 65,536 numbers or more",
    ),
    "network's sharding": (
        "c.networks.teacher.sharding = (('^params/student', ('fsdp',)),)",
        "('fsdp',) of network 'teacher' matches no array of 1 dimensions; names look like",
    ),
    "network's sharding's kind": ("c.networks.teacher.sharding = 'fsdp'", "sharding='fsdp' is a str; it is a tuple"),
    "offload": ("c.networks.student.offload = True", "'student' learns, and only one with source='frozen'"),
    "devices": ("c.mesh = dict(data=4, fsdp=4)", "does not fit 8 devices"),
    "sharding": ("c.sharding = (('Conv', ('fsdp',)),)", "matches no array"),
    "length": ("c.steps = 0", "stage 'teacher' has no length"),
    "no terms": ("c.terms = dict(); c.stages.teacher.terms = dict()", "has no terms"),
    "nothing trained": (
        "c.networks.student.source = 'frozen'; c.networks.student.weights = 'stage:teacher'",
        "student",
    ),
    "kind": ("c.stages.distil.kind = 'trian'", "'trian'; did you mean 'train'"),
    "weights' stage": ("c.networks.teacher.weights = 'stage:techer'", "'techer'; did you mean 'teacher'"),
    "weights' network": ("c.networks.teacher.weights = 'stage:teacher#pupil'", "network in stage 'teacher' 'pupil'"),
    "weights' shape": ("c.stages.evaluate.networks.teacher.widths = (25,)", "- params/head/kernel: [25, 10]"),
    "weights' folder": ("c.networks.teacher.weights = 'runs/nowhere'", "no checkpoints in runs/nowhere"),
    "own teacher": ("c.terms.kd.teacher = 'student'", "'student' cannot be its own teacher"),
    "frozen student": ("c.terms.kd = dict(method='kd', student='teacher', teacher='student')", "which does not learn"),
    "idle": ("c.networks.idle = dict(model='mlp')", "trains networks ['idle'], and no term teaches them"),
    "second view": (
        "c.networks.again = dict(source='again', of='student'); c.terms.kd.teacher = 'again'",
        "looks at 'image2', and there is ['image']",
    ),
    "empty ensemble": ("c.networks.both = dict(source='ensemble', of=())", "an ensemble is of several networks"),
    "of": ("c.networks.slow = dict(source='ema', of=('student',))", "is not the name of a network"),
    "widths": ("c.networks.student.widths = (0,)", "widths=(0,) makes no sense"),
    "widths' kind": ("c.networks.student.widths = (8.5,)", "widths=(8.5,) makes no sense"),
    "stem": ("c.networks.student = dict(model='cifar_resnet', depth=8, stem=-3)", "stem=-3 makes no sense"),
    "width": ("c.networks.student = dict(model='cifar_resnet', depth=8, width=0)", "width=0 makes no sense"),
    "another dropout": (
        "c.networks.student = dict(model='wide_resnet', depth=10, width=1, dropout=-0.1)",
        "dropout=-0.1 makes",
    ),
    "weights' kind": ("c.networks.student.weights = 3", "weights=3 is a int"),
    "measured without weights": ("c.stages.evaluate.networks.student.weights = ''", "'student'"),
    "reference": (
        "c.stages.evaluate.networks = dict(student=dict(source='frozen', weights='stage:distil'));"
        "c.stages.evaluate.evaluate.networks = ('student',); c.stages.evaluate.evaluate.pairs = ()",
        "metrics ['agreement', 'kl'] compare with a reference",
    ),
    "pair": ("c.stages.evaluate.evaluate.pairs = ('slow',)", "a pair is 'network:reference'"),
    "pair with itself": ("c.stages.evaluate.evaluate.pairs = ('slow:slow',)", "a pair is 'network:reference'"),
    "pair's network": ("c.stages.evaluate.evaluate.pairs = ('slow:techer',)", "'techer'; did you mean 'teacher'"),
    "pairs of nothing": (
        "c.stages.evaluate.evaluate.metrics = ('accuracy',)",
        "evaluate.pairs compares nothing; name some of ['agreement', ",
    ),
    "reference's classes": (
        "c.stages.evaluate.networks.slow.classes = 7",
        "compare 'slow' of 7 classes with 'teacher' of 10",
    ),
    "best by a table": ("c.stages.distil.checkpoint.by = 'student/confusion'", "'student/confusion'"),
    "best of nothing": ("c.evaluate.metrics = (); c.stages.distil.checkpoint.by = ''", "evaluates nothing"),
    "seed": ("c.seed = -1", "seed=-1 makes no sense; it is 0 or more"),
    "seed's kind": ("c.seed = 'x'", "seed='x' is a str"),
    "dispatch": ("c.dispatch = -1", "dispatch=-1 makes no sense"),
    "peak": ("c.peak_flops = float('nan')", "peak_flops=nan makes no sense"),
    "latest": ("c.checkpoint = dict(latest=0)", "checkpoint.latest=0 makes no sense; it is 1 or more"),
    "epochs": ("c.epochs = '3'", "epochs='3' is a str"),
    "views": ("c.data.views = '2'", "views='2' is a str"),
    "rate": ("c.stages.distil.rate = -0.5", "rate=-0.5 makes no sense"),
    "rate's kind": ("c.rate = dict(name='cosine_decay', init_value='fast')", "makes no sense"),
    "clip": ("c.optimizer = dict(name='sgd', clip='x')", "clip='x' is a str"),
    "mesh's kind": ("c.mesh = dict(data='all')", "mesh.data='all' is a str"),
    "sharding's kind": ("c.sharding = ('kernel',)", "sharding"),
    "splits of digits": ("c.data.splits = dict(train='train[:100]')", "leave them out"),
    "dropout": ("c.networks.student.dropout = 1.5", "dropout=1.5 makes no sense"),
    "temperature without end": ("c.terms.kd.temperature = float('inf')", "temperature=inf makes no sense"),
    "keep": ("c.checkpoint = dict(keep='bets')", "'bets'; did you mean 'best'"),
}


def config(folder, line):
    """The tiny config with a line changed."""
    path = folder / "mine.py"
    path.write_text(
        "import sys\nimport importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('tiny', {runs.TINY!r})\n"
        "tiny = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(tiny)\n"
        f"def get_config(mode=''):\n    c = tiny.get_config(mode)\n    {line}\n    return c\n"
    )
    return str(path)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message_before_anything_runs(mistake, tmp_path, capsys, compiled):
    line, message = MISTAKES[mistake]
    assert launched(tmp_path / "run", config=config(tmp_path, line)) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err + said.out
    assert not (tmp_path / "run").exists()
    assert compiled("one") == compiled("initial") == 0


def test_a_workdir_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert launched(tmp_path / "file" / "run") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://bucket/run"])
def test_a_workdir_that_is_a_url(url, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launched(url) == 2
    assert f"--workdir={url} is a URL" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # a path of it would be a folder "gs:"


def test_labels_out_of_range_in_an_npz(tmp_path, capsys):
    image = np.zeros((32, 8, 8, 1), np.uint8)
    label = np.arange(32) % 10
    label[3] = -2
    np.savez(tmp_path / "d.npz", train_image=image, train_label=label, test_image=image, test_label=label)
    flags = ["--config.data.name=npz", f"--config.data.path={tmp_path / 'd.npz'}"]
    assert launched(tmp_path / "run", *flags) == 2
    assert "labels are whole numbers from 0 on" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"], ["--config", runs.TINY], ["--workdir", "x"]])
def test_usage(words, capsys):
    assert launch.main(["launch", *words]) == (0 if words == ["--help"] else 2)
    said = capsys.readouterr()
    assert ("--config FILE.py" in said.out) == (words in ([], ["--help"]))
    assert ("no --workdir" in said.err) == ("--config" in words)
    assert ("no --config" in said.err) == ("--workdir" in words)


def test_plan(tmp_path, capsys):
    flags = "--plan", "--config.networks.student.widths=(6,)", "--config.data.augment=()"
    assert launched(tmp_path / "run", *flags) == 0
    said = capsys.readouterr().out
    for part in (
        "stage teacher (train)",
        "12 steps of 64 (0.7131 epochs)",
        "20 labels of each class",
        "student: trained, 460 parameters",
        "teacher: frozen from stage:teacher, 1,810 parameters",
        "hidden1 (6,)",
        "kd: KD student <- teacher",
        "a step: 348,672 FLOPs of matrix products and convolutions",  # of the average of weights, nobody asks
        "compiled step",
        "stage evaluate (evaluate)",
    ):
        assert part in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_bits(tmp_path, one_device):
    subprocess.run(command(tmp_path / "whole", *LONG), env=one_device, check=True, capture_output=True)
    for step in (10, 130, 260, 390):
        process = subprocess.Popen(command(tmp_path / "run", *LONG), env=one_device, stderr=subprocess.DEVNULL)
        until(tmp_path / "run", step, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path / "run", *LONG), env=one_device, check=True, capture_output=True)
    for stage in ("teacher", "distil"):
        ours, theirs = (runs.weights(tmp_path / name, stage, 400) for name in ("run", "whole"))
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert runs.lines(tmp_path / "run") == runs.lines(tmp_path / "whole")
    assert runs.results(tmp_path / "run") == runs.results(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, one_device, number):
    process = subprocess.Popen(command(tmp_path, *LONG), env=one_device, stderr=subprocess.PIPE, text=True)
    until(tmp_path, 50, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "is saved in" in said
    assert "Traceback" not in said
    again = subprocess.run(command(tmp_path, *LONG), env=one_device, capture_output=True, text=True)
    assert again.returncode == 0
    assert "stage distil: resumes at step" in again.stdout
