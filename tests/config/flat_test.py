"""Configs as flat mappings, and the settings in which several of them differ."""

from jaxdistill.config.flat import flatten, is_seed, list_differences


def test_settings_have_defaults_and_no_free_keys():
    settings = flatten({"stages": {"a": {"batch": 8, "log_every": 3}}})
    assert settings["a", "batch"] == "8"
    assert settings["a", "data.partition.part"] == "0"
    assert ("a", "log_every") not in settings
    assert ("a", "mesh.data") not in settings
    assert [is_seed(path) for path in ("seed", "data.subset.seed", "seeds")] == [True, True, False]


def test_differences_of_several_configs():
    configs = [
        flatten({"stages": stages})
        for stages in (
            {"a": {"batch": 8, "seed": 0}, "b": {"batch": 8}},
            {"a": {"batch": 4, "seed": 1}, "b": {"batch": 4}},
            {"a": {"batch": 8, "seed": 0}, "b": {"batch": 8}, "c": {}},
        )
    ]
    assert list_differences(configs) == [
        ("stages.c", ("(absent)", "(absent)", "(a section)")),
        ("stages.a.seed", ("0", "1", "0")),
        ("batch", ("8", "4", "8")),
    ]
    assert list_differences(configs[:1]) == []
