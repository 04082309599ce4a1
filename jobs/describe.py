"""Describes a cohort: counts, quality, and a picture of its chromosomes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.summary import counts_table, summarise_cohort
from homnet.report.description import draw_cohort
from homnet_platform.job import run_job


@dataclass(frozen=True)
class DescribeConfig:
    """Which cohort, and where its description goes."""

    cohort: Path
    """Directory of the cohort."""
    output: Path | None = None
    """Folder for counts.json and cohort.png; by default ``<cohort>-description`` beside it."""
    seed: int = 0
    """Of the choice of the cell and of the pairs that are drawn."""


def main(config: DescribeConfig) -> None:
    """Counts, draws, and prints the table."""
    cohort = Cohort.open(config.cohort)
    summary = summarise_cohort(cohort)
    figure = draw_cohort(cohort, np.random.default_rng(config.seed))
    resolved = config.cohort.resolve()
    output = config.output or resolved.with_name(f"{resolved.name}-description")
    output.mkdir(parents=True, exist_ok=True)
    (output / "counts.json").write_text(json.dumps(summary, indent=1))
    figure.savefig(output / "cohort.png", metadata={"Software": None})
    print(counts_table(summary))
    print(f"description: {output / 'counts.json'}, {output / 'cohort.png'}")


if __name__ == "__main__":
    run_job(DescribeConfig, main, description=__doc__)
