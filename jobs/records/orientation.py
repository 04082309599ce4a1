r"""Measures how often chromosomes are found to lie upside down, and what turning them changes.

python jobs/records/orientation.py --cohort cohorts/pki3-as-stored \
    --checkpoint runs/pki3/checkpoint --simulated cohorts/simulated
"""

from homnet_platform.job import run_job
from homnet_platform.records.orientation import OrientationConfig, measure, orientation_markdown


def main(config: OrientationConfig) -> None:
    """Measures, prints the tables, and writes the result of record if one was asked for."""
    figures = measure(config)
    config.record.write(figures, recipe="orientation", seed=config.seed)
    print(orientation_markdown(figures))


if __name__ == "__main__":
    run_job(OrientationConfig, main, description=__doc__)
