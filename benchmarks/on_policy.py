"""Compares answers that the student writes with answers of the data and of the teacher, over seeds.

    python benchmarks/on_policy.py --task sums --workdir runs/on_policy --seeds 3 \\
        [--write docs/results/on_policy.json] [--config.KEY=VALUE ...]

Each seed is the ordinary command with the config of the task in a process of its own; a finished seed is not repeated.
Every student has the same prompts, and takes as many steps, in each of which the teacher grades one batch of answers.
Rows are networks: mean and standard deviation (n - 1) over seeds of the last step's weights on the test split. `gain`
is the mean difference to `alone` of the same seed, in exact matches, or in nats of a task without.
`benchmarks/results.py` makes the tables of `docs/on_policy.md`.
"""

import controlled

CONFIGS = {
    "sums": "configs/sums/on_policy.py",
    "sums_smoke": "configs/sums/on_policy.py:smoke",
    "tiny_shakespeare": "configs/tiny_shakespeare/table.py",
}
TITLES = {
    "exact_match": "exact match",
    "nll": "NLL (nats)",
    "bits_per_byte": "bits per byte",
    "accuracy": "accuracy of tokens",
    "agreement": "agreement",
    "kl": "KL (nats)",
}

if __name__ == "__main__":
    controlled.compare(__doc__, CONFIGS, TITLES)
