r"""Measures findings on held-out patients: overlap, homolog, kind and breakpoints.

python jobs/evaluate_findings.py --cohort cohorts/simulated --checkpoint runs/fine_tune \\
    --reader runs/findings/checkpoint
"""

from homnet_platform.findings import EvaluateFindingsConfig, evaluate_findings
from homnet_platform.job import run_job

if __name__ == "__main__":
    run_job(EvaluateFindingsConfig, evaluate_findings, description=__doc__)
