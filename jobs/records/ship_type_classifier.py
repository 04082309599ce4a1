r"""Makes the type classifier that comes with the package, from simulated cells.

python jobs/simulate.py --output cohorts/patients --seed 110 --num-healthy 0 \
    --num-patients 600 600 600 600 --abnormal-fraction 0.2
python jobs/records/ship_type_classifier.py --cohort cohorts/patients --max-files 12
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

import homnet.imaging
from homnet.cohorts.cohort import Cohort
from homnet.imaging.type_classifier import FILE, TypeClassifier
from homnet.realism.measures import Pairs
from homnet.realism.type_classifier import Chromosomes
from homnet_platform.job import LocationOption, run_job


@dataclass(frozen=True)
class ShipConfig:
    """Cells to learn from."""

    cohort: LocationOption
    """Cohort of simulated people."""
    max_files: int = 40
    """Number of its files that are read, spread over all of them."""
    output: Path = Path(str(files(homnet.imaging).joinpath(FILE)))
    """File in the package; replaced."""


def main(config: ShipConfig) -> None:
    """Learns and writes the classifier."""
    cohort = Cohort.open(config.cohort)
    step = max(1, len(cohort.files) // config.max_files)
    parts = [
        Chromosomes.of_pairs(
            Pairs.from_table(cohort.read(entry), cohort.scale[entry.hospital], with_single=True)
        )
        for entry in cohort.files[::step]
    ]
    features_NF = np.concatenate([part.features_NF for part in parts])
    classifier = TypeClassifier.fit(features_NF, np.concatenate([part.type_N for part in parts]))
    config.output.write_bytes(classifier.to_bytes())
    print(f"{config.output}: learnt from {len(features_NF)} chromosomes")


if __name__ == "__main__":
    run_job(ShipConfig, main, description=__doc__)
