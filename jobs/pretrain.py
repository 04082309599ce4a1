r"""Pre-trains HomNet on artificial abnormalities of healthy people, or on simulated patients.

python jobs/pretrain.py best --cohort cohorts/simulated --hospitals healthy-1 --output runs/pretrain

Simulated patients show every kind and size of abnormality, in all laboratories and without seams:

python jobs/simulate.py --output cohorts/rearranged --seed 8 --num-healthy 0 \
    --num-patients 12500 12500 12500 12500 --abnormal-fraction 0.9 --patient-cells 6 \
    --rearranged-types --variant-inversions 20
python jobs/pretrain.py simulated --cohort cohorts/rearranged --output runs/pretrain-simulated
"""

from homnet_platform.job import run_job
from homnet_platform.pretraining import RECIPES, facts, pretrain

if __name__ == "__main__":
    run_job(RECIPES, pretrain, description=__doc__, facts=facts)
