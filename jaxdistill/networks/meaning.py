"""Meaning of a network's numbers: the names of its classes, the form of its inputs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Meaning:
    """The classes of a network's logits, in their order, and the form of the inputs that it reads.

    Attributes:
        class_names: none if they are not stored, or the classes have no names but their numbers.
        tokenizer: of texts; "" if it is not stored, or there are no texts.
        featurizer: a digest of the fitted transforms of features; "" if it is not stored, or there are no features.
        targets: the units of the numbers that it predicts (`Dataset.target_units`); "" if they are not stored, or it
            predicts classes.
    """

    class_names: tuple[str, ...] = ()
    tokenizer: str = ""
    featurizer: str = ""
    targets: str = ""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "Meaning":
        """Returns the meaning from the metadata of a checkpoint."""
        texts = {key: raw.get(key, "") for key in ("tokenizer", "featurizer", "targets")}
        return cls(tuple(raw.get("class_names", ())), **texts)

    def without_classes(self) -> "Meaning":
        """Returns the meaning of a network whose classes are others."""
        return dataclasses.replace(self, class_names=(), targets="")


def own_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of classes; none if they are the numbers from 0 on, which identify no class."""
    numbers = tuple(map(str, range(len(names))))
    return () if tuple(names) == numbers else tuple(names)


def check_tokenizer(network: str, stored: Meaning, data: Meaning) -> None:
    """Raises `UserError` if a network was trained on the tokens of another tokenizer than those that it would read."""
    if stored.tokenizer and data.tokenizer and stored.tokenizer != data.tokenizer:
        raise UserError(
            f"networks.{network}.weights must be of a network that reads the data's tokens, of {data.tokenizer!r}, got"
            f" one trained on tokens of {stored.tokenizer!r}. Use data in its tokens: by data.teacher_tokenizer,"
            f" or as train_teacher_tokens, with networks.{network}.input='teacher_tokens', beside those of the student"
        )


def check_featurizer(network: str, stored: Meaning, data: Meaning) -> None:
    """Raises `UserError` if a network was trained on features of other fitted transforms than those it would read."""
    if stored.featurizer and data.featurizer and stored.featurizer != data.featurizer:
        raise UserError(
            f"networks.{network}.weights must be of a network that reads the data's features, of the fitted transforms"
            f" {data.featurizer[:8]}, got one trained on those of {stored.featurizer[:8]}. Set data.featurizer to the"
            " folder of the stage that trained it, and leave out data.transforms"
        )


def check_targets(network: str, stored: Meaning, data: Meaning) -> None:
    """Raises `UserError` if a network predicts numbers of other units than those of the data."""
    if stored.targets and data.targets and stored.targets != data.targets:
        raise UserError(
            f"networks.{network}.weights must be of a network that predicts the data's targets, {data.targets}, got"
            f" one that was trained on {stored.targets}. Name its training split in data.splits.train, by which"
            " targets are standardised, and other files in validation and test"
        )


def class_order(stored: Meaning, data: Meaning) -> tuple[int, ...]:
    """Returns the position of each class of the data among a network's logits.

    Returns:
        Nothing if the order is the same, if names are missing, or if the classes are others.
    """
    left, right = stored.class_names, data.class_names
    if not left or not right or left == right or sorted(left) != sorted(right):
        return ()
    return tuple(left.index(name) for name in right)
