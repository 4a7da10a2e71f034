"""Files of configs and of data, and flags, that cannot be read: one message each and exit status 2."""

import numpy as np
import pytest

from runs import launched

CONFIGS = {
    "nothing": ("", "must have a function get_config(mode), got None"),
    "no function": ("get_config = 3", "must have a function get_config(mode), got 3"),
    "no mode": ("def get_config(): pass", "must take one argument, the mode, got get_config()"),
    "two arguments": ("def get_config(a, b): pass", "must take one argument, the mode, got get_config(a, b)"),
    "no config": ("def get_config(mode): return {}", "must return an ml_collections ConfigDict, got {}"),
    "syntax": ("def get_config(mode) return 3", "SyntaxError"),
    "module": ("import nowhere", "line 1 (import nowhere) cannot be read as a config: ModuleNotFoundError"),
    "exit": ("import sys; sys.exit(0)", "line 1 (import sys; sys.exit(0)) cannot be read as a config: SystemExit: 0"),
    "endless": ("def get_config(mode): return get_config(mode)", "RecursionError"),
    "null": ("\0", "null bytes"),
    "modes": ("MODES = 3\ndef get_config(mode): pass", "MODES of FILE must be a tuple of texts, got 3"),
    "mode": ("MODES = ('smoke',)\ndef get_config(mode): pass", "mode of FILE must be an existing name, got ''"),
}


@pytest.mark.parametrize("mistake", CONFIGS)
def test_a_file_that_is_no_config(mistake, tmp_path, capsys):
    content, message = CONFIGS[mistake]
    (tmp_path / "mine.py").write_text(content)
    assert launched(tmp_path / "run", config=str(tmp_path / "mine.py")) == 2
    said = capsys.readouterr()
    assert message.replace("FILE", str(tmp_path / "mine.py")) in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", ["mine.txt", "mine"])
def test_a_config_of_another_ending(name, tmp_path, capsys):
    (tmp_path / name).write_text("def get_config(mode): pass")
    assert launched(tmp_path / "run", config=str(tmp_path / name)) == 2
    assert f"--config must be a Python file, got '{tmp_path / name}'" in capsys.readouterr().err


def test_a_config_in_the_home_folder_and_by_its_file_url(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("MODES = ('smoke',)\ndef get_config(mode): raise ValueError('it is read')")
    for file in ("~/mine.py:smoke", f"file://{tmp_path}/mine.py:smoke"):
        assert launched(tmp_path / "run", config=file) == 2
        assert "it is read" in capsys.readouterr().err
    assert launched(tmp_path / "run", config="gs://bucket/mine.py:smoke") == 2
    assert "--config must be a path of this machine, got the URL 'gs://bucket/mine.py'" in capsys.readouterr().err


FLAGS = {
    "empty key": ("--config..batch=3", "--config..batch=3 must be --config.KEY=VALUE, got an empty key"),
    "float batch": ("--config.batch=1e12", "batch must be a whole number, got '1e12'"),
    "devices": ("--devices=0", "--devices=0 is for --plan alone, and 1 or more"),
    "topology": ("--topology=v5e:2x2", "--topology=v5e:2x2 must come with --plan, and without --devices"),
    "port": ("--coordinator=localhost:99999", "--coordinator=HOST:PORT, --processes=N and --process=I"),
}


@pytest.mark.parametrize("mistake", FLAGS)
def test_a_mistake_in_a_flag(mistake, tmp_path, capsys):
    flag, message = FLAGS[mistake]
    assert launched(tmp_path / "run", flag) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "run").exists()


def test_labels_out_of_range_in_an_npz(tmp_path, capsys):
    image = np.zeros((32, 8, 8, 1), np.uint8)
    label = np.arange(32) % 10
    label[3] = -2
    np.savez(tmp_path / "d.npz", train_image=image, train_label=label, test_image=image, test_label=label)
    flags = ["--config.data.name=npz", f"--config.data.path={tmp_path / 'd.npz'}"]
    assert launched(tmp_path / "run", *flags) == 2
    assert "labels are whole numbers from 0 on" in capsys.readouterr().err
