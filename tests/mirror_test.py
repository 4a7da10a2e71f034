"""Tests mirror the package: `jaxdistill/ROOM/FILE.py` has `tests/ROOM/FILE_test.py`."""

import fnmatch
import pathlib

import pytest

from conftest import ROOT

TESTS = ROOT / "tests"
PACKAGE = ROOT / "jaxdistill"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.stem not in ("__init__", "__main__")]

TESTED_ELSEWHERE = {
    # One paper a file: conformance covers each, and files by family compare them with each other.
    "methods/*.py": "methods/conformance_test.py",
    # Promises are checked on members that keep them and on members that break them, by room.
    "conformance/*.py": "conformance/command_test.py",
    # Records without behaviour, and parts of an export, which whole exports test.
    "export/exported.py": "export/huggingface_test.py",
    "export/model_card.py": "export/huggingface_test.py",
    "export/formats.py": "stages/export_test.py",
    "export/*.py": "export/write_test.py",
    # One run is loaded and exported.
    "pipeline/find_network.py": "pipeline/export_test.py",
    "pipeline/load.py": "pipeline/export_test.py",
    "stages/predictors.py": "pipeline/export_test.py",
    # Two lines each around a library.
    "report/inputs.py": "report/write_test.py",
    "report/template.py": "report/html_test.py",
    # Dense models are tested by their promises, and beside torchvision.
    "models/fpn_segmenter.py": "models/contract_test.py",
    "models/mlp_segmenter.py": "models/torchvision_live_test.py",
    "models/deeplab_v3.py": "models/torchvision_live_test.py",
    # A trace that two ways of compression read.
    "compress/layer_graph.py": "compress/fold_batchnorm_test.py",
    # Parts of methods, with their own numbers beside those of the methods.
    "modules/adapters.py": "methods/adapted_test.py",
    "modules/heads.py": "networks/head_test.py",
    "modules/respelled_logits.py": "networks/respelled_test.py",
    "metrics/metric.py": "metrics/conformance_test.py",
    # Whole stages are tested as runs.
    "stages/derived_network.py": "stages/compress_test.py",
    "stages/start_weights.py": "stages/cache_test.py",
    "stages/output_writer.py": "stages/cache_test.py",
    # Tasks are tested by the batches that they prepare and the stages that they refuse.
    "tasks/task.py": "tasks/checks_test.py",
    "data/tfds_examples.py": "data/readers/tfds_test.py",
    "data/tfds_annotations.py": "data/readers/tfds_test.py",
    "tasks/dense.py": "tasks/segmentation_test.py",
    "tasks/image.py": "tasks/batches_test.py",
    "tasks/image_classification.py": "tasks/batches_test.py",
    "tasks/text.py": "tasks/batches_test.py",
    "tasks/text_classification.py": "tasks/checks_test.py",
    "tasks/table.py": "tasks/regression_test.py",
    "tasks/table_classification.py": "tasks/regression_test.py",
    "tasks/quantile_regression.py": "tasks/regression_test.py",
    # The validity of a target, by the promises of the methods.
    "modules/regression_method.py": "methods/conformance_test.py",
}
"""Modules by pattern, and the file that tests them instead."""


def find_test(module: pathlib.PurePath) -> pathlib.Path:
    """Returns the path of the tests of a module, which need not exist."""
    path = TESTS / module.with_name(f"{module.stem}_test.py")
    other = next((test for pattern, test in TESTED_ELSEWHERE.items() if module.match(pattern)), None)
    return TESTS / other if other and not path.exists() else path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_has_its_tests(path):
    assert find_test(path.relative_to(PACKAGE)).is_file()


@pytest.mark.parametrize("pattern", TESTED_ELSEWHERE)
def test_each_exception_is_of_modules_without_tests_of_their_own(pattern):
    modules = [path.relative_to(PACKAGE) for path in MODULES if path.relative_to(PACKAGE).match(pattern)]
    assert any(not (TESTS / module.with_name(f"{module.stem}_test.py")).exists() for module in modules)


def test_a_module_without_tests_is_found():
    assert not find_test(pathlib.PurePath("losses/unheard_of.py")).is_file()


def test_every_folder_of_tests_is_collected(pytestconfig):
    """Pytest leaves out some names by default, among them `build`."""
    left_out = pytestconfig.getini("norecursedirs")
    folders = {path.parent for path in TESTS.rglob("*_test.py")} - {TESTS}
    assert not [folder for folder in folders if any(fnmatch.fnmatch(folder.name, name) for name in left_out)]
