r"""Measures what a reader says of artificial abnormalities of held-out people.

python jobs/pretrain.py images --cohort cohorts/images --output runs/images
python jobs/learn_reader.py --cohort cohorts/images --checkpoint runs/images/checkpoint \
    --output runs/images-findings --split.validation 0.1 --split.test 0.1 \
    --training.optimiser.labels artificial --training.optimiser.bags.over people \
    --training.optimiser.bags.rounds 10
python jobs/records/evaluate_findings.py --cohort cohorts/images \
    --checkpoint runs/images/checkpoint --reader runs/images-findings/checkpoint

On patients with known abnormalities a reader is measured with the verdicts: jobs/diagnose.py.
"""

from homnet_platform.job import run_job
from homnet_platform.records.reader_evaluation import EvaluateFindingsConfig, evaluate_findings

if __name__ == "__main__":
    run_job(EvaluateFindingsConfig, evaluate_findings, description=__doc__)
