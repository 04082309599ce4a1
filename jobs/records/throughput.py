r"""Measures bags per second of training on one worker and more, and computes the paper's full run.

python jobs/records/throughput.py --output runs/throughput

GPUs are computed from what you state of them:

python jobs/records/throughput.py --gpu.name A100 --gpu.peak-flop-per-s 19.5e12 \
    --gpu.share-of-peak 0.2
"""

from homnet_platform.job import run_job
from homnet_platform.records.throughput import ThroughputConfig, throughput

if __name__ == "__main__":
    run_job(ThroughputConfig, throughput, description=__doc__)
