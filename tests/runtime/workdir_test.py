"""A workdir belongs to one config, and every launch adds its record."""

import json

import pytest

from jaxdistill.errors import UserError
from jaxdistill.runtime import ownership
from jaxdistill.runtime.workdir import RUN_FILES, check_links, claim_workdir


def claim(*arguments):
    with claim_workdir(*arguments):
        pass


def no_differences(existing, config):
    return []


def test_every_launch_adds_a_record_and_the_last_config_is_kept(tmp_path):
    for seed in (0, 1):
        claim(tmp_path / "run", {"seed": seed}, no_differences)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 1}
    launches = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert len(launches) == 2
    assert {"time", "command", "commit", "devices", "packages"} <= launches[0].keys()


def test_a_run_of_another_config_is_refused_with_the_differences(tmp_path):
    claim(tmp_path, {"seed": 0}, no_differences)
    with pytest.raises(UserError, match=r"another config(.|\n)*seed: 0 -> 1"):
        claim(tmp_path, {"seed": 1}, lambda old, new: [f"seed: {old['seed']} -> {new['seed']}"])
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 0}


@pytest.mark.parametrize("name", [*RUN_FILES[1:], "teacher/done.json"])
def test_a_folder_with_files_of_a_run_and_no_config_is_refused(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match="so that nothing is overwritten"):
        claim(tmp_path, {}, no_differences)
    assert not (tmp_path / "config.json").exists()


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        claim(tmp_path / "file", {}, no_differences)


def test_a_workdir_of_a_running_launch_is_refused_before_anything_is_written(tmp_path):
    with claim_workdir(tmp_path, {"seed": 0}, no_differences):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(UserError, match="one launch at a time"):
            claim(tmp_path, {"seed": 1}, no_differences)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not (tmp_path / ownership.FILE).exists()


def test_a_link_to_a_stage_that_is_gone_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "teacher").symlink_to("../shared/teacher")
    with pytest.raises(UserError, match="run/teacher must lead to the finished stage .* '../shared/teacher', where"):
        check_links(tmp_path / "run", ["teacher", "distil"])
    (tmp_path / "shared" / "teacher").mkdir(parents=True)
    check_links(tmp_path / "run", ["teacher", "distil"])
