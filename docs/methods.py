"""Writes docs/methods.md: every method as its own file tells it, and by how much well-known implementations differ.

    python docs/methods.py            # writes the page
    python docs/methods.py --check    # exits with 1 where the page is not what the files say

The numbers are the values of each implementation's convention on one and the same input, computed by our functions
through the table that the golden tests prove against the implementations' own numbers.
"""

import importlib
import inspect
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax.errors import FlaxError  # noqa: E402

import golden_tables  # noqa: E402
from jaxdistill.config import registry  # noqa: E402
from jaxdistill.errors import UserError  # noqa: E402

TASKS = {
    "next_tokens": "Logits",
    "images": "Feature maps and vectors",
    "pixels": "Dense prediction",
    "derivatives": "Derivatives",
    "texts": "Text encoders",
}

HEADER = """# Methods

Every file of `jaxdistill/methods/`, by what it compares. Written by `python docs/methods.py` from the files
themselves; CI checks that it is up to date.

*Needs*: a teacher, labels, taps (`layers`, with its default; [the rules](../jaxdistill/modules/layer_mapping.py)),
adapters or other params of its own that are trained, a memory (variables, checkpointed with the rest), random draws,
the whole batch (its examples are compared with each other, so gradient accumulation is refused). *At rest*: a student
that says what
its teacher says has loss 0 and gradient 0.

*On one input* are the values that the conventions of well-known implementations give for the same numbers, in
float64; `x` is the ratio to the first. Those marked † are not offered, with the reason: a mistake, or a choice that
is another function than the paper's. The golden tests show that each is what its authors' code computes.
"""


def parts(text: str) -> dict[str, str]:
    """Takes a method's docstring apart: title, citation, formula, prose, elsewhere."""
    title, _, rest = text.partition("\n")
    blocks = [block for block in rest.strip("\n").split("\n\n") if block.strip()]
    at = next(i for i, block in enumerate(blocks) if block.startswith("    loss = "))
    end = at + 1
    while end < len(blocks) and blocks[end].startswith("    "):
        end += 1
    after = "\n\n".join(blocks[end:])
    prose, _, elsewhere = f"\n{after}".rpartition("\nElsewhere: ")
    return {
        "title": title,
        "citation": "\n\n".join(blocks[:at]),
        "formula": inspect.cleandoc("\n\n".join(blocks[at:end])),
        "prose": prose.strip("\n"),
        "elsewhere": elsewhere,
    }


def needs(name: str) -> list[str]:
    """What a method needs, read off its class and off what it creates on toy outputs."""
    import toy_outputs

    method = registry.find("method", name)
    task = toy_outputs.task_of(method())
    made, data = method(), toy_outputs.batch(task)
    outputs = [toy_outputs.output(task, seed, wide=bool(seed)) for seed in (0, 1)]
    keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: made.init(keys, *outputs, data))
    layers = registry.fields(method).get("layers")
    found = ["a teacher"] * made.needs_teacher + ["labels"] * made.needs_labels
    found += [f"taps `{layers}`"] if layers else []
    found += ["params of its own"] * ("params" in shapes) + ["a memory"] * ("memory" in shapes)
    found += ["draws"] * ("make_rng" in inspect.getsource(importlib.import_module(method.__module__)))
    return found + ["the whole batch"] * bool(made.needs_whole_batch)


def settings(name: str) -> str:
    fields = registry.fields(registry.find("method", name))
    return ", ".join(f"`{key}={value!r}`" for key, value in fields.items() if key != "layers")


