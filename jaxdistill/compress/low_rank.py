"""Low rank: kernels as products of smaller ones, which are what is stored, trained and multiplied by.

    dense         W [in, out] = U S V'      in/kernel = U_r sqrt(S_r) [in, r]     out/kernel = sqrt(S_r) V_r' [r, out]
    convolution   K [h, w, in, out]         in/kernel = A [1, 1, in, r]     core/kernel = K x A' x B' [h, w, r, s]
                                            out/kernel = B' [1, 1, s, out]

The truncated singular value decomposition is the nearest matrix of rank r (Eckart & Young, 1936). A and B are the first
singular vectors of the kernel's unfoldings by inputs and outputs: Tucker-2, by higher-order SVD, as in Kim et al.,
"Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", ICLR 2016,
https://arxiv.org/abs/1511.06530, section 3; their ranks are by variational Bayes, here they are set. A 1x1 convolution
is a matrix. The fraction of the singular values' energy is not a setting: only weights give it, and the
sizes of a network are those of its config.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Float

from jaxdistill.compress import layer_graph
from jaxdistill.compress.view import Arrays, Extra, Interceptor, Model, Shapes, View
from jaxdistill.config.parse import option
from jaxdistill.errors import UserError

IN, CORE, OUT = "in", "core", "out"
"""Names of the layers in the place of one."""


@dataclasses.dataclass(frozen=True)
class LowRank(View):
    """Factors the kernels of dense layers and convolutions that are not grouped."""

    rank: int = option(0, "rank of each kernel; 0 for a fraction of its largest", least=0)
    fraction: float = option(0.25, "rank as a fraction of the largest, above 0 and at most 1")

    order: ClassVar[int] = 1
    resizes: ClassVar[bool] = True

    def takes(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether an array is a kernel of more than one input; depthwise ones have one, and no lower rank."""
        return super().takes(name, shape) and not (len(shape) == 4 and shape[-2] == 1)

    def check(self, params: Shapes) -> None:
        super().check(params)
        if not self.rank and not 0 < self.fraction <= 1:
            raise UserError(f"fraction must be in (0, 1], got {self.fraction}. Use 0.25 for a quarter of the rank")

    def resize(self, variables: Arrays, model: Model) -> dict[str, Array]:
        nested = unflatten_dict(dict(variables), sep="/")
        layers = layer_graph.trace(lambda variables: model.apply(variables, _zeros(model)), nested).layers
        names = self.selected({name.removeprefix("params/"): x for name, x in variables.items()})
        kernels = {name: layers.get(tuple(name.split("/")[:-1])) for name in names}
        plain = {name: entry for name, entry in kernels.items() if entry and _is_plain(entry[0])}
        if not plain:
            raise UserError(
                f"match must match the kernel of a dense layer or of a convolution without groups, got {self.match!r}."
                f" There are {names or 'none'}"
            )
        result = dict(variables)
        for name, (layer, ndim) in plain.items():
            kernel = result.pop(f"params/{name}")
            if kernel.ndim != ndim:
                raise UserError(
                    f"scan must be False to factor {name}, which is stored for all layers at once, got True"
                )
            factors = self._factor(name, kernel, layer)
            stem = f"params/{name.removesuffix('kernel')}"
            result |= {f"{stem}{part}/kernel": factor for part, factor in factors.items()}
        return result

    @property
    def layer_change(self) -> str:
        return "view"

    def intercept(self, extra: Extra) -> Interceptor:
        return apply_factored

    def _factor(self, name: str, kernel: Float[Array, "..."], layer: nn.Module) -> dict[str, Array]:
        summed = kernel.ndim - 1 if isinstance(layer, nn.Conv) else _num_summed(layer)
        is_spatial = isinstance(layer, nn.Conv) and math.prod(kernel.shape[:-2]) > 1
        if not is_spatial:
            rank = self._rank(name, min(math.prod(kernel.shape[:summed]), math.prod(kernel.shape[summed:])))
            left, right = factor_matrix(kernel.reshape(math.prod(kernel.shape[:summed]), -1), rank)
            right_shape = (*[1] * (summed - 1), rank) if isinstance(layer, nn.Conv) else (rank,)
            return {
                IN: left.reshape(*kernel.shape[:summed], rank),
                OUT: right.reshape(*right_shape, *kernel.shape[summed:]),
            }
        inputs, outputs = kernel.shape[-2:]
        places = math.prod(kernel.shape[:-2])
        first = self._rank(name, min(inputs, places * outputs))
        last = self._rank(name, min(outputs, places * inputs))
        left, core, right = factor_convolution(kernel, first, last)
        ones = (1,) * (kernel.ndim - 2)
        return {IN: left.reshape(*ones, inputs, first), CORE: core, OUT: right.reshape(*ones, last, outputs)}

    def _rank(self, name: str, largest: int) -> int:
        """Returns the rank of a matrix.

        Raises:
            UserError: if it is above the largest.
        """
        if self.rank > largest:
            raise UserError(
                f"rank must be at most {largest} for {name}, its smaller dimension, got {self.rank}. Leave it out by"
                " match, or set rank=0 and a fraction"
            )
        return self.rank or max(1, round(self.fraction * largest))


