"""Members of the rooms and of users' own packages, found by name."""

import sys
import textwrap

import pytest

from jaxdistill.config import registry
from jaxdistill.errors import UserError
from jaxdistill.methods.kd import KD
from jaxdistill.models.mlp import MLP


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package of a user, in the current folder."""
    (tmp_path / "lab_of_test").mkdir()
    (tmp_path / "lab_of_test" / "__init__.py").write_text("")
    (tmp_path / "lab_of_test" / "broken.py").write_text("import nothing_of_this_name")
    (tmp_path / "lab_of_test" / "losses.py").write_text(
        textwrap.dedent(
            """
            from jaxdistill.core import Method

            class Mine(Method):
                temperature: float = 2.0

            class Other:
                pass

            def augment(key, image):
                return image

            number = 3
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    yield "lab_of_test.losses"
    for name in [name for name in sys.modules if name.startswith("lab_of_test")]:
        del sys.modules[name]


def test_a_file_is_found_by_its_name():
    assert registry.find("method", "kd") is KD
    assert registry.find("model", "mlp") is MLP


def test_an_entry_is_found_by_its_name():
    assert registry.find("optimizer", "sgd").__name__ == "sgd"
    assert "cosine_decay" in registry.names("schedule")


def test_a_class_of_a_users_package_is_found_in_the_current_folder(lab):
    assert registry.find("method", f"{lab}:Mine").__name__ == "Mine"
    assert registry.find("augmentation", f"{lab}:augment").__name__ == "augment"


@pytest.mark.parametrize(
    ("room", "name", "message"),
    [
        ("method", "kdd", "terms.kd.method must be a method, got 'kdd'. Did you mean 'kd'? There are ['ab', "),
        ("method", 3, "terms.kd.method must be the name of a method, got 3"),
        ("method", "{lab}:Mien", "must be a name in {lab}, got '{lab}:Mien'. Did you mean '{lab}:Mine'"),
        ("method", "lab_of_test.broken:Mine", "(ModuleNotFoundError: No module named 'nothing_of_this_name')"),
        ("method", "lab_of_tests.losses:Mine", "Put the folder of 'lab_of_tests' on PYTHONPATH"),
        ("method", "{lab}:Other", "must be a subclass of jaxdistill.core.Method, got '{lab}:Other'"),
        ("augmentation", "{lab}:number", "must be a function or a class, got '{lab}:number'"),
    ],
)
def test_a_wrong_name_gets_a_message_with_its_path(lab, room, name, message):
    name = name.format(lab=lab) if isinstance(name, str) else name
    with pytest.raises(UserError) as caught:
        registry.find(room, name, "terms.kd.method")
    assert message.format(lab=lab) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_a_module_imports_are_not_suggested(lab):
    with pytest.raises(UserError) as caught:
        registry.find("method", f"{lab}:Mien", "terms.kd.method")
    assert str(caught.value).endswith(str([f"{lab}:{name}" for name in ("Mine", "Other", "augment", "number")]))
