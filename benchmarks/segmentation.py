"""Compares methods of distillation for segmentation with their control, over seeds.

    python benchmarks/segmentation.py --task shapes --workdir runs/shapes_segment --seeds 3 \\
        [--write docs/results/shapes_segment.json] [--config.KEY=VALUE ...]
    python benchmarks/segmentation.py --task camvid --workdir runs/camvid --config.data.data_dir=DIR [...]

Each seed is the ordinary command with the config of the task in a process of its own; a finished seed is not repeated,
and seeds share compiled programs. Rows are networks: mean and standard deviation (n - 1) over seeds of the last step's
weights on the test split. `gain` is the mean difference to the student of the same seed without the teacher, in mean
IoU. `benchmarks/results.py` makes the tables of `docs/segmentation.md`.
"""

import controlled

CONFIGS = {
    "shapes": "configs/shapes/segment.py",
    "camvid": "configs/segmentation.py",
    "shapes_smoke": "configs/shapes/segment.py:smoke",
    "camvid_smoke": "configs/segmentation.py:smoke",
}
TITLES = {
    "mean_iou": "mean IoU",
    "accuracy": "pixel accuracy",
    "boundary_f1": "boundary F1",
    "nll": "NLL (nats)",
    "agreement": "agreement",
    "kl": "KL (nats)",
}

if __name__ == "__main__":
    controlled.compare(__doc__, CONFIGS, TITLES)
