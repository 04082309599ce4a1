"""Fits a laboratory to part of a hospital's people; simulations run as Ray tasks."""

from dataclasses import dataclass

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.files import require_writable
from homnet.model.checkpoint import patient_digests
from homnet.simulator.fitting import FitConfig, fit_laboratory
from homnet.simulator.laboratory_file import FittedLaboratory, write_laboratory
from homnet_platform.data import ray_map, rows_of
from homnet_platform.job import LocationOption
from homnet_platform.runtime import local_or_cluster


@dataclass(frozen=True)
class FitLaboratoryConfig:
    """The people to fit a laboratory to."""

    cohort: LocationOption
    """Directory of a cohort that jobs/ingest.py made."""
    hospital: str
    """Hospital of the cohort whose laboratory is fitted."""
    output: LocationOption
    """File of the laboratory. It holds aggregates of these people's chromosomes: get consent before
    sharing it."""
    share: float = 0.5
    """Share of the hospital's people to fit; the others are kept to judge the result."""
    seed: int = 0
    """Seed of the choice of people."""
    fit: FitConfig = FitConfig()
    """Effort."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"share is {self.share}; give a share above 0 and up to 1")


def fit(config: FitLaboratoryConfig) -> FittedLaboratory:
    """Fits and writes a laboratory.

    Raises:
        CohortError: there is no such cohort or hospital.
        ConfigError: the file exists already.
        DataError: there are too few people, or they have no normal pair.
        StoreError: the folder of the file is not writable.
    """
    if config.output.exists():
        raise ConfigError(f"{config.output}: exists already; remove it or choose another --output")
    cohort = Cohort.open(config.cohort).of_hospitals([config.hospital])
    split = SplitConfig(validation=0.0, test=1.0 - config.share, seed=config.seed)
    chosen = sorted(split_patients(cohort.patients, split)[TRAIN])
    require_writable(config.output.parent)
    print(f"people to fit: {len(chosen)} of {cohort.num_patients} of {config.hospital}")
    with local_or_cluster():
        laboratory = fit_laboratory(
            rows_of(cohort.read(), chosen),
            cohort.scale[config.hospital],
            config.fit,
            workers=ray_map,
        )
    fitted = FittedLaboratory(laboratory, tuple(patient_digests(chosen)))
    write_laboratory(config.output, fitted)
    return fitted
