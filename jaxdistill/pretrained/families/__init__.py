"""Families of pretrained networks, one a file, found by the `model_type` of a config or by the names of tensors.

A family has some of these functions:

    from_config(config, names) -> Correspondence   with MODEL_TYPES, if Hugging Face has it
    from_shapes(shapes) -> Correspondence | None   if torchvision or timm has it; None for names of another family
    to_config(fields) -> dict                      if a student can be exported as it; without names of tensors, those
                                                   of `from_config` are the ones that are written
"""
