"""Takes HomNet apart: the paper's Table 4, every variant with several seeds, side by side.

python jobs/ablate.py best --cohort cohorts/simulated --output runs/ablate
"""

from homnet_platform.ablation import RECIPES, ablate
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(RECIPES, ablate, description=__doc__)
