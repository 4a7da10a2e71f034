"""Correspondence of arrays and tensors: heads, ignored tensors, and networks of some of the blocks."""

from jaxdistill.pretrained.correspondence import Correspondence, Entry

ENTRIES = tuple(Entry(f"params.block{i}.norm1.scale", f"layer.{i}.norm.weight") for i in range(4))
WHOLE = Correspondence("encoder", {}, (*ENTRIES, Entry("params.embed.embedding", "embed")), (r"position_ids\.\d",))


def test_ignored_names_match_as_a_whole():
    assert WHOLE.is_ignored("position_ids.3")
    assert not WHOLE.is_ignored("my.position_ids.3")


def test_arrays_of_the_head():
    assert WHOLE.is_head("params.head.kernel")
    assert not WHOLE.is_head("params.block0.head.kernel")


def test_some_blocks_are_taken_in_their_order_and_the_others_ignored():
    taken = WHOLE.taking((3, 1))
    places = {entry.name: entry.tensor for entry in taken.entries}
    assert places == {
        "params.block0.norm1.scale": "layer.3.norm.weight",
        "params.block1.norm1.scale": "layer.1.norm.weight",
        "params.embed.embedding": "embed",
    }
    assert [i for i in range(4) if taken.is_ignored(f"layer.{i}.norm.weight")] == [0, 2]


def test_a_block_can_be_taken_twice():
    names = [entry.name for entry in WHOLE.taking((2, 2)).entries if entry.tensor == "layer.2.norm.weight"]
    assert names == ["params.block0.norm1.scale", "params.block1.norm1.scale"]
    assert WHOLE.taking(()) is WHOLE


def test_blocks_are_counted():
    assert WHOLE.block_count == 4
    stages = Correspondence("resnet", {}, (Entry("params.stage1_block0.norm1.scale", "layer1.0.bn1.weight"),))
    assert stages.block_count == 0
