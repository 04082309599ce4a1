r"""Measures what a reader says of artificial abnormalities of held-out people.

python jobs/pretrain.py images --cohort cohorts/pki3 --output runs/pki3
python jobs/learn_reader.py --cohort cohorts/pki3 --checkpoint runs/pki3/checkpoint \
    --output runs/pki3-reader --split.validation 0.1 --split.test 0.1 \
    --training.optimiser.labels artificial --training.optimiser.bags.over people \
    --training.optimiser.bags.rounds 10
python jobs/records/evaluate_findings.py --cohort cohorts/pki3 \
    --checkpoint runs/pki3/checkpoint --reader runs/pki3-reader/checkpoint

On patients with known abnormalities a reader is measured with the verdicts: jobs/diagnose.py.
"""

from homnet_platform.job import run_job
from homnet_platform.records.reader_evaluation import EvaluateFindingsConfig, evaluate_findings

if __name__ == "__main__":
    run_job(EvaluateFindingsConfig, evaluate_findings, description=__doc__)
