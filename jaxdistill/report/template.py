"""The Jinja2 template of the report, `template.html`, with autoescape."""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


@functools.cache
def load_template() -> "jinja2.Template":
    """Loads the template: with `sections` it renders the page, and its module has the macros."""
    # Imported here, since a run needs it only at its end.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdistill.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")