def factor_matrix(
    matrix: Float[Array, "inputs outputs"], rank: int
) -> tuple[Float[Array, "inputs {rank}"], Float[Array, "{rank} outputs"]]:
    """Returns the two factors of the nearest matrix of that rank, of equal norms."""
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    root = jnp.sqrt(values[:rank])
    return left[:, :rank] * root[None], root[:, None] * right[:rank]


def factor_convolution(
    kernel: Float[Array, "*places inputs outputs"], inputs: int, outputs: int
) -> tuple[Array, Array, Array]:
    """Returns A `[inputs, r]`, the core `[*places, r, s]` and B' `[s, outputs]`, for r = `inputs` and s = `outputs`."""
    by_input = jnp.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1)
    by_output = jnp.moveaxis(kernel, -1, 0).reshape(kernel.shape[-1], -1)
    left = jnp.linalg.svd(by_input, full_matrices=False)[0][:, :inputs]
    right = jnp.linalg.svd(by_output, full_matrices=False)[0][:, :outputs]
    core = jnp.einsum("...io,ir,os->...rs", kernel, left, right, precision="highest")
    return left, core, right.T


def apply_factored(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Intercepts Linen methods: a layer that is stored as factors applies them one after the other."""
    layer = context.module
    is_layer = isinstance(layer, layer_graph.LAYERS) and context.method_name == "__call__"
    if not is_layer or not layer.has_variable("params", IN):
        return call(*args, **kwargs)
    params, x = layer.variables["params"], args[0]
    # Layers of their own, so that views after this one find their kernels, and their inputs, by name.
    shared = {"use_bias": False, "dtype": layer.dtype, "param_dtype": layer.param_dtype, "parent": layer}
    if isinstance(layer, nn.Conv):
        places = params[OUT]["kernel"].ndim - 2
        sizes = {part: params[part]["kernel"].shape for part in (IN, CORE, OUT) if part in params}
        if CORE in sizes:
            x = nn.Conv(sizes[IN][-1], (1,) * places, name=IN, **shared)(x)
            x = layer.clone(features=sizes[CORE][-1], name=CORE, **shared)(x)
        else:
            x = layer.clone(features=sizes[IN][-1], name=IN, **shared)(x)
        y = nn.Conv(sizes[OUT][-1], (1,) * places, name=OUT, **shared)(x)
    else:
        rank, *features = params[OUT]["kernel"].shape
        x = nn.DenseGeneral(rank, axis=getattr(layer, "axis", -1), name=IN, **shared)(x)
        y = nn.DenseGeneral(tuple(features), axis=-1, name=OUT, **shared)(x)
    if "bias" in params:
        bias = params["bias"].astype(y.dtype)
        y = y + bias.reshape(*[1] * (y.ndim - bias.ndim), *bias.shape)
    return y


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer multiplies all its inputs by one matrix, at each place."""
    if isinstance(layer, nn.Conv):
        return layer.feature_group_count == 1
    return not getattr(layer, "batch_dims", ())


def _num_summed(layer: nn.Module) -> int:
    return len(np.atleast_1d(getattr(layer, "axis", -1)))


def _zeros(model: Model) -> dict[str, Array]:
    return {name: jnp.zeros(x.shape, x.dtype) for name, x in model.batch.items()}
