"""Adapts a model to a laboratory by its normal pairs, without training.

python jobs/adapt.py --cohort cohorts/mine --checkpoint runs/pretrain/checkpoint --output runs/adapt
python jobs/evaluate.py images --cohort cohorts/mine --checkpoint runs/adapt/checkpoint

What HomNet compares chromosomes with is measured again: means and covariances of normal pairs.
"""

from homnet_platform.adaptation import AdaptConfig, adapt
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(AdaptConfig, adapt, description=__doc__)
