"""ViT against transformers, torchvision and timm: numbers, params, and settings that it does not have."""

import pytest

import pretrained_cases as cases
from jaxdistill.errors import UserError
from jaxdistill.pretrained.families import vit

SLOW = pytest.mark.slow
KINDS = ["vit_base", "timm_deit", pytest.param("vit", marks=SLOW), pytest.param("torchvision_vit", marks=SLOW)]
KINDS += [pytest.param(name, marks=SLOW) for name in ("timm_vit", "timm_dinov2")]


@pytest.mark.parametrize("name", KINDS)
def test_numbers_of_other_libraries(name, tmp_path):
    cases.check_golden(name, tmp_path)


def test_parameters_as_published():
    assert cases.count_params(vit, num_labels=1000) == 86_567_656


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("qkv_bias", False, "qkv_bias of config.json must be True, got False"),
        ("hidden_act", "quick_gelu", "hidden_act of config.json must be .*, got 'quick_gelu'"),
        ("image_size", [224, 192], r"image_size of config.json must be the side of a square, got \[224, 192\]"),
        ("architectures", ["ViTForMaskedImageModeling"], "architectures of config.json must be .*, got 'ViTForMasked"),
    ],
)
def test_other_settings_are_refused(key, value, message):
    with pytest.raises(UserError, match=message):
        cases.read_config(vit, **cases.VIT | {key: value})


def test_sides_may_be_pairs():
    assert cases.read_config(vit, image_size=[224, 224], patch_size=[16, 16]).fields["size"] == 224


def test_the_written_config_is_read_again():
    cases.check_written(vit, "vit")
    fields = dict(cases.read_config(vit).fields)
    for other in ({"size": 0}, {"distillation": "head"}, {"activation": "swiglu"}):
        with pytest.raises(UserError, match=f"{next(iter(other))} must be"):
            vit.to_config(fields | other)


def test_networks_of_other_families_are_none():
    assert vit.from_shapes({"conv1.weight": (64, 3, 7, 7)}) is None
    shapes = {"cls_token": (1, 1, 64), "pos_embed": (1, 5, 64), "patch_embed.proj.weight": (64, 3, 4, 4)}
    assert vit.from_shapes(shapes) is None
    found = vit.from_shapes(shapes | {"norm.weight": (64,), "norm.bias": (64,), "blocks.0.norm1.weight": (64,)})
    assert (found.fields["size"], found.fields["layers"], found.fields["heads"]) == (8, 1, 1)


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (1536, 24)])
def test_heads_are_those_of_the_published_networks(width, heads):
    shapes = {"class_token": (1, 1, width), "encoder.pos_embedding": (1, 197, width), "encoder.ln.weight": (width,)}
    assert vit.from_shapes(shapes | {"conv_proj.weight": (width, 3, 16, 16)}).fields["heads"] == heads
