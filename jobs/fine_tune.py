"""Fine-tunes a pre-trained checkpoint on the patients of each hospital.

python jobs/fine_tune.py --cohort cohorts/simulated --checkpoint runs/pretrain/checkpoint
"""

from homnet_platform.fine_tuning import FineTuneConfig, fine_tune
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(FineTuneConfig, fine_tune, description=__doc__)
