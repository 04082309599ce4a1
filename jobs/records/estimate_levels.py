r"""Measures how often the band level of a cell is estimated rightly.

python jobs/records/estimate_levels.py --cohort cohorts/fresh --real cohorts/pki3
"""

from dataclasses import dataclass

from homnet.records.level_estimation import levels_markdown, measure_levels
from homnet.results import Record
from homnet_platform.job import LocationOption, run_job


@dataclass(frozen=True)
class LevelsConfig:
    """Cells to estimate."""

    cohort: LocationOption
    """Cohort of simulated people from whom the estimator did not learn."""
    real: LocationOption | None = None
    """Cohort of real people."""
    num_bootstrap: int = 1000
    """Replicates of the bootstrap over people."""
    seed: int = 0
    """Seed of the bootstrap and of the halves of a cell."""
    record: Record = Record()
    """The result of record."""


def main(config: LevelsConfig) -> None:
    """Measures, prints the table, and writes the result of record if one was asked for."""
    figures = measure_levels(
        config.cohort, config.real, num_bootstrap=config.num_bootstrap, seed=config.seed
    )
    config.record.write({"band_levels": figures}, recipe="estimate_levels", seed=config.seed)
    print(levels_markdown(figures))


if __name__ == "__main__":
    run_job(LevelsConfig, main, description=__doc__)
