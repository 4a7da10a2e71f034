"""Stages of kind "export": a run that ends in a folder, and networks that cannot leave."""

import json
import shutil

import numpy as np
import pytest

from jaxdistill.export import huggingface
from jaxdistill.pretrained import open_weights
from pretrained_folders import write_bert
from runs import launched

CONFIG = """
from ml_collections import ConfigDict

def get_config(mode=""):
    c = ConfigDict()
    c.batch, c.steps = 8, 2
    c.data = dict(name="npz", path="{npz}")
    c.networks = dict(student=dict(source="trained", weights="hf:{folder}", head="new"))
    c.terms = dict(task=dict(method="cross_entropy"))
    c.evaluate = dict(metrics=("accuracy",), split="train")
    done = dict(student=dict(source="frozen", weights="stage:train"))
    c.stages = dict(
        train=dict(),
        evaluate=dict(kind="evaluate", networks=done),
        export=dict(kind="export", networks=done, export=dict(format="huggingface")),
    )
    return c
"""


@pytest.fixture(scope="module", autouse=True)
def _no_transformers():
    """The programs of `live_test.py` load such folders by transformers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface, "MODULES", ("transformers_of_another_name",))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    rng = np.random.default_rng(0)
    arrays = {"train_tokens": rng.integers(0, 20, (16, 6)), "train_label": rng.integers(0, 4, 16)}
    np.savez(folder / "texts.npz", **arrays, class_names=np.array(list("abcd")), vocabulary=20)
    write_bert(folder / "bert")
    (folder / "config.py").write_text(CONFIG.format(npz=folder / "texts.npz", folder=folder / "bert"))
    assert launched(folder / "run", config=str(folder / "config.py")) == 0
    return folder


def test_a_run_ends_in_a_folder_that_can_start_another(folder):
    out = folder / "run" / "export" / "student"
    pretrained = open_weights("hf", out, f"hf:{out}")
    assert pretrained.correspondence.fields["classes"] == 4
    assert pretrained.meaning.class_names == ("a", "b", "c", "d")
    card = (out / "README.md").read_text()
    assert "| Terms | cross_entropy" in card
    assert "| student |" in card
    done = json.loads((folder / "run" / "export" / "done.json").read_text())
    assert done["folder"] == str(out)


def test_a_folder_that_is_gone_is_written_again_and_listed(folder, capsys):
    out = folder / "run" / "export" / "student"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    shutil.rmtree(out)
    assert launched(folder / "run", config=str(folder / "config.py")) == 0
    assert f"\n{out}  the network in the format huggingface" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


BAD = {
    "format": ("--config.stages.export.export.format=onyx", "export.format must be"),
    "network": (
        "--config.stages.export.export.network=teacher",
        "export.network must be an existing name",
    ),
    "quantize": (
        "--config.stages.export.networks.student.quantize=int8",
        "networks.student.quantize must be '' for an export",
    ),
    "model": ("--config.stages.export.networks.student.pooler=relu", "to be written as BERT, got 'relu'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_leave_is_refused_before_the_run(folder, capsys, name):
    flag, message = BAD[name]
    assert launched(folder / "other", flag, config=str(folder / "config.py")) == 2
    assert message in capsys.readouterr().err
