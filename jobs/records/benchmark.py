"""Measures the model, the synthesis of abnormalities and the bank; imports no Ray.

python jobs/records/benchmark.py --output runs/benchmark

``python -m homnet.records.benchmark --device cuda`` measures a device alone, in at most six
minutes, on a machine with torch, numpy, pandas and pyarrow.
"""

from homnet.records.benchmark.figures import draw_scaling
from homnet.records.benchmark.run import BenchmarkConfig, benchmark
from homnet_platform.job import run_job


def main(config: BenchmarkConfig) -> None:
    """Measures, draws, and writes the result of record if one was asked for."""
    figures = benchmark(config)
    if figures["scaling"]:
        draw_scaling(figures, config.output / "scaling.png")
    config.record.write(
        {"benchmark": figures},
        recipe="paper",
        seed=config.seed,
    )
    print(f"benchmark: {config.output / 'benchmark.json'}")


if __name__ == "__main__":
    run_job(BenchmarkConfig, main, description=__doc__)
