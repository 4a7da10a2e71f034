"""The frame of the report: its style, and the pieces of HTML that its sections are made of.

The page is XML too, so that a test can prove it well formed, and forbids itself every request by its policy.
"""

import json
import string
from collections.abc import Sequence
from html import escape
from typing import Any

PAGE = string.Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
<title>$title: distillation report</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --page: #ffffff; --card: #f6f8fa; --line: #d5dbe1;
  --soft: #59636e; --right: #0f7b3f; --wrong: #b42318; --best: #dcebff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #d6dbe1; --page: #0f1318; --card: #171d24; --line: #343c46; --soft: #98a3af;
    --right: #56c98a; --wrong: #ff8f80; --best: #17365f } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; color: var(--ink);
  background: var(--page); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif }
h1 { margin: 0; font-size: 1.7rem } h1 + p { margin: .3rem 0 0; color: var(--soft) }
h2 { margin: 2.8rem 0 .6rem; padding-bottom: .25rem; font-size: 1.25rem;
  border-bottom: 1px solid var(--line) }
h3 { margin: 1.4rem 0 .4rem; font-size: 1rem }
h1, h2, h3, p, figcaption { overflow-wrap: anywhere }
.summary { margin: 1.2rem 0; padding: .8rem 1rem; font-size: 1.1rem; background: var(--card);
  border-left: 4px solid #3b82f6; border-radius: 4px }
.note { margin: .5rem 0; font-size: .9rem; color: var(--soft) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap }
th:first-child { text-align: left }
thead th { font-size: .85rem; color: var(--soft); border-bottom: 2px solid var(--line) }
tbody th { font-weight: 600 } tbody tr + tr > * { border-top: 1px solid var(--line) }
.wide > table { width: 100% }
.best { font-weight: 700; background: var(--best) } .best::before { content: "★ "; font-size: .75em }
.role { margin-left: .4rem; padding: 0 .45rem; font-size: .75rem; font-weight: 400; color: var(--soft);
  border: 1px solid var(--line); border-radius: 1rem }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)) }
.small { grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)) }
.sheet { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)) }
figure { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px }
svg.figure { display: block; width: 100%; max-width: 34rem; height: auto; margin: auto }
.single figure { max-width: 32rem }
.sheet figure { overflow-x: auto } .sheet table { width: 100%; font-size: .85rem }
.sheet th, .sheet td { padding: .15rem .3rem } .sheet th { font-weight: 400; white-space: normal }
.sheet img { display: block; max-width: 100%; image-rendering: pixelated; border-radius: 4px }
figcaption { margin: .4rem 0; font-weight: 600 } figcaption span { font-weight: 400; color: var(--soft) }
.looks { display: flex; flex-wrap: wrap; gap: .4rem } .looks span { width: 4.1rem; font-size: .75rem;
  color: var(--soft); overflow-wrap: anywhere } .looks img { width: 100% }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 1rem; color: var(--soft) }
.right td { color: var(--right) } .wrong td { color: var(--wrong); font-weight: 700 }
details { margin: .6rem 0; padding: .5rem .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px } summary { cursor: pointer } pre { overflow-x: auto; font-size: .8rem }
</style></head>
<body>
<h1>Distillation report</h1><p>$title</p>
<p class="summary">$summary</p>
<h2>Results</h2>$results
$lanes
<h2>Training</h2>$training
<h2>Confusion matrices</h2>$confusions
<h2>Classes</h2>$classes
<h2>Calibration</h2>$calibration
<h2>Agreement</h2>$agreements
<h2>Fidelity</h2>$fidelity
<h2>Where the networks disagree</h2>$sheet
<h2>How this was made</h2>$config$environment
</body></html>
""")


def say(sentence: str) -> str:
    return f'<p class="note">{escape(sentence)}</p>'


def grid(figures: Sequence[str], kind: str = "grid") -> str:
    return f'<div class="{kind}">{"".join(f"<figure>{figure}</figure>" for figure in figures)}</div>'


def tabulated(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Returns a table; `head` is plain text, `body` lines of cells that are HTML already, `<th>` or `<td>`."""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    lines = "".join(f"<tr>{''.join(line)}</tr>\n" for line in body)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead>\n<tbody>{lines}</tbody></table></div>'


def folded(title: str, content: Any, path: str) -> str:
    if content is None:
        return say(f"{path} is missing.")
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
