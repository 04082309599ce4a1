r"""Trains the reader of findings on a pre-trained HomNet: where, what, and on which homolog.

python jobs/simulate.py --output cohorts/rearranged --seed 1 --num-healthy 0 \\
    --num-patients 1500 1500 1500 1500 --abnormal-fraction 0.9 --patient-cells 7 --rearranged-types
python jobs/learn_findings.py --cohort cohorts/rearranged --checkpoint runs/pretrain/checkpoint
"""

from homnet_platform.findings import LearnFindingsConfig, facts, learn_findings
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(LearnFindingsConfig, learn_findings, description=__doc__, facts=facts)
