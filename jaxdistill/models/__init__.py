"""The networks, one family a file, each a Linen module called as its file: `cifar_resnet.py` has `CifarResNet`.

A model's fields are its config keys; every one has `classes` and `dtype`, the dtype it computes in (params and
batch statistics are float32 always, and so are `pooled` and the logits). It is called as

    model.apply(variables, x, train=False) -> core.Output        x: [batch, height, width, channels], float

where `train=True` normalises by the batch, updates the collection `batch_stats` and draws dropout from the rng
stream `dropout`. The names of its taps are a contract, told in its docstring with their shapes.

`residual.py` is no family: it holds what the residual networks share.
"""
