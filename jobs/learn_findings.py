r"""Trains the reader of findings on a pre-trained HomNet: where, what, and on which homolog.

python jobs/simulate.py --output cohorts/rearranged --seed 8 --num-healthy 0 \\
    --num-patients 12500 12500 12500 12500 --abnormal-fraction 0.9 --patient-cells 6 \\
    --rearranged-types --variant-inversions 20
python jobs/learn_findings.py --cohort cohorts/rearranged \\
    --checkpoint runs/pretrain-simulated/checkpoint --training.optimiser.max-epochs 1 \\
    --training.optimiser.bags.num-cells 8
"""

from homnet_platform.findings import LearnFindingsConfig, facts, learn_findings
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(LearnFindingsConfig, learn_findings, description=__doc__, facts=facts)
