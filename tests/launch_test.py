"""The command: what it says to mistakes, and with which status it ends."""

import signal
import subprocess

import numpy as np
import pytest

import runs
from jaxdistill import launch
from runs import LONG, command, launched, until

MISTAKES = {
    "model": ("c.networks.student.model = 'mpl'", "model must be a model, got 'mpl'. Did you mean 'mlp'"),
    "model field": (
        "c.networks.student.width = 3",
        "networks.student.width must be a key of model 'mlp', got 'width'. Did you mean 'widths'",
    ),
    "model field's kind": (
        "c.networks.student = dict(model='mlp', widths='wide')",
        "networks.student.widths must be a tuple of whole numbers, got 'wide'",
    ),
    "depth": (
        "c.networks.student = dict(model='cifar_resnet', depth=9)",
        "CifarResNet: depth must be 6n+2, got 9; use 8 or 14",
    ),
    "dtype": ("c.networks.student.dtype = 'float16'", "dtype must be an existing name, got 'float16'"),
    "source": (
        "c.networks.student.source = 'trianed'",
        "networks.student.source must be a network, got 'trianed'. Did you mean 'trained'",
    ),
    "no networks": (
        "c.networks = dict()",
        "stages.evaluate.networks.slow.like must be an entry of the top level, got 'student'",
    ),
    "frozen without weights": (
        "c.networks.teacher.weights = ''",
        "networks.teacher.weights must be set for a frozen network",
    ),
    "method": ("c.terms.kd.method = 'kdd'", "method must be a method, got 'kdd'. Did you mean 'kd'"),
    "warm-up beyond the end": (
        "c.learning_rate = dict(name='warmup_cosine_decay', init_value=0.0, peak_value=0.1, warmup_steps=100)",
        "stage 'teacher': learning_rate must be longer than its warm-up, got warmup_steps=100 and decay_steps=12, the",
    ),
    "decay of nothing": (
        "c.optimizer.decay_on = 'kernels'",
        "stage 'teacher': optimizer.decay_on must match the path of a parameter, got 'kernels'. The nearest of 4 are",
    ),
    "frozen whole": (
        "c.stages.distil.optimizer = dict(name='adam', groups=dict(all=dict(pattern='student', frozen=True)))",
        "stage 'distil': optimizer.groups must leave a parameter of 'student' to learn, got ['all'], which freeze all",
    ),
    "method field": (
        "c.terms.kd.tempreature = 3.0",
        "terms.kd.tempreature must be a key of method 'kd', got 'tempreature'. Did you mean 'temperature'",
    ),
    "temperature": (
        "c.terms.kd.temperature = 0.0",
        "term 'kd': temperature must be greater than 0 and finite, got 0.0",
    ),
    "temperature's kind": (
        "c.terms.kd = dict(method='kd', temperature='hot')",
        "terms.kd.temperature must be a number, got 'hot'",
    ),
    "weight": ("c.terms.task.weight = -1.0", "terms.task.weight must be at least 0 and finite, got -1.0"),
    "weight nan": ("c.terms.task.weight = float('nan')", "terms.task.weight must be at least 0 and finite, got nan"),
    "smoothing": ("c.terms.task.label_smoothing = 1.5", "label_smoothing must be in [0, 1), got 1.5"),
    "term's network": (
        "c.terms.kd.teacher = 'techer'",
        "teacher must be an existing name, got 'techer'. Did you mean 'teacher'",
    ),
    "term's name": ("c.terms.loss = dict(method='kd')", "a term cannot be named 'loss'"),
    "ema's network": ("c.networks.slow.of = 'studnet'", "got 'studnet'. Did you mean 'student'"),
    "ema's decay": ("c.networks.slow.decay = 1.5", "networks.slow.decay must be in [0, 1], got 1.5"),
    "tap": (
        "c.networks.early = dict(source='head', of='student', tap='hiden1'); c.terms.kd.student = 'early'",
        "tap must be an existing name, got 'hiden1'. Did you mean 'hidden1'? There are ['hidden1', 'pooled']",
    ),
    "circle": (
        "c.networks.a = dict(source='ensemble', of=('b', 'b')); c.networks.b = dict(source='ensemble', of=('a', 'a'))",
        "in a circle",
    ),
    "classes": ("c.networks.student.classes = 7", "student 'student' has 7 classes and teacher 'teacher' 10"),
    "optimizer": ("c.optimizer.name = 'adm'", "optimizer.name must be an optimizer, got 'adm'. Did you mean 'adam'"),
    "optimizer's field": (
        "c.optimizer.momentun = 0.9",
        "optimizer.momentun must be a key of optimizer 'adam', got 'momentun'",
    ),
    "schedule": (
        "c.learning_rate.name = 'cosine'",
        "learning_rate.name must be a schedule, got 'cosine'. Did you mean 'cosine_decay'",
    ),
    "metric": (
        "c.evaluate.metrics = ('acuracy',)",
        "evaluate.metrics must be metrics of the task image_classification, got 'acuracy'. Did you mean 'accuracy'",
    ),
    "evaluated network": (
        "c.evaluate.networks = ('studnet',)",
        "network in evaluate must be an existing name, got 'studnet'",
    ),
    "best by": (
        "c.stages.distil.checkpoint.metric = 'student/acuracy'",
        "got 'student/acuracy'. Did you mean 'student/accuracy'",
    ),
    "augmentation": (
        "c.data.augment = ('flpi',)",
        "data.augment must be an augmentation, got 'flpi'. Did you mean 'flip'",
    ),
    "augmentation's number": ("c.data.augment = ('pad_crop:x',)", "as in 'pad_crop:4'"),
    "dataset": ("c.data.name = 'digit'", "data.name must be a dataset, got 'digit'. Did you mean 'digits'"),
    "no dataset": ("c.data.name = ''", "data.name must be a dataset, got ''"),
    "split": (
        "c.evaluate.split = 'valid'; c.evaluate.every = 4",
        "split must be an existing name, got 'valid'. Did you mean 'validation'",
    ),
    "labels": ("c.data.labels_per_class = -3", "data.labels_per_class must be at least 0 and finite, got -3"),
    "resident": ("c.data.resident = 'maybe'", "data.resident must be an existing name, got 'maybe'"),
    "batch": ("c.batch = 12", "batch must be a multiple of"),
    "no batch": ("c.batch = 0", "batch must be at least 1 and finite, got 0"),
    "accumulate": ("c.accumulate = 3", "accumulate = 3, got 64. Take 63 or 66"),
    "mesh": ("c.mesh = dict(data=3)", "does not fit 8 devices"),
    "sharding's set": (
        "c.sharding = ('fdsp',)",
        "sharding must be a set of sharding rules, got 'fdsp'. Did you mean 'fsdp'",
    ),
    "sharding's axis": ("c.sharding = ('fsdp',)", "mesh's axis 'fsdp', which has one device. Set mesh.fsdp"),
    "sharding that splits nothing": (
        "c.sharding = ('fsdp',); c.mesh = dict(data=4, fsdp=2)",
        "sharding='fsdp' splits no array: none of 65,536 numbers or more",
    ),
    "network's sharding": (
        "c.networks.teacher.sharding = (('^params/student', ('fsdp',)),)",
        "('fsdp',) of network 'teacher' matches no array of 1 dimensions; examples of names",
    ),
    "network's sharding's kind": (
        "c.networks.teacher.sharding = 'fsdp'",
        "networks.teacher.sharding must be a tuple of values, got 'fsdp'",
    ),
    "offload": (
        "c.networks.student.offload = True",
        "networks.student.offload must be False for a network that learns, got True. Only one with source='frozen'",
    ),
    "devices": ("c.mesh = dict(data=4, fsdp=4)", "does not fit 8 devices"),
    "sharding": ("c.sharding = (('Conv', ('fsdp',)),)", "matches no array"),
    "length": ("c.steps = 0", "stage 'teacher' has no length"),
    "no terms": ("c.terms = dict(); c.stages.teacher.terms = dict()", "has no terms"),
    "nothing trained": (
        "c.networks.student.source = 'frozen'; c.networks.student.weights = 'stage:teacher'",
        "student",
    ),
    "kind": ("c.stages.distil.kind = 'trian'", "got 'trian'. Did you mean 'train'"),
    "weights' stage": ("c.networks.teacher.weights = 'stage:techer'", "got 'techer'. Did you mean 'teacher'"),
    "weights' network": (
        "c.networks.teacher.weights = 'stage:teacher#pupil'",
        "network in stage 'teacher' must be an existing name, got 'pupil'",
    ),
    "weights' shape": ("c.stages.evaluate.networks.teacher.widths = (25,)", "- params/head/kernel: [25, 10]"),
    "weights' folder": ("c.networks.teacher.weights = 'runs/nowhere'", "no checkpoints in runs/nowhere"),
    "own teacher": ("c.terms.kd.teacher = 'student'", "'student' cannot be its own teacher"),
    "frozen student": ("c.terms.kd = dict(method='kd', student='teacher', teacher='student')", "which does not learn"),
    "idle": ("c.networks.idle = dict(model='mlp')", "trains networks ['idle'], and no term teaches them"),
    "second view": (
        "c.networks.again = dict(source='shared', of='student'); c.terms.kd.teacher = 'again'",
        "must be one of ['image'], got 'image2'",
    ),
    "empty ensemble": (
        "c.networks.both = dict(source='ensemble', of=())",
        "networks.both.of must be a tuple of networks",
    ),
    "of": ("c.networks.slow = dict(source='ema', of=('student',))", "networks.slow.of must be the name of a network"),
    "widths": ("c.networks.student.widths = (0,)", "widths must be whole numbers of 1 or more, or (), got (0,)"),
    "widths' kind": (
        "c.networks.student.widths = (8.5,)",
        "networks.student.widths[0] must be a whole number, got 8.5",
    ),
    "stem": (
        "c.networks.student = dict(model='cifar_resnet', depth=8, stem=-3)",
        "stem must be at least 0 and finite, got -3",
    ),
    "width": (
        "c.networks.student = dict(model='cifar_resnet', depth=8, width=0)",
        "width must be at least 1 and finite, got 0",
    ),
    "another dropout": (
        "c.networks.student = dict(model='wide_resnet', depth=10, width=1, dropout=-0.1)",
        "dropout must be in [0, 1), got -0.1",
    ),
    "weights' kind": ("c.networks.student.weights = 3", "networks.student.weights must be a text, got 3"),
    "measured without weights": ("c.stages.evaluate.networks.student.weights = ''", "networks.student.weights must"),
    "reference": (
        "c.stages.evaluate.networks = dict(student=dict(source='frozen', weights='stage:distil'));"
        "c.stages.evaluate.evaluate.networks = ('student',); c.stages.evaluate.evaluate.pairs = ()",
        "metrics ['agreement', 'kl'] compare with a reference",
    ),
    "pair": ("c.stages.evaluate.evaluate.pairs = ('slow',)", "a pair is 'network:reference'"),
    "pair with itself": ("c.stages.evaluate.evaluate.pairs = ('slow:slow',)", "a pair is 'network:reference'"),
    "pair's network": ("c.stages.evaluate.evaluate.pairs = ('slow:techer',)", "got 'techer'. Did you mean 'teacher'"),
    "pairs of nothing": (
        "c.stages.evaluate.evaluate.metrics = ('accuracy',)",
        "evaluate.pairs compares nothing; name some of ['agreement', ",
    ),
    "reference's classes": (
        "c.stages.evaluate.networks.slow.classes = 7",
        "compare 'slow' of 7 classes with 'teacher' of 10",
    ),
    "best by a table": ("c.stages.distil.checkpoint.metric = 'student/confusion'", "'student/confusion'"),
    "best of nothing": ("c.evaluate.metrics = (); c.stages.distil.checkpoint.metric = ''", "evaluates nothing"),
    "seed": ("c.seed = -1", "seed must be at least 0 and finite, got -1"),
    "seed's kind": ("c.seed = 'x'", "seed must be a whole number, got 'x'"),
    "dispatch": ("c.steps_per_call = -1", "steps_per_call must be at least 0 and finite, got -1"),
    "peak": ("c.peak_flops = float('nan')", "peak_flops must be at least 0 and finite, got nan"),
    "latest": ("c.checkpoint = dict(max_to_keep=0)", "checkpoint.max_to_keep must be at least 1 and finite, got 0"),
    "epochs": ("c.epochs = '3'", "epochs must be a number, got '3'"),
    "views": ("c.data.views = '2'", "data.views must be a whole number, got '2'"),
    "rate": ("c.stages.distil.learning_rate = -0.5", "learning_rate must be at least 0 and finite, got -0.5"),
    "rate's kind": (
        "c.learning_rate = dict(name='cosine_decay', init_value='fast')",
        "learning_rate must be a schedule, got {'name': 'cosine_decay', 'init_value': 'fast'}",
    ),
    "clip": ("c.optimizer = dict(name='sgd', clip='x')", "optimizer.clip must be a number, got 'x'"),
    "mesh's kind": ("c.mesh = dict(data='all')", "mesh.data must be a whole number, got 'all'"),
    "sharding's kind": ("c.sharding = ('kernel',)", "sharding"),
    "splits of digits": ("c.data.splits = dict(train='train[:100]')", "data.splits must be left out for 'digits'"),
    "dropout": ("c.networks.student.dropout = 1.5", "dropout must be in [0, 1), got 1.5"),
    "temperature without end": (
        "c.terms.kd.temperature = float('inf')",
        "temperature must be greater than 0 and finite, got inf",
    ),
    "keep": ("c.checkpoint = dict(keep='bets')", "got 'bets'. Did you mean 'best'"),
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
