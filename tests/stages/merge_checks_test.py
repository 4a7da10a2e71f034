"""Checks of stages that merge."""

import pytest

from jaxdistill.build import resolve
from jaxdistill.config import load
from jaxdistill.errors import UserError
from merge_runs import settings


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        (dict(networks=("one",)), "merge.networks are two or more"),
        (dict(networks=("one", "one")), "merge.networks are two or more"),
        (
            dict(networks=("one", "tow")),
            "network for stage 'merge', merge.networks must be an existing name, got 'tow'. Did you mean 'two'",
        ),
        (
            dict(rule="averge"),
            "stages.merge.merge.rule must be a merge_rule, got 'averge'. Did you mean 'average'",
        ),
        (dict(into="a#b"), "merge.into='a#b' is the name of the new network"),
        (dict(into="one"), "merge.into='one' is the name of the new network.*none of"),
        (dict(weights=(1.0,)), "a number of 0 or more for each.*merge.networks are"),
        (dict(weights=("1", "2")), "stage 'merge'.*merge.networks are"),
        (dict(rule="ties", networks=("one", "two", "three"), weights=(1, 2, 3)), "rule 'ties' takes no merge.weights"),
        (dict(rule="slerp", base="three"), "rule 'slerp' takes no merge.base"),
        (dict(rule="dare", base="one"), "'one' is merge.base and one of merge.networks"),
        (dict(rule="dare", base="tree"), "merge.base must be an existing name, got 'tree'. Did you mean 'three'"),
        (dict(rule="task_arithmetic"), "about their own mean is their average; name the network"),
        (dict(rule="ties"), "about their own mean is their average; name the network"),
        (dict(density=0.0), "merge.density must be more than 0 and at most 1, got 0.0"),
        (dict(drop=1.0), r"merge.drop must be in \[0, 1\), got 1.0"),
        (dict(scale="1"), "merge.scale must be a number, got '1'"),
        (dict(examples=-1), "merge.examples must be at least 0 and finite, got -1"),
        (dict(rule="soup", split="held"), "held"),
        (dict(networks=("one", "wide")), "'wide', to be merged with 'one'.*\n  - params/dense1"),
        (dict(networks=("one", "both")), "network 'both' has no weights of its own"),
        (
            dict(networks=("linear", "linear2"), align=True),
            "merge.align=True: a network to align must have units whose order is free",
        ),
    ],
)
def test_mistakes(tmp_path, merge, message):
    whole = settings()
    whole["stages"]["merge"]["networks"] |= dict(
        three=dict(like="teacher", weights="stage:one"),
        wide=dict(like="teacher", widths=(20, 12), weights=str(tmp_path)),
        linear=dict(like="teacher", widths=(), weights=str(tmp_path)),
        linear2=dict(like="teacher", widths=(), weights=str(tmp_path)),
        both=dict(source="ensemble", of=("one", "two"), model=None),
    )
    del whole["stages"]["merge"]["networks"]["both"]["model"]
    whole["stages"]["merge"]["merge"] |= merge
    with pytest.raises(UserError, match=message):
        resolve.stage("merge", load.stages(whole)["merge"])
