r"""Kills what trains or what serves, on a local cluster, and checks what comes out.

python jobs/records/drill.py training --cohort cohorts/simulated --output runs/drill
python jobs/records/drill.py endpoint --material.registry runs/demo/registry \
    --result results/serve-drill.json
"""

import shlex
import sys

from homnet.errors import DataError
from homnet.results import write_result
from homnet_platform.job import run_job
from homnet_platform.records.drill import DrillConfig as TrainingDrill
from homnet_platform.records.drill import drill as drill_training
from homnet_serve.records.drill import DrillConfig as EndpointDrill
from homnet_serve.records.drill import drill as drill_endpoint

DRILLS = {"training": TrainingDrill(), "endpoint": EndpointDrill()}
CLAIM = (
    "What clients with retries notice of faults under load, on a local cluster of a head and two "
    "nodes with a replica each"
)


def main(config: TrainingDrill | EndpointDrill) -> None:
    """Runs one drill; fails if anything came out wrong or was lost."""
    if isinstance(config, TrainingDrill):
        drill_training(config)
        return
    figures = drill_endpoint(config)
    if config.result is not None:
        write_result(
            config.result,
            claim=CLAIM,
            figures={"serve_drill": figures},
            command=shlex.join(["python", *sys.argv]),
            recipe=config.material.registry or f"random {config.material.form}",
            seed=config.material.seed,
        )
    if figures["wrong"] or figures["lost"]:
        raise DataError(
            f"{config.work}: {figures['wrong']} wrong answers, {figures['lost']} requests lost; "
            "see the reasons above"
        )


if __name__ == "__main__":
    run_job(DRILLS, main, description=__doc__)
