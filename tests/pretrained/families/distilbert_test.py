"""DistilBERT against transformers: numbers, params, and settings that `Encoder` does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import distilbert


@pytest.mark.parametrize("name", ["distilbert_class", pytest.param("distilbert_token", marks=pytest.mark.slow)])
def test_numbers_of_transformers(name, tmp_path):
    cases.check_golden(name, tmp_path)


def test_parameters_as_published():
    """66,362,880 without the class head, whose first layer is as wide as the network."""
    assert cases.count_params(distilbert) == 66_362_880 + 768 * 769 + 2 * 769


def test_an_untied_head_is_refused():
    with pytest.raises(UserError, match="tie_word_embeddings of config.json must be True, got False"):
        cases.read_config(distilbert, architectures=["DistilBertForMaskedLM"], tie_word_embeddings=False)


def test_another_head_is_refused():
    with pytest.raises(UserError, match="architectures of config.json must be .*, got 'DistilBertForQ"):
        cases.read_config(distilbert, architectures=["DistilBertForQuestionAnswering"])


@pytest.mark.parametrize("name", ["distilbert_class", "distilbert_token"])
def test_the_written_config_is_read_again(name):
    cases.check_written(distilbert, name)


def test_fields_of_other_families_are_not_written():
    fields = dict(cases.read_config(distilbert).fields)
    with pytest.raises(UserError, match="segments must be 0 to be written as DistilBERT, got 2"):
        distilbert.to_config(fields | {"segments": 2})
