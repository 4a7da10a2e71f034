"""A kind of stage: counts the parameters of the networks that it names."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from jaxdistill import core
from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage


class CountParameters(Kind):
    """Writes `parameters.json` into its folder."""

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        counts = {name: core.count(variables.get("params", {})) for name, variables in stage.shapes.variables.items()}
        folder = workdir / stage.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "parameters.json").write_text(json.dumps(counts))
        log(f"stage {stage.name}: {counts}")
        return {"parameters": counts}
