"""Small texts, and weights for the networks that read them, that tests of transformers share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

VOCABULARY, LENGTH = 11, 6
TOKENS = jax.random.randint(jax.random.key(3), (4, LENGTH), 0, VOCABULARY)
SMALL = {"layers": 2, "width": 8, "heads": 4, "hidden": 12}
LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "tied": False}


def shapes(model, *inputs):
    """Shapes of a model's params."""
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]


def drawn(model, *inputs, spread=0.4):
    """Variables of numpy's drawing, since compiling an initialisation takes seconds; scales are about 1."""
    draw = np.random.default_rng(0)

    def one(path, x):
        return jnp.float32(draw.normal(0.1 + (path[-1].key == "scale"), spread, x.shape))

    return {"params": jax.tree_util.tree_map_with_path(one, shapes(model, *inputs))}


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, tokens, **more):
    """Applies a model, compiled whole: op by op takes longer."""
    return model.apply(variables, tokens, **more)


def scanned(params, layers):
    """The params of looped layers as one scanned layer has them."""
    blocks = [params[f"block{index}"] for index in range(layers)]
    rest = {name: value for name, value in params.items() if name not in {f"block{i}" for i in range(layers)}}
    return rest | {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}
