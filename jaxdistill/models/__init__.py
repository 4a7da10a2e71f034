"""Models, one family a file, each a Linen module named as its file: `cifar_resnet.py` has `CifarResNet`.

A model's fields are its config keys; every one has `classes` and `dtype`, the dtype it computes in (params and
batch statistics are float32 always, and so are `pooled` and the logits). It is called as

    model.apply(variables, x, train=False, **more) -> core.Output

with `x` float `[batch, height, width, channels]`, or int `[batch, length]` for a model of texts. Its class attribute
`inputs` names fields of a batch: the first is `x`, the others are `more`, each passed if the batch has it. A class
attribute `bidirectional` marks a model that attends to later tokens and cannot predict the next one, and
`forward_mode = False` one whose parts may have derivatives in reverse mode only. `dense=False` in a
model over a vocabulary leaves the logits of each token uncomputed (`core.Unembedding`).

A class attribute `nested` names fields that are models of their own, such as the encoder of a dense model, which a
config sets by a section with `model` and its keys. An encoder has `classes=0`: no classifier and no params behind the
last map; its logits are `[batch, 0]`. `stages_are_sums` marks an encoder whose maps are `nn.relu(stageN/preact)`
instead of `stageN`.

`tpu_options` are options of XLA for programs on a TPU v5e that were found better for it than those of
`runtime.xla_options` alone; they hold if all models of a stage declare the same.

A method `describe(output)` may return a line about the model for `--plan`, from the shapes of its output.

`train=True` normalises by the batch, updates the collection `batch_stats` and draws dropout from the rng
stream `dropout`. The names of its taps are a contract, listed in its docstring with their shapes.

`residual.py`, `transformer.py`, `attention.py`, `attention_blocks.py`, `attention_kernels.py`, `rotary.py`, `gelu.py`,
`remat.py`, `pyramid.py`, `layout.py` and `row_axes.py` are not families: they hold parts of residual networks, of
transformers, of both, of dense models, and of arrays on devices.
"""
