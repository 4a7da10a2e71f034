"""Times the sampler beside Hugging Face's `generate`: tokens a second of texts that a decoder writes after prompts.

    python benchmarks/sampler.py [--rounds 5] [--batches 1 16] [--write docs/results/sampler.json]

The decoder is a Llama with random weights, the same for all; prompts are random tokens without padding. Texts are drawn
from the whole distribution at temperature 1, in float32, and none ends before its last token. Ours is
`generation.sampler.sample`, one program of prompts and all tokens; theirs is `LlamaForCausalLM.generate` in PyTorch
with a cache, eager, and compiled with a static cache. Before anything is timed, the likeliest texts of all must be
equal.

The peers are no dependencies of this project: pip install -r benchmarks/peers.txt. Without them ours is measured alone.
"""

import argparse
import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import results
import timing

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.generation.sampler import Sampling, sample
from jaxdistill.models.decoder import Decoder
from jaxdistill.runtime import allocator, xla_options
from jaxdistill.runtime.timing import time_interleaved

OURS, EAGER, COMPILED = "jaxdistill", "transformers, eager", "transformers, compiled"
LLAMA = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False, "tied": False}
SIZES = {"layers": 6, "width": 384, "heads": 6, "hidden": 1536, "vocabulary": 8192, "prompt": 32, "tokens": 128}

Write = Callable[[np.ndarray, bool], np.ndarray]
"""`(prompts [batch, length], greedy) -> texts [batch, length + written]`; waits."""


def make_decoder(given: argparse.Namespace) -> Decoder:
    """Makes our decoder."""
    shape = {"layers": given.layers, "width": given.width, "heads": given.heads, "hidden": given.hidden}
    return Decoder(given.vocabulary, length=given.prompt + given.tokens, **LLAMA, **shape)


def make_ours(given: argparse.Namespace, variables: Any) -> Write:
    """Returns our sampler; each call draws from another key."""
    module = make_decoder(given)

    def write(variables: Any, prompts: jax.Array, key: jax.Array, *, sampling: Sampling) -> jax.Array:
        def predict(cache: Any, tokens: jax.Array, token_mask: jax.Array) -> tuple[Output, Any]:
            stored = {**variables, **({"cache": cache} if cache else {})}
            output, changed = module.apply(stored, tokens, token_mask=token_mask, mutable=["cache"])
            return output, changed["cache"]

        examples, mask = jnp.arange(len(prompts)), jnp.ones_like(prompts)
        return sample(predict, prompts, mask, examples=examples, key=key, sampling=sampling).tokens

    programs = {
        greedy: xla_options.jit(
            functools.partial(write, sampling=Sampling(tokens=given.tokens, temperature=0.0 if greedy else 1.0))
        )
        for greedy in (False, True)
    }
    calls = iter(range(1 << 30))

    def run(prompts: np.ndarray, greedy: bool) -> np.ndarray:
        return np.asarray(programs[greedy](variables, prompts, jax.random.key(next(calls))))

    return run


def make_theirs(given: argparse.Namespace, variables: Any) -> dict[str, Write]:
    """Returns `generate` of the same weights in its forms."""
    import torch

    theirs = importlib.import_module("transformer_torch")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    params = {core.path_name(path): np.asarray(x) for path, x in leaves}
    shape = {"layers": given.layers, "width": given.width, "heads": given.heads, "hidden": given.hidden}
    shape |= {"vocabulary": given.vocabulary, "length": given.prompt + given.tokens}

    def make(**more: Any) -> Write:
        model = theirs.model("decoder", shape, params).eval()

        def run(prompts: np.ndarray, greedy: bool) -> np.ndarray:
            tokens = torch.from_numpy(prompts).long()
            limits = {"min_new_tokens": given.tokens, "max_new_tokens": given.tokens, "eos_token_id": None}
            drawn = {} if greedy else {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
            with torch.inference_mode():
                texts = model.generate(
                    tokens,
                    attention_mask=torch.ones_like(tokens),
                    use_cache=True,
                    do_sample=not greedy,
                    **limits,
                    **drawn,
                    **more,
                )
            return texts.numpy()

        return run

    forms = {EAGER: make()}
    if given.compiled:
        from transformers import CompileConfig

        compiled = CompileConfig()
        compiled._compile_all_devices = True  # on a CPU, generate compiles only so
        forms[COMPILED] = make(cache_implementation="static", compile_config=compiled)
    return forms


def check(writers: dict[str, Write], prompts: np.ndarray) -> None:
    """Asserts that all write the same likeliest texts."""
    texts = {name: write(prompts, True) for name, write in writers.items()}
    for name, text in texts.items():
        same = np.mean(text == texts[OURS])
        assert same > 0.999, f"{name} differs from {OURS} in {1 - same:.1%} of the tokens"


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--compiled", action="store_true", help="also generate with torch.compile and a static cache")
    given = parser.parse_args()
    draw = np.random.default_rng(0)
    prompts = draw.integers(0, given.vocabulary, (max(given.batches), given.prompt)).astype(np.int32)
    module = make_decoder(given)
    variables = jax.jit(module.init)(jax.random.key(0), prompts[:1])
    # Larger weights than those of the start, whose likeliest tokens are nearly ties.
    variables = jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, variables)
    writers = {OURS: make_ours(given, variables)}
    has_peers = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    writers |= make_theirs(given, variables) if has_peers else {}
    tables = {}
    for batch in given.batches:
        check(writers, prompts[:batch])
        calls = {name: functools.partial(write, prompts[:batch], False) for name, write in writers.items()}
        seconds = time_interleaved(calls, given.rounds)
        reference = EAGER if has_peers else OURS
        tables[f"batch {batch}"] = timing.compare(seconds, reference, batch * given.tokens, unit="tokens")
    results.write(given.write, tables)


if __name__ == "__main__":
    main()
