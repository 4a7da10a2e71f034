"""Mistakes in the keys of a config: one message each and exit status 2, before anything runs."""

import pathlib

import pytest

import runs
from runs import launched

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
        "c.optimizer = dict(name='adamw', decay_on='kernels')",
        "stage 'teacher': optimizer.decay_on must match the path of a parameter, got 'kernels'. The nearest of 4 are",
    ),
    "frozen whole": (
        "c.stages.distil.optimizer = dict(name='adam', groups=dict(all=dict(pattern='student', frozen=True)))",
        "stage 'distil': optimizer.groups must leave a parameter of 'student' to learn, got ['all'], which freeze all",
    ),
    "fewer classes than the data": (
        "c.stages = dict(distil=dict(networks=dict(student={}, slow={}), terms=dict(kd=dict(teacher='slow'))));"
        "c.networks.student.classes = 5",
        "stage 'distil': evaluate: network 'student' must have the 10 classes of the data, got 5. Leave out `classes`",
    ),
    "more labels than there are": (
        "c.data.labels_per_class = 1000",
        "data.labels_per_class must be at most 124, the examples of the largest class, got 1000",
    ),
    "method field": (
        "c.terms.kd.tempreature = 3.0",
        "terms.kd.tempreature must be a key of method 'kd', got 'tempreature'. Did you mean 'temperature'",
    ),
    "temperature": (
        "c.terms.kd.temperature = 0.0",
        "terms.kd.temperature must be greater than 0 and finite, got 0.0. Leave it out, which is 4.0",
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
    "ema's network": (
        "c.networks.slow.of = 'studnet'",
        "networks.slow.of must be an existing name, got 'studnet'",
    ),
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
        "stage 'teacher': evaluate.metrics must be metrics of the task image_classification, got 'acuracy'. Did you"
        " mean 'accuracy'",
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
        "evaluate.split must be a split of the data, got 'valid'. Did you mean 'validation'",
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
    "stage's empty name": (
        "c.stages[''] = c.stages.teacher",
        "stages must have a name for a stage",
    ),
    "stage with a slash": ("c.stages['a/b'] = c.stages.teacher", "got 'a/b'. Rename it"),
    "stage's reserved name": (
        "c.stages.compiled = c.stages.teacher",
        "got 'compiled', a folder of the workdir. Rename it",
    ),
    "another reserved name": ("c.stages.tensorboard = c.stages.teacher", "got 'tensorboard', a folder of the workdir"),
    "stage with a lane": ("c.stages['t@0'] = c.stages.teacher", "stages must have a name for a stage"),
    "stage's long name": ("c.stages['x' * 300] = c.stages.teacher", "stages must have a name for a stage of 1 to 100"),
    "stage's number": ("c.stages = {3: c.stages.teacher}", "stages must have a name for a stage"),
    "stage with a line break": ("c.stages['a\\nb'] = c.stages.teacher", "stages must have a name for a stage"),
    "network with a slash": ("c.networks['a/b'] = c.networks.student", "networks must have a name for a network"),
    "network of a stage with a slash": (
        "c.stages.distil.networks = {'student': {}, 'a/b': {}}",
        "stages.distil.networks must have a name for a network",
    ),
    "network's empty name": ("c.networks[''] = c.networks.student", "networks must have a name for a network"),
    "term with a slash": ("c.terms['a/b'] = dict(method='kd')", "terms must have a name for a term"),
    "term's empty name": ("c.terms[''] = dict(method='kd')", "terms must have a name for a term"),
    "dataset's empty name": (
        "c.data.mix = {'': dict(name='digits')}",
        "data.mix must have a name for a dataset of data.mix",
    ),
    "method in capitals": ("c.terms.kd.method = 'KD'", "terms.kd.method must be a method, got 'KD'. Did you mean 'kd'"),
    "module's class": (
        "c.networks.student.model = 'jaxdistill.models.mlp:MPL'",
        "networks.student.model must be a name in jaxdistill.models.mlp, got 'jaxdistill.models.mlp:MPL'. Did you mean"
        " 'jaxdistill.models.mlp:MLP'",
    ),
    "half of a door": ("c.networks.student.model = 'mlp:'", "must be of the form 'package.module:Name', got 'mlp:'"),
    "metric that is none": (
        "c.evaluate.metrics = ('json:loads',)",
        "evaluate.metrics must be a metric with better, needs_reference",
    ),
    "metric with arguments": (
        "c.evaluate.metrics = ('datetime:date',)",
        "evaluate.metrics must be a class without arguments, got 'datetime:date'",
    ),
    "reader that fails": (
        "c.data.name = 'json:loads'",
        "data.name must be a function of DatasetSettings that returns a Dataset, got 'json:loads' (TypeError",
    ),
    "reader of something else": ("c.data.name = 'builtins:str'", "which returns a str. Correct it"),
    "weights of no stage": ("c.networks.teacher.weights = 'stage:'", "networks.teacher.weights must name a stage"),
    "tracker": (
        "c.trackers = ('wandbb',)",
        "stages.teacher.trackers must be a tracker, got 'wandbb'. Did you mean 'wandb'?",
    ),
    "weights' URL": (
        "c.networks.teacher.weights = 'https://host/run/teacher'",
        "networks.teacher.weights must be a path of this machine, got the URL 'https://host/run/teacher'. Mount",
    ),
    "cache's URL": (
        "c.networks.cached = dict(source='cached', cache='abfs://bucket/run')",
        "networks.cached.cache must be a path of this machine, got the URL",
    ),
    "compiled programs' URL": (
        "c.compilation_cache = 'gs://bucket/cache'",
        "compilation_cache must be a path of this machine, got the URL",
    ),
    "folder's URL": (
        "c.data.name = 'mnist'; c.data.data_dir = 'https://host/tfds'",
        "data.data_dir must be a path of this machine, got the URL",
    ),
    "weights in the home folder": (
        "c.networks.teacher.weights = '~/nowhere'",
        f"no checkpoints in {pathlib.Path.home()}/nowhere/checkpoints",
    ),
    "weights' file URL": ("c.networks.teacher.weights = 'file:///nowhere'", "no checkpoints in /nowhere/checkpoints"),
    "home of nobody": ("c.networks.teacher.weights = '~nobody-here/x'", "must be an existing user's folder"),
    "huge batch": ("c.batch = 10**12", "batch must be less than 2147483648, got 1000000000000"),
    "endless steps": ("c.steps = 10**30", "steps must be less than 2,147,483,648"),
    "huge size": ("c.data.size = 10**9", "data.size must be less than 16384, got 1000000000"),
    "channels": ("c.data.channels = 256", "data.channels must be less than 256, got 256"),
    "batch's kind": ("c.batch = '64'", "(c.batch = '64') cannot be read as a config: TypeError"),
    "no section": ("c.networks = None", "networks must be a section, got None"),
    "no section of a network": ("c.networks.student = None", "networks.student must be a section, got None"),
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
