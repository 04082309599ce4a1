r"""Makes the classifiers of types and band levels that come with the package, from simulated cells.

python jobs/simulate.py --output cohorts/patients --seed 110 --num-healthy 0 \
    --num-patients 600 600 600 600 --abnormal-fraction 0.2
python jobs/records/ship_classifiers.py --cohort cohorts/patients --max-files 12
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa

import homnet.imaging
from homnet.cohorts.cohort import Cohort
from homnet.files import write_whole
from homnet.imaging.band_level import FILE as LEVELS
from homnet.imaging.band_level import LevelEstimator
from homnet.imaging.type_classifier import FILE as TYPES
from homnet.imaging.type_classifier import TypeClassifier
from homnet.realism.measures import Pairs
from homnet.realism.type_classifier import Chromosomes
from homnet.records.level_estimation import WholeCells
from homnet_platform.job import LocationOption, run_job


@dataclass(frozen=True)
class ShipConfig:
    """Cells to learn from."""

    cohort: LocationOption
    """Cohort of simulated people."""
    max_files: int = 40
    """Number of its files that are read, spread over all of them."""
    output: Path = Path(str(files(homnet.imaging)))
    """Folder of the two files; those in the package are replaced."""


def main(config: ShipConfig) -> None:
    """Learns and writes both classifiers."""
    cohort = Cohort.open(config.cohort)
    step = max(1, len(cohort.files) // config.max_files)
    tables = [cohort.read(entry) for entry in cohort.files[::step]]
    for name, content in ((TYPES, _types(tables)), (LEVELS, _levels(tables))):
        write_whole(config.output / name, content)
        print(f"{config.output / name}: {len(content)} bytes")


def _types(tables: Sequence[pa.Table]) -> bytes:
    parts = [
        # The scale of the images does not count: lengths are relative to those of the cell.
        Chromosomes.of_pairs(Pairs.from_table(table, 1.0, with_single=True))
        for table in tables
    ]
    features_NF = np.concatenate([part.features_NF for part in parts])
    type_N = np.concatenate([part.type_N for part in parts])
    return TypeClassifier.fit(features_NF, type_N).to_bytes()


def _levels(tables: Sequence[pa.Table]) -> bytes:
    cells = WholeCells.of_tables(tables)
    return LevelEstimator.fit(
        cells.features_NF, cells.type_N, cells.level_N, cells.cell_N
    ).to_bytes()


if __name__ == "__main__":
    run_job(ShipConfig, main, description=__doc__)
