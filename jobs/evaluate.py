"""Scores held-out patients and measures: AUC, F1, PR-AUC, sensitivity, with patient intervals.

python jobs/evaluate.py hospitals --cohort cohorts/simulated --checkpoint runs/fine_tune
python jobs/evaluate.py artificial --cohort cohorts/pki3 --checkpoint runs/pretrain/checkpoint
"""

from homnet_platform.evaluation import RECIPES, evaluate
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(RECIPES, evaluate, description=__doc__)
