"""Pages of the methods: docs/methods.md, an index table, and docs/methods/NAME.md, one page a method.

    python docs/methods.py            # writes the pages
    python docs/methods.py --check    # exits with 1 if a page is not up to date

A page consists of the docstring of the method's file, its needs and fields, and the values of published
implementations. These are computed on one input by our functions, through the table that the golden tests check against
the implementations' numbers.
"""

import functools
import importlib
import inspect
import json
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
INDEX = ROOT / "docs" / "methods.md"
FOLDER = ROOT / "docs" / "methods"
GOLDEN = ROOT / "tests" / "golden"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax.errors import FlaxError  # noqa: E402

import golden_tables  # noqa: E402
from jaxdistill.config import registry  # noqa: E402
from jaxdistill.conformance import toy_outputs  # noqa: E402
from jaxdistill.errors import UserError  # noqa: E402

TASKS = {
    "next_tokens": "Logits",
    "images": "Feature maps and vectors",
    "pixels": "Dense prediction",
    "derivatives": "Derivatives",
    "texts": "Text encoders",
    "labels": "Several labels",
    "gaussian": "Gaussians of a target",
    "quantiles": "Quantiles of a target",
}

HEADER = """# Methods

{count} methods, one file of `jaxdistill/methods/` each, grouped by the outputs that they compare. A method's page has
its formula, defaults, differences from other implementations, and their values on one input. `python docs/methods.py`
writes these pages from the files; CI checks that they are up to date. A method of your own is one more file:
[CONTRIBUTING](../CONTRIBUTING.md).

*Needs*: a teacher; labels; taps (`layers`, with its default; [the rules](../jaxdistill/modules/layer_mapping.py));
params, such as adapters, which are trained with the student; a memory, whose variables are saved in checkpoints; random
draws; the whole batch, whose examples are compared with each other, so that gradient accumulation is refused.
"""

CONVENTIONS = """Values of published implementations on one input, in float64; `x` is the ratio to the first. Those
marked † are not offered, for the given reason: a mistake, or another function than the paper's. The golden tests check
all of them against the implementations' own numbers."""


def parse_docstring(text: str) -> dict[str, str]:
    """Splits a method's docstring into title, citation, formula, prose and elsewhere."""
    title, _, rest = text.partition("\n")
    blocks = [block for block in rest.strip("\n").split("\n\n") if block.strip()]
    start = next(i for i, block in enumerate(blocks) if block.startswith("    loss = "))
    end = start + 1
    while end < len(blocks) and blocks[end].startswith("    "):
        end += 1
    prose, _, elsewhere = ("\n" + "\n\n".join(blocks[end:])).rpartition("\nElsewhere: ")
    return {
        "title": title,
        "citation": "\n\n".join(blocks[:start]),
        "formula": inspect.cleandoc("\n\n".join(blocks[start:end])),
        "prose": prose.strip("\n"),
        "elsewhere": elsewhere,
    }


def method_parts(name: str) -> dict[str, str]:
    """Returns the parts of the docstring of a method's file."""
    return parse_docstring(importlib.import_module(f"jaxdistill.methods.{name}").__doc__)


@functools.cache
def list_needs(name: str) -> list[str]:
    """Lists a method's needs, from its class and from the variables that it creates on toy outputs."""
    method_class = registry.find("method", name)
    method = method_class()
    task = toy_outputs.task_of(method)
    keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
    variables = jax.eval_shape(method.init, keys, *toy_outputs.shapes(task, wide=True))
    layers = registry.fields(method_class).get("layers")
    draws = "make_rng" in inspect.getsource(importlib.import_module(method_class.__module__))
    needs = {
        "a teacher": method.needs_teacher,
        "labels": method.needs_labels,
        f"taps `{layers}`": layers,
        "params": "params" in variables,
        "a memory": "memory" in variables,
        "draws": draws,
        "the whole batch": method.needs_whole_batch,
    }
    return [need for need, present in needs.items() if present]


def list_fields(name: str) -> str:
    """Lists a method's fields with their defaults, except `layers`."""
    fields = registry.fields(registry.find("method", name))
    return ", ".join(f"`{key}={value!r}`" for key, value in fields.items() if key != "layers")


