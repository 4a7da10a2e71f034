"""Changes of other libraries' losses by packing, padding and parts of a batch, on our networks' logits.

    python benchmarks/language_peers.py --trl FOLDER [--write docs/results/language_peers.json]

FOLDER is an unpacked wheel of TRL; `generalized_jsd_loss` is taken from its source and run by PyTorch, with
labels as `GKDTrainer.compute_loss` shifts them. DistillKit's is the formula that its `distil_logits.py` publishes
(https://github.com/arcee-ai/DistillKit): T^2 sum KL / rows / max_length at T = 2, of all positions. Texts, networks and
forms are those of `language_invariance.py`; numbers are relative changes of the loss and, as norms, of the gradient by
the student's parameters. Their trainers pass no documents, so that packed texts attend to each other; they have no rule
for the ids of a padded vocabulary. In parts, TRL divides by the tokens of the whole batch (`num_items_in_batch`), and
DistillKit's losses are averaged.
"""

import argparse
import ast
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import language_invariance as invariance
import numpy as np
import results
import torch
import torch.nn.functional as F
from language_invariance import Form, Tree

from jaxdistill import core
from jaxdistill.core import Batch

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""`(student, teacher, labels, tokens of the whole batch) -> loss`; labels are -100 where nothing is learned."""

FORMS = ("packed", "padded left", "padded right", "accumulated", "padded vocabulary")
IGNORED = -100


def read_trl(path: pathlib.Path) -> Loss:
    """Returns the loss of TRL's GKD, from its source."""
    tree = ast.parse(path.read_text())
    [function] = [node for node in ast.walk(tree) if getattr(node, "name", "") == "generalized_jsd_loss"]
    function.decorator_list = []
    scope: dict[str, Any] = {"torch": torch, "F": F}
    exec(compile(ast.Module([function], []), str(path), "exec"), scope)
    jsd = scope["generalized_jsd_loss"]

    def loss(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
        shifted = labels[:, 1:]
        return jsd(student[:, :-1], teacher[:, :-1], labels=shifted, beta=0.5, num_items_in_batch=count)

    return loss


def distillkit(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the loss of DistillKit's script."""
    divergence = F.kl_div(F.log_softmax(student / 2, -1), F.softmax(teacher / 2, -1), reduction="batchmean")
    return divergence * 4 / invariance.LENGTH


def differentiate(form: Form, loss: Loss, averages: bool) -> tuple[float, Tree]:
    """Returns a loss, and its gradient by the student's parameters.

    Args:
        form: the networks and the batch.
        loss: of logits.
        averages: whether losses of parts are averaged instead of added.
    """
    teacher = core.dense(form.networks["teacher"](form.variables["teacher"], form.batch, {}, None)[0].logits)
    student, pull = jax.vjp(
        lambda x: core.dense(form.networks["student"](x, form.batch, {}, None)[0].logits), form.variables["student"]
    )
    labels = jnp.where((form.batch["answer_mask"] > 0) & (form.batch["token_mask"] > 0), form.batch["tokens"], IGNORED)
    logits, teacher, labels = (torch.tensor(np.asarray(x)) for x in (student, teacher, labels))
    logits.requires_grad_(True)
    count, inputs = int((labels != IGNORED).sum()), (logits, teacher, labels)
    parts = [loss(*(x[number :: form.parts] for x in inputs), count) for number in range(form.parts)]
    total = sum(parts) / (len(parts) if averages else 1)
    total.backward()
    return float(total.detach()), pull(jnp.asarray(logits.grad.numpy()))[0]["params"]


def without_aids(name: str, form: Form) -> Form:
    """Returns a form as trainers without documents and without a rule for padding ids have it."""
    if name == "packed":
        batch: Batch = {key: x for key, x in form.batch.items() if key != "document"}
        return dataclasses.replace(form, batch=batch)
    networks = {key: dataclasses.replace(x, class_order=()) for key, x in form.networks.items()}
    return dataclasses.replace(form, networks=networks) if name == "padded vocabulary" else form


def measure(peers: Mapping[str, tuple[Loss, bool]]) -> list[dict[str, Any]]:
    """Returns a row for each peer: the changes by form."""
    forms, rows = invariance.make_forms(), []
    for peer, (loss, averages) in peers.items():
        plain = differentiate(forms[""], loss, averages)
        row: dict[str, Any] = {"name": peer}
        for name in FORMS:
            other = differentiate(without_aids(name, forms[name]), loss, averages)
            changes = invariance.compare(plain, other)
            row |= {f"{name}, {part}": change for part, change in zip(("loss", "gradient"), changes, strict=True)}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", type=pathlib.Path, required=True)
    parser.add_argument("--write", type=pathlib.Path)
    given = parser.parse_args()
    [version] = given.trl.glob("trl-*.dist-info")
    loss = read_trl(given.trl / "trl" / "experimental" / "gkd" / "gkd_trainer.py")
    rows = measure({"trl_gkd": (loss, False), "distillkit_logits": (distillkit, True)})
    results.write(given.write, {"": rows}, peer=version.stem)


if __name__ == "__main__":
    main()
