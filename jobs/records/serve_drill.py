r"""Kills and overruns what serves, on a local cluster under load, and counts what clients notice.

python jobs/records/serve_drill.py --drill.material.registry runs/demo/registry \
    --result results/serve-drill.json
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from homnet.errors import DataError
from homnet.results import write_result
from homnet_platform.job import run_job
from homnet_serve.records.drill import DrillConfig, drill


@dataclass(frozen=True)
class ServeDrillConfig:
    """A drill, and where its figures go."""

    drill: DrillConfig = field(default_factory=DrillConfig)
    """What is done."""
    result: Path | None = None
    """File of the result of record, for example results/serve-drill.json."""


def main(config: ServeDrillConfig) -> None:
    """Runs the drill; fails if an answer was wrong or a request was lost."""
    figures = drill(config.drill)
    if config.result is not None:
        material = config.drill.material
        write_result(
            config.result,
            claim="What clients with retries notice of faults under load, on a local cluster of a "
            "head and two nodes with a replica each",
            figures={"serve_drill": figures},
            command=shlex.join(["python", *sys.argv]),
            recipe=material.registry or f"random {material.form}",
            seed=material.seed,
        )
    if figures["wrong"] or figures["lost"]:
        raise DataError(
            f"{config.drill.work}: {figures['wrong']} wrong answers, {figures['lost']} requests "
            "lost; see the reasons above"
        )


if __name__ == "__main__":
    run_job(ServeDrillConfig, main, description=__doc__)
