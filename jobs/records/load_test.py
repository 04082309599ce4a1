r"""Measures an endpoint under load, beside its bare models on the same cores.

python jobs/records/load_test.py --material.registry runs/serve/registry \
    --material.cohort cohorts/five
python jobs/records/load_test.py --parts soak --record.file results/load.json \
    --record.claim "Latency and throughput of the endpoint, beside its bare models"

Ray Serve runs in processes of its own; the clients are in this one, on the same machine. Each part
leaves its figures in the work directory, so that parts can be measured one by one; the result of
record holds all parts that are there.
"""

from homnet_platform.job import run_job
from homnet_serve.records.load_test import LoadTestConfig, measure

if __name__ == "__main__":
    run_job(LoadTestConfig, measure, description=__doc__)
