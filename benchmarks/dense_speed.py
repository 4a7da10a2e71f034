"""The training step of dense networks: this project's against torchvision's networks in plain PyTorch, in one run.

    python benchmarks/dense_speed.py --model deeplab_v3 --batch 4 --size 128 [--rounds 5] [--write FILE.json]

A whole step is timed, from the indices of a batch to new weights: images are taken from arrays on the device and
standardised, and the network learns by its loss with SGD and momentum, in float32; nothing is augmented. Ours is the
step of `configs/dense.py` beside this file, dispatched and fed as in training; PyTorch's is in eager mode in NCHW. The
two networks must have the same number of parameters; that they compute the same is tested in
`tests/models/torchvision_live_test.py`. The rows are images per second and the multiple of PyTorch's speed.

The peers are no dependencies of this project: pip install torch torchvision. Without them ours is measured alone.
"""

import importlib
import importlib.util
import os
import pathlib
from typing import Any

import numpy as np
import our_steps
import results
import timing

from jaxdistill import core
from jaxdistill.runtime.timing import time_interleaved

CONFIG = str(pathlib.Path(__file__).parent / "configs" / "dense.py")
OURS, PYTORCH = "jaxdistill", "PyTorch eager"
MODELS = ("deeplab_v3", "fcos")


def make_peer(model: str, stage: Any) -> Any:
    """Returns PyTorch's steps on the data and the batches of ours; `None` if PyTorch is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "torchvision")):
        return None
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    theirs = importlib.import_module("dense_torch")
    loader, spec = stage.data.loader(), stage.data.task.image_spec
    fields = {name: np.asarray(x) for name, x in loader.resident.items() if name in stage.data.dataset.fields}
    data = fields | {"mean": np.float32(spec.mean), "std": np.float32(spec.std)}
    batches = (inputs["index"] for inputs in loader.step_inputs(0, stage.settings.steps))
    network, compute_loss = theirs.PEERS[model](stage.data.dataset.classes)
    return theirs.Steps(network, compute_loss, data, batches)


def main() -> None:
    parser = timing.make_parser(__doc__, rounds=5)
    parser.add_argument("--model", choices=MODELS, default="deeplab_v3")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="steps of a round")
    given = parser.parse_args()
    flags = [f"--config.batch={given.batch}", f"--config.data.size={given.size}"]
    stage = our_steps.build_stage(f"{CONFIG}:{given.model}", "train", flags)
    steps = {OURS: our_steps.Steps.of_stage(stage, {})}
    peer = make_peer(given.model, stage)
    if peer is not None:
        count = core.count(stage.shapes.variables["student"]["params"])
        if count != peer.parameters:
            raise SystemExit(f"{given.model} has {count:,} parameters here and {peer.parameters:,} in torchvision")
        steps[PYTORCH] = peer
    calls = {name: (lambda form=form: form.run(given.steps)) for name, form in steps.items()}
    seconds = time_interleaved(calls, given.rounds)
    reference = PYTORCH if peer is not None else OURS
    rows = timing.compare(seconds, reference, given.batch * given.steps, given.steps * steps[OURS].flops())
    results.write(given.write, {f"{given.model}, {given.batch} images of {given.size} x {given.size}": rows})


if __name__ == "__main__":
    main()
