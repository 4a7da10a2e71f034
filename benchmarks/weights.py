"""Measures the reading of pretrained weights: time, and memory of the host beside what the network keeps.

    python benchmarks/weights.py [--rounds 3] [--write FILE.json]

A folder with random weights of BERT-base (109 million parameters, 438 MB in float32) is written in one file, in four,
and in bfloat16, and read in a process of its own each time, once the files are in the page cache. `kept` are the bytes
of the network's arrays, `peak` the largest resident memory of the process during the reading less that before it.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import results
import timing

BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
FORMS = {"one file": (1, "float32"), "four files": (4, "float32"), "bfloat16": (1, "bfloat16")}


def write(folder: pathlib.Path, files: int, dtype: str) -> None:
    """Writes a folder with random weights."""
    import jax.numpy as jnp
    import numpy as np

    from jaxdistill.models.encoder import Encoder
    from jaxdistill.pretrained.tensors import write_safetensors
    from jaxdistill.pretrained.writer import find_family, make_tensors

    module = Encoder(classes=2, hidden=3072)
    config, correspondence = find_family("encoder", module)
    rng = np.random.default_rng(0)
    tree = _shapes(module)
    arrays = make_tensors(correspondence, _map(lambda x: rng.standard_normal(x.shape, np.float32), tree))
    arrays = {name: x.astype(jnp.dtype(dtype)) for name, x in arrays.items()}
    (folder / "config.json").write_text(json.dumps(config | BERT))
    if files == 1:
        write_safetensors(folder / "model.safetensors", arrays)
        return
    places = {}
    for number in range(files):
        name = f"model-{number + 1:05}-of-{files:05}.safetensors"
        part = {key: arrays[key] for key in sorted(arrays)[number::files]}
        write_safetensors(folder / name, part)
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def _shapes(module: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32)))


def _map(function: Any, tree: Any) -> Any:
    import jax

    return jax.tree.map(function, tree)


def child(folder: str) -> None:
    """Reads a folder, and prints seconds and bytes."""
    import jax

    from jaxdistill.models.encoder import Encoder
    from jaxdistill.pretrained import open_weights

    jax.numpy.zeros(1).block_until_ready()
    start = time.perf_counter()
    pretrained = open_weights("hf", pathlib.Path(folder), folder)
    tree = _shapes(Encoder(**pretrained.correspondence.fields))
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    variables = jax.block_until_ready(pretrained.read(tree))
    seconds, peak = time.perf_counter() - start, _resident("VmHWM") - before
    kept = sum(x.nbytes for x in jax.tree.leaves(variables))
    print(json.dumps({"seconds": seconds, "kept": kept, "peak": peak}))


def _resident(key: str) -> int:
    match = re.search(rf"{key}:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    assert match is not None
    return 1024 * int(match[1])


def main() -> None:
    given = timing.make_parser(__doc__, rounds=3).parse_args()
    rows = []
    for name, (files, dtype) in FORMS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(pathlib.Path(folder), files, dtype)
            words = [sys.executable, __file__, "--child", folder]
            found = [
                json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
                for _ in range(given.rounds + 1)
            ][1:]
        seconds, peak = (statistics.median(run[key] for run in found) for key in ("seconds", "peak"))
        kept = found[0]["kept"]
        row = {"name": name, "seconds": seconds, "kept_mb": kept / 1e6, "peak_mb": peak / 1e6, "peak/kept": peak / kept}
        rows.append(row)
    columns = {"name": "folder", "seconds": "seconds", "kept_mb": "kept (MB)", "peak_mb": "peak (MB)"}
    results.write(given.write, {"": rows}, columns=columns | {"peak/kept": "peak / kept"})


if __name__ == "__main__":
    child(sys.argv[2]) if sys.argv[1:2] == ["--child"] else main()
