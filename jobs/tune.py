"""Sweeps merge ranges and learning rates over all hospitals; each pre-training is done once.

python jobs/tune.py --cohort cohorts/simulated --output runs/tune --registry registry

The same command continues a sweep that was interrupted.
"""

from homnet_platform.job import run_job
from homnet_platform.sweep import TuneConfig
from homnet_platform.tuning import sweep

if __name__ == "__main__":
    run_job(TuneConfig, sweep, description=__doc__)
