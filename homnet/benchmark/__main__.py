"""The benchmark on a bare machine: ``python -m homnet.benchmark OUTPUT``, with all defaults."""

import sys
from pathlib import Path

from homnet.benchmark.run import BenchmarkConfig, benchmark

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m homnet.benchmark OUTPUT")
    benchmark(BenchmarkConfig(output=Path(sys.argv[1])))
