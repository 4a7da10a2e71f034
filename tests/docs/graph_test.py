"""The picture of networks, terms and step has a box for each of a config's, and is up to date."""

import importlib
import re
import sys

from conftest import ROOT
from jaxdistill.config import load

sys.path.insert(0, str(ROOT / "docs"))
graph = importlib.import_module("graph")


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_picture_of_the_main_job_is_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load.read("configs/digits/kd.py")
    drawn = texts(graph.draw_graph(config["networks"], config["terms"], "main"))
    assert drawn == texts((ROOT / "docs" / "graph.svg").read_text()), "run python docs/graph.py"
    assert {*config["networks"], *config["terms"], "batch", "loss", "step"} <= set(drawn)


def test_every_network_and_term_has_a_box_and_its_arrows():
    networks = {"student": {"source": "trained", "model": "mlp"}, "peer": {"source": "trained", "model": "mlp"}}
    networks |= {"teacher": {"source": "ensemble", "of": ("a", "b")}}
    terms = {"task": {"method": "cross_entropy", "weight": 0.25}}
    terms |= {"kd": {"method": "kd", "weight": 1.0}, "mutual": {"method": "kd", "weight": 2.0, "teacher": "peer"}}
    svg = graph.draw_graph(networks, terms, "three")
    assert {"student", "peer", "teacher", "ensemble", "kd, weight 2", "cross_entropy, weight 0.25"} <= set(texts(svg))
    assert graph.draw_graph(networks, terms | {"kd": terms["kd"] | {"student": "peer"}}, "three") != svg
    assert texts(svg).count("labels") == 1  # of the only term without a teacher


def test_a_term_with_its_own_teacher_is_distinct_from_one_with_labels_alone():
    assert not graph.uses_teacher({"method": "cross_entropy"})
    assert graph.uses_teacher({"method": "kd"})
    assert graph.uses_teacher({"method": "cross_entropy", "teacher": "peer"})
