"""Tells a model what is normal in a laboratory, without training and without labels.

python jobs/adapt.py --cohort cohorts/mine --checkpoint runs/pretrain/checkpoint --output runs/adapt
python jobs/evaluate.py images --cohort cohorts/mine --checkpoint runs/adapt/checkpoint

What HomNet compares with is measured again on normal pairs of the laboratory; nothing is trained.
"""

from homnet_platform.adaptation import AdaptConfig, adapt
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(AdaptConfig, adapt, description=__doc__)
