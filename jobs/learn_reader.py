r"""Trains a reader on a pre-trained HomNet: what an abnormality is, where, and on which homolog.

python jobs/simulate.py --output cohorts/rearranged --seed 8 --num-healthy 0 \
    --num-patients 12500 12500 12500 12500 --abnormal-fraction 0.9 --patient-cells 6 \
    --rearranged-types --variant-inversions 20
python jobs/learn_reader.py --cohort cohorts/rearranged \
    --checkpoint runs/pretrain-simulated/checkpoint --training.optimiser.max-epochs 1 \
    --training.optimiser.bags.num-cells 8

To go on with people whom neither HomNet nor the reader knows:

python jobs/simulate.py --output cohorts/rearranged-2 --seed 9 --num-healthy 0 \
    --num-patients 12500 12500 12500 12500 --abnormal-fraction 0.9 --patient-cells 6 \
    --rearranged-types --variant-inversions 20
python jobs/learn_reader.py --cohort cohorts/rearranged-2 \
    --checkpoint runs/pretrain-simulated/checkpoint --start runs/findings/checkpoint \
    --output runs/findings-2 --training.optimiser.max-epochs 1 \
    --training.optimiser.bags.num-cells 8 --training.optimiser.learning-rate 1e-3 \
    --training.fewest-cells 3
"""

from homnet_platform.job import run_job
from homnet_platform.reader_training import LearnReaderConfig, facts, learn_reader

if __name__ == "__main__":
    run_job(LearnReaderConfig, learn_reader, description=__doc__, facts=facts)
