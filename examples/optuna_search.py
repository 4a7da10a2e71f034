"""Optuna searches the temperature and the weight of a distillation; one teacher, trained once, serves all trials.

    pip install optuna
    python examples/optuna_search.py --workdir runs/search --trials 20

The same command adds trials to a search. Students are compared by the validation split; the test split is left for the
last one.
"""

import argparse
import pathlib

import optuna
from jaxdistill.configs.digits import kd

import jaxdistill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--mode", choices=kd.MODES, default="")
    given = parser.parse_args()
    first = kd.get_config(given.mode)
    first.stages = {"teacher": first.stages.teacher}
    teacher = jaxdistill.run(first, given.workdir / "teacher").workdir / "teacher"

    def distil(trial: optuna.Trial) -> float:
        config = kd.get_config(given.mode)
        config.terms.kd.temperature = trial.suggest_float("temperature", 1.0, 16.0, log=True)
        config.terms.kd.weight = trial.suggest_float("weight", 0.1, 10.0, log=True)
        config.networks.teacher.weights = str(teacher.resolve())
        student = dict(like="student", source="frozen", weights="stage:distil")
        evaluate = dict(kind="evaluate", networks=dict(distilled=student), evaluate=dict(split="validation"))
        config.stages = dict(distil={}, evaluate=evaluate)
        results = jaxdistill.run(config, given.workdir / f"{trial.number:03}", log=lambda line: None)
        return results["distilled"]["nll"]

    study = optuna.create_study(study_name="kd", storage=f"sqlite:///{given.workdir}/trials.db", load_if_exists=True)
    study.optimize(distil, n_trials=given.trials)
    print(f"run {study.best_trial.number:03}: {study.best_value:.4f} nats at {study.best_params}")


if __name__ == "__main__":
    main()
