"""Images per second of a folder of JPEGs, ready for a step, beside torchvision's DataLoader.

    python benchmarks/images.py [--images 600] [--side 500 375] [--size 224] [--batch 64] [--workers 2] \
        [--rounds 9] [--alone] [--write FILE.json]

The images are smooth noise, written once by Pillow at quality 90. Each call makes one epoch of batches, decoded,
cropped by `random_resized_crop`, mirrored by chance and normalised, float32. Here threads decode, resize the short side
to `--size` and cut the centre square, and one compiled function on the device does the rest, each image by its own key;
of the row "without augmentation" it standardises alone. torchvision's workers are processes that crop the decoded image
before they resize it. Both read with the same number of workers. Medians of interleaved rounds.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import jax
import numpy as np
import results
import timing
from PIL import Image

from jaxdistill.data import loader
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.readers import images
from jaxdistill.runtime import allocator
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.tasks.image_classification import ImageClassification

CROP = "random_resized_crop:0.08,1.0"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES, COARSE, QUALITY = 4, 12, 90


def write_images(folder: pathlib.Path, count: int, side: Sequence[int]) -> None:
    """Writes `folder/CLASS/FILE.jpg`, width and height `side`: smooth noise with a little grain."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (COARSE, COARSE, 3), np.uint8))
        smooth = np.asarray(coarse.resize((side[0], side[1]), Image.Resampling.BICUBIC), np.int16)
        grain = draw.integers(-8, 9, smooth.shape, np.int16)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)


def make_ours(folder: pathlib.Path, given: argparse.Namespace, augment: Sequence[str]) -> Callable[[], None]:
    """Returns the call that makes an epoch of batches on the device."""
    dataset = images.read(DatasetSettings("images", path=str(folder), size=given.size, splits=(("train", "[:100%]"),)))
    task = ImageClassification(dataset, MEAN, STD, augmentations=tuple(augment))
    reader = loader.Streamed(
        dataset.split("train"), seed=0, batch=given.batch, classes=CLASSES, num_threads=given.workers
    )
    change = task.augment(seed=0)
    prepare = jax.jit(lambda inputs: change(reader.make_batch({}, inputs))["image"])
    steps, started = given.images // given.batch, [0]

    def epoch() -> None:
        first, image = started[0], None
        for inputs in reader.step_inputs(first, first + steps):
            image = prepare(jax.device_put(inputs))
        jax.block_until_ready(image)
        started[0] += steps

    return epoch


def make_torchvision(folder: pathlib.Path, given: argparse.Namespace) -> Callable[[], None]:
    """Returns the call that makes an epoch of torchvision's batches."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    torch.manual_seed(0)
    steps = [
        transforms.RandomResizedCrop(given.size, scale=(0.08, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    batches = DataLoader(
        ImageFolder(str(folder), transforms.Compose(steps)),
        batch_size=given.batch,
        shuffle=True,
        drop_last=True,
        num_workers=given.workers,
        persistent_workers=given.workers > 0,
    )

    def epoch() -> None:
        for _ in batches:
            pass

    return epoch


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=9)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--side", type=int, nargs=2, default=(500, 375), help="width and height of an image")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--alone", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_images(folder, given.images, given.side)
        calls = {} if given.alone else {"torchvision, DataLoader": make_torchvision(folder, given)}
        calls["jaxdistill"] = make_ours(folder, given, (CROP, "flip"))
        calls["jaxdistill, without augmentation"] = make_ours(folder, given, ())
        seconds = time_interleaved(calls, given.rounds, warm_up=1)
        del calls  # the workers, before their folder
    examples = given.images // given.batch * given.batch
    width, height = given.side
    form = f"{given.batch} x {given.size} x {given.size}"
    title = f"JPEGs of {width} x {height} to batches of {form}, {given.workers} workers"
    results.write(given.write, {title: timing.compare(seconds, next(iter(seconds)), examples)})


if __name__ == "__main__":
    main()
