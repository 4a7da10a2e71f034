"""Makes `colours.npz`: one image under torchvision's operations. It needs torch and torchvision, the tests do not.

python tests/golden_torchvision/make.py
"""

import pathlib

import numpy as np
import torch
from torchvision.transforms import functional

LEVELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)


def main() -> None:
    levels = torch.from_numpy(LEVELS).permute(2, 0, 1)
    image = levels.float() / 255
    narrow = (60 + levels / 4).to(torch.uint8)
    results = {
        "brightness": functional.adjust_brightness(image, 1.4),
        "contrast": functional.adjust_contrast(image, 0.3),
        "saturation": functional.adjust_saturation(image, 1.8),
        "hue": functional.adjust_hue(image, -0.2),
        "sharpness": functional.adjust_sharpness(image, 1.9),
        "posterize": functional.posterize(levels, 3).float() / 255,
        "solarize": functional.solarize(image, 0.6),
        "autocontrast": functional.autocontrast(narrow.float() / 255),
        "equalize": functional.equalize(narrow).float() / 255,
        "resize": functional.resize(image[:, :9, :8], [4, 3], antialias=True),
    }
    arrays = {name: x.permute(1, 2, 0).numpy() for name, x in results.items()}
    narrow = narrow.permute(1, 2, 0).numpy()
    np.savez_compressed(pathlib.Path(__file__).with_name("colours.npz"), image=LEVELS, narrow=narrow, **arrays)


if __name__ == "__main__":
    main()
