"""Kills workers, nodes and drivers of pre-trainings on a local cluster, and checks what comes out.

python jobs/records/drill.py --cohort cohorts/simulated --output runs/drill
"""

from homnet_platform.job import run_job
from homnet_platform.records.drill import DrillConfig, drill

if __name__ == "__main__":
    run_job(DrillConfig, drill, description=__doc__)
