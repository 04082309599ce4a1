"""Measures the model, the synthesis of abnormalities and the bank; imports no Ray.

python jobs/records/benchmark.py --output runs/benchmark

On a machine that has torch, numpy, pandas, pyarrow, scipy and scikit-learn but not the rest, run
``python -m homnet.records.benchmark runs/benchmark`` instead.
"""

from homnet.records.benchmark import BenchmarkConfig, benchmark, draw_scaling
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
