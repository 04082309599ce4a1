r"""Kills what trains or what serves, on a local cluster, and checks what comes out.

python jobs/records/drill.py training --cohort cohorts/simulated --output runs/drill
python jobs/records/drill.py endpoint --material.registry runs/serve/registry \
    --material.cohort cohorts/five \
    --record.file results/serve-drill.json \
    --record.claim "What clients with retries notice of faults under load"
"""

from homnet_platform.job import run_job
from homnet_platform.records.drill import DrillConfig as TrainingDrill
from homnet_platform.records.drill import drill as drill_training
from homnet_serve.records.drill import DrillConfig as EndpointDrill
from homnet_serve.records.drill import drill as drill_endpoint


def main(config: TrainingDrill | EndpointDrill) -> None:
    """Runs one drill; fails if anything came out wrong or was lost."""
    if isinstance(config, TrainingDrill):
        drill_training(config)
    else:
        drill_endpoint(config)


if __name__ == "__main__":
    drills: dict[str, TrainingDrill | EndpointDrill] = {
        "training": TrainingDrill(),
        "endpoint": EndpointDrill(),
    }
    run_job(drills, main, description=__doc__)
