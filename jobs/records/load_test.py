r"""Measures an endpoint under load, beside its bare models on the same cores.

python jobs/records/load_test.py --material.registry runs/demo/registry --result results/load.json
python jobs/records/load_test.py --parts soak --result results/load.json

Ray Serve runs in processes of its own; the clients are in this one, on the same machine. Each part
leaves its figures in the work directory, so that parts can be measured one by one; the result of
record holds all parts that are there.
"""

import shlex
import sys

from homnet.results import write_result
from homnet_platform.job import run_job
from homnet_serve.records.load_test import LoadTestConfig, measure


def main(config: LoadTestConfig) -> None:
    """Measures, prints, and writes the result of record if one was asked for."""
    figures = measure(config)
    if config.result is not None:
        write_result(
            config.result,
            claim="Latency and throughput of the endpoint under Ray Serve, clients in a process of "
            "their own on the same cores, beside the bare models in the same run",
            figures={"load": figures},
            command=shlex.join(["python", *sys.argv]),
            recipe=config.material.registry or f"random {config.material.form}",
            seed=config.material.seed,
        )


if __name__ == "__main__":
    run_job(LoadTestConfig, main, description=__doc__)
