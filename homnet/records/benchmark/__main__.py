"""Measures a device in one command: ``python -m homnet.records.benchmark --device cuda``.

It takes at most six minutes and writes one JSON. It needs torch, numpy, pandas and pyarrow.
"""

import argparse
import sys
from pathlib import Path

from homnet.errors import HomNetError
from homnet.records.benchmark.device import DeviceBenchmarkConfig, device_benchmark
from homnet.results import write_result


def main() -> None:
    """Reads the options, measures, and writes the file."""
    default = DeviceBenchmarkConfig()
    parser = argparse.ArgumentParser(
        prog="python -m homnet.records.benchmark",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default=default.device)
    parser.add_argument("--output", type=Path, default=Path("benchmark-device.json"))
    parser.add_argument(
        "--budget-s", type=float, default=default.budget_s, help="seconds of all measurements"
    )
    parser.add_argument("--seed", type=int, default=default.seed)
    options = parser.parse_args()
    try:
        config = DeviceBenchmarkConfig(
            device=options.device, budget_s=options.budget_s, seed=options.seed
        )
        write_result(
            options.output,
            claim="What one device reaches in training, on patients and in passes of the endpoint",
            figures={"device_benchmark": device_benchmark(config)},
            recipe="paper and best form",
            seed=config.seed,
        )
    except HomNetError as error:
        sys.exit(f"error: {error}")
    print(f"benchmark: {options.output}")


if __name__ == "__main__":
    main()
