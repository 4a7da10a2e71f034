"""ShuffleNet V2: outputs of torchvision."""

import convolutional_cases
from jaxdistill.pretrained.families import shufflenet_v2


def test_outputs_of_the_reference(tmp_path):
    convolutional_cases.check_golden("shufflenet_v2", tmp_path)


def test_fields_follow_from_the_shapes():
    shapes = convolutional_cases.load_golden("shufflenet_v2")[0]["shapes"]
    fields = shufflenet_v2.from_shapes(shapes).fields
    assert fields == dict(classes=5, channels=(8, 12, 16, 20), depths=(2, 1, 1))
