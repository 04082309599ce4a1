"""Pre-trains HomNet on artificial abnormalities made from healthy people's chromosomes.

python jobs/pretrain.py best --cohort cohorts/simulated --hospitals healthy-1 --output runs/pretrain
"""

from homnet_platform.job import run_job
from homnet_platform.pretraining import RECIPES, facts, pretrain

if __name__ == "__main__":
    run_job(RECIPES, pretrain, description=__doc__, facts=facts)
