r"""Measures what is read from karyograms that are made of real chromosomes of known type.

python jobs/records/read_karyograms.py --manifest pki3/manifest.csv
"""

from homnet.records.karyogram_reading import (
    KaryogramReadingConfig,
    karyogram_reading_markdown,
    measure_reading,
)
from homnet_platform.job import run_job


def main(config: KaryogramReadingConfig) -> None:
    """Measures, prints the table, and writes the result of record if one was asked for."""
    figures = measure_reading(config)
    config.record.write({"karyogram_reading": figures}, recipe="read_karyograms", seed=config.seed)
    print(karyogram_reading_markdown(figures))


if __name__ == "__main__":
    run_job(KaryogramReadingConfig, main, description=__doc__)
