"""Compares methods of distillation for detection with their control, over seeds.

    python benchmarks/detection.py --task shapes --workdir runs/shapes_detect --seeds 3 \\
        [--write docs/results/shapes_detect.json] [--config.KEY=VALUE ...]
    python benchmarks/detection.py --task bccd --workdir runs/bccd --config.data.data_dir=DIR [...]

Each seed is the ordinary command with the config of the task in a process of its own; a finished seed is not repeated,
and seeds share compiled programs. Rows are networks: mean and standard deviation (n - 1) over seeds of the last step's
weights on the test split. `gain` is the mean difference to the student of the same seed without the teacher, in
COCO's average precision. `benchmarks/results.py` makes the tables of `docs/detection.md`.
"""

import controlled

CONFIGS = {
    "shapes": "configs/shapes/detect.py",
    "bccd": "configs/detection.py",
    "shapes_smoke": "configs/shapes/detect.py:smoke",
    "bccd_smoke": "configs/detection.py:smoke",
}
TITLES = {
    "map": "mAP",
    "map50": "mAP 50",
    "map75": "mAP 75",
    "map_small": "small",
    "map_medium": "medium",
    "map_large": "large",
}

if __name__ == "__main__":
    controlled.compare(__doc__, CONFIGS, TITLES)
