"""Runs the benchmark with default settings: ``python -m homnet.records.benchmark OUTPUT``."""

import sys
from pathlib import Path

from homnet.records.benchmark.run import BenchmarkConfig, benchmark

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m homnet.records.benchmark OUTPUT")
    benchmark(BenchmarkConfig(output=Path(sys.argv[1])))