def on_one_input(loss: str, folder: pathlib.Path) -> list[str]:
    """The rows of a table: what each variant of a loss gives on one input, that of the case which most can take."""
    cases = [c for c in json.loads((folder / "cases.json").read_text())["cases"] if c["loss"] == loss and c["strict"]]
    variants: dict[str, dict] = {}
    for case in cases:
        variants.setdefault(case["variant"], case)
    table = golden_tables.table()
    with jax.enable_x64(True):
        tried = [on_input_of(base, variants, table, np.load(folder / base["file"])) for base in variants.values()]
    values = max(tried, key=len, default={})
    order = sorted(values, key=lambda variant: table[loss, variant].excuses(variants[variant]["hyperparameters"]))
    rows = []
    for variant in order if len(order) > 1 else []:
        row = table[loss, variant]
        excuse = row.excuse if row.excuses(variants[variant]["hyperparameters"]) else ""
        ratio = f"{values[variant] / values[order[0]]:.4g}" if values[order[0]] else "-"
        rows.append(f"| {variant}{' †' if excuse else ''} | {values[variant]:.5g} | {ratio} | {excuse} |")
    return rows


def on_input_of(base, variants, table, arrays) -> dict[str, float]:
    """The values of those variants that can take the input and the settings of one case."""
    x = {name: arrays[spec["key"]] for name, spec in base["inputs"].items()}
    x = {n: jnp.asarray(v, "float64" if np.issubdtype(v.dtype, np.floating) else "int32") for n, v in x.items()}
    values = {}
    for variant, own in variants.items():
        theirs = base["hyperparameters"]
        given = {k: theirs[k] if type(theirs.get(k, ...)) is type(v) else v for k, v in own["hyperparameters"].items()}
        if not set(own["inputs"]) <= set(x):
            continue
        try:
            found = table[own["loss"], variant].function({name: x[name] for name in own["inputs"]}, **given)
        except (TypeError, ValueError, KeyError, FlaxError, UserError):
            continue  # it cannot take inputs of these shapes
        values[variant] = float(jnp.sum(found["loss"] if isinstance(found, dict) else found))
    return values


def section(name: str, folder: pathlib.Path) -> list[str]:
    """The section of one method."""
    method = registry.find("method", name)
    told = parts(importlib.import_module(method.__module__).__doc__)
    lines = [f"### `{name}`", "", told["title"], "", told["citation"], "", "```", told["formula"], "```", ""]
    lines += [told["prose"], ""] if told["prose"] else []
    lines += [f"**Needs** {', '.join(needs(name)) or 'nothing but logits'}."]
    lines[-1] += " **At rest** at the teacher." if method().zero_at_teacher else ""
    if settings(name):
        lines[-1] += f" **Fields** {settings(name)}."
    lines += ["", f"**Elsewhere** {told['elsewhere']}", ""]
    for loss in golden_tables.LOSSES_OF.get(name, ()):
        rows = on_one_input(loss, folder)
        if rows:
            lines += [f"On one input (`{loss}`):", "", "| convention | value | x | not offered, because |"]
            lines += ["| --- | ---: | ---: | --- |", *rows, ""]
    return lines


def page() -> str:
    """The whole page."""
    import toy_outputs

    folder = ROOT / "tests" / "golden"
    names = registry.names("method")
    task = {name: toy_outputs.task_of(registry.find("method", name)()) for name in names}
    lines = [HEADER, f"{len(names)} methods:", "", "| method | paper | needs |", "| --- | --- | --- |"]
    for key in TASKS:
        for name in [name for name in names if task[name] == key]:
            told = parts(importlib.import_module(f"jaxdistill.methods.{name}").__doc__)
            link = re.search(r"https://[^\s,;)]+", told["citation"] + " " + told["title"])[0].rstrip(".")
            file = f"../jaxdistill/methods/{name}.py"
            lines += [f"| [`{name}`]({file}) | [{told['title'].rstrip('.')}]({link}) | {', '.join(needs(name))} |"]
    for key, title in TASKS.items():
        lines += ["", f"## {title}", ""]
        for name in [name for name in names if task[name] == key]:
            lines += section(name, folder)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


if __name__ == "__main__":
    written = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(written)
    elif not PAGE.is_file() or PAGE.read_text() != written:
        sys.exit(f"{PAGE.relative_to(ROOT)} is not what the files say; run python docs/methods.py")