def convention_rows(loss: str) -> list[str]:
    """Returns table rows with the value of each variant of a loss, on the input that most variants accept."""
    cases = json.loads((GOLDEN / "cases.json").read_text())["cases"]
    variants: dict[str, dict[str, Any]] = {}
    for case in cases:
        if case["loss"] == loss and case["strict"]:
            variants.setdefault(case["variant"], case)
    with jax.enable_x64(True):
        values = max((values_on(case, variants) for case in variants.values()), key=len, default={})
    if len(values) < 2:
        return []
    table, rows = golden_tables.table(), []
    excused = {variant: table[loss, variant].excuses(variants[variant]["hyperparameters"]) for variant in values}
    order = sorted(values, key=excused.__getitem__)
    for variant in order:
        mark, reason = (" †", table[loss, variant].excuse) if excused[variant] else ("", "")
        ratio = f"{values[variant] / values[order[0]]:.4g}" if values[order[0]] else "-"
        rows.append(f"| {variant}{mark} | {values[variant]:.5g} | {ratio} | {reason} |")
    return rows


def values_on(base: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns the values of the variants that accept the inputs and hyperparameters of the case `base`."""
    arrays, settings = np.load(GOLDEN / base["file"]), base["hyperparameters"]
    x = {name: arrays[spec["key"]] for name, spec in base["inputs"].items()}
    x = {n: jnp.asarray(v, "float64" if np.issubdtype(v.dtype, np.floating) else "int32") for n, v in x.items()}
    values = {}
    for variant, case in variants.items():
        if not set(case["inputs"]) <= set(x):
            continue
        defaults = case["hyperparameters"]
        keywords = {k: settings[k] if type(settings.get(k, ...)) is type(v) else v for k, v in defaults.items()}
        function = golden_tables.table()[case["loss"], variant].function
        try:
            result = function({name: x[name] for name in case["inputs"]}, **keywords)
        except (TypeError, ValueError, KeyError, FlaxError, UserError):
            continue  # inputs of these shapes are not accepted
        values[variant] = float(jnp.sum(result["loss"] if isinstance(result, dict) else result))
    return values


def method_page(name: str) -> str:
    """Returns the page of one method."""
    parts, fields = method_parts(name), list_fields(name)
    lines = [f"# `{name}`", "", parts["title"], "", parts["citation"], "", "```", parts["formula"], "```", ""]
    lines += [parts["prose"], ""] if parts["prose"] else []
    lines += [f"**Needs** {', '.join(list_needs(name)) or 'nothing but logits'}.", ""]
    if registry.find("method", name)().zero_at_teacher:
        lines += ["**At the teacher** value and gradient are 0: for a student whose outputs equal the teacher's.", ""]
    lines += [f"**Fields** {fields}.", ""] if fields else []
    lines += [f"**Elsewhere** {parts['elsewhere']}", "", f"File: [{name}.py](../../jaxdistill/methods/{name}.py).", ""]
    tables = {loss: convention_rows(loss) for loss in golden_tables.LOSSES_OF.get(name, ())}
    tables = {loss: rows for loss, rows in tables.items() if rows}
    lines += ["## Conventions", "", CONVENTIONS, ""] if tables else []
    for loss, rows in tables.items():
        lines += [f"`{loss}`:", "", "| convention | value | x | not offered, because |", "| --- | ---: | ---: | --- |"]
        lines += [*rows, ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def index_page() -> str:
    """Returns the index, a table of the methods for each kind of outputs."""
    names = registry.names("method")
    tasks = {name: toy_outputs.task_of(registry.find("method", name)()) for name in names}
    lines = [HEADER.format(count=len(names))]
    for task, title in TASKS.items():
        lines += [f"## {title}", "", "| method | paper | needs |", "| --- | --- | --- |"]
        for name in (name for name in names if tasks[name] == task):
            parts = method_parts(name)
            link = re.search(r"https://[^\s,;)]+", f"{parts['citation']} {parts['title']}")[0].rstrip(".")
            paper = f"[{parts['title'].rstrip('.')}]({link})"
            lines += [f"| [`{name}`](methods/{name}.md) | {paper} | {', '.join(list_needs(name))} |"]
        lines += [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def pages() -> dict[pathlib.Path, str]:
    """Returns the text of every page by its path."""
    return {INDEX: index_page()} | {FOLDER / f"{name}.md": method_page(name) for name in registry.names("method")}


def outdated(texts: Mapping[pathlib.Path, str]) -> list[str]:
    """Returns the pages that differ from `texts`, are missing, or belong to no method."""
    paths = {*texts, *FOLDER.glob("*.md")}
    current = {path: path.read_text() for path in paths if path.is_file()}
    return sorted(str(path.relative_to(ROOT)) for path in paths if current.get(path) != texts.get(path))


if __name__ == "__main__":
    texts = pages()
    if "--check" in sys.argv[1:]:
        if outdated(texts):
            sys.exit(f"{outdated(texts)} are not up to date; run python docs/methods.py")
    else:
        FOLDER.mkdir(exist_ok=True)
        for path in FOLDER.glob("*.md"):
            path.unlink()
        for path, text in texts.items():
            path.write_text(text)
