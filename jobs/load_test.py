"""Measures an endpoint under load, beside its bare models on the same cores.

python jobs/load_test.py --result results/serve-load.json

Ray Serve runs in processes of its own; the clients are in this one, on the same machine.
"""

import dataclasses
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from homnet.results import write_result
from homnet_platform.job import run_job
from homnet_platform.memory import tree_bytes
from homnet_platform.runtime import local_or_cluster
from homnet_serve.load_test import LoadTestConfig, measure


@dataclass(frozen=True)
class LoadJobConfig:
    """A load test, and where its figures go."""

    load: LoadTestConfig = LoadTestConfig()
    """What is measured."""
    result: Path | None = None
    """File of the result of record, for example results/serve-load.json."""


def main(config: LoadJobConfig) -> None:
    """Measures, prints, and writes the result of record if one was asked for."""
    with local_or_cluster():
        figures = measure(config.load, lambda: tree_bytes(os.getpid()))
    for name, rate in figures["bare"].items():
        print(f"bare model, {name}: {rate} patients/s")
    if config.result is not None:
        write_result(
            config.result,
            claim="Latency and throughput of the endpoint under Ray Serve, clients on the same "
            "machine, beside the bare models and beside serving one request at a time.",
            figures={"settings": dataclasses.asdict(config.load), **figures},
            command=shlex.join(["python", *sys.argv]),
            recipe=config.load.form,
            seed=config.load.seed,
        )


if __name__ == "__main__":
    run_job(LoadJobConfig, main, description=__doc__)
