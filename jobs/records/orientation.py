"""Measures how often chromosomes that lie upside down are found.

python jobs/records/orientation.py --cohort cohorts/pki3-as-stored
"""

from homnet.records.orientation import OrientationConfig, measure, orientation_markdown
from homnet_platform.job import run_job


def main(config: OrientationConfig) -> None:
    """Measures, prints the table, and writes the result of record if one was asked for."""
    figures = measure(config)
    config.record.write(figures, recipe="orientation", seed=config.seed)
    print(orientation_markdown(figures))


if __name__ == "__main__":
    run_job(OrientationConfig, main, description=__doc__)
