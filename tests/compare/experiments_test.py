"""Members that differ in their seeds alone are repetitions of one experiment."""

from compared_runs import write_run
from jaxdistill.compare.experiments import group_members, list_settings
from jaxdistill.compare.finished_run import read_run


def groups(*texts):
    return group_members([read_run(text) for text in texts])


def test_runs_of_other_seeds_are_one_experiment(tmp_path):
    texts = [write_run(tmp_path / f"{seed}", seed=seed, accuracy=0.5 + seed / 4) for seed in (0, 1, 2)]
    other = write_run(tmp_path / "hot", temperature=8.0)
    experiment, hot = groups(*texts[:2], other, texts[2])
    assert [len(experiment.members), len(hot.members)] == [3, 1]
    assert experiment.name == ", ".join(texts)
    assert experiment.mean(("distilled", ""), "accuracy") == 0.75
    assert {*experiment.by_seed(("distilled", ""))} == {"0", "1", "2"}
    assert list_settings([experiment.members, hot.members]) == [("stages.distil.terms.kd.temperature", ("4.0", "8.0"))]


def test_runs_of_one_config_and_seed_are_compared(tmp_path):
    one, two = groups(write_run(tmp_path / "a"), write_run(tmp_path / "b"))
    assert [one.name, two.name] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_lanes_are_experiments_by_their_settings(tmp_path):
    sweep = {"seed": [0, 1, 0, 1], "terms": {"kd": {"temperature": [4.0, 4.0, 2.0, 2.0]}}}
    text = write_run(tmp_path / "lanes", sweep=sweep, lanes=(0.5, 0.75, 0.25, 0.5))
    warm, cold = groups(text)
    assert [warm.name, cold.name] == [f"{text} (temperature 4.0)", f"{text} (temperature 2.0)"]
    assert [warm.mean(("distilled", ""), "accuracy"), cold.mean(("distilled", ""), "accuracy")] == [0.625, 0.375]
    assert len(warm.rows(("alone", ""))) == 1  # all lanes share it


def test_many_runs_have_a_short_name(tmp_path):
    texts = [write_run(tmp_path / f"{seed}", seed=seed) for seed in range(4)]
    assert [experiment.name for experiment in groups(*texts)] == [f"{texts[0]} … {texts[3]}"]
