r"""Fuzzes an endpoint and the stores behind it: damaged images, manifests, bodies and files.

python jobs/records/fuzz.py --record.file results/fuzz.json \
    --record.claim "Hostile bodies at an endpoint, and changes to its stored files"

The endpoint is one replica of Ray Serve in processes of its own. It takes about half an hour.
"""

from homnet_platform.job import run_job
from homnet_serve.records.fuzz import FuzzConfig, fuzz

if __name__ == "__main__":
    run_job(FuzzConfig, fuzz, description=__doc__)
