"""Patients of two hospitals, calibrated and diagnosed once for all tests of this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import SplitConfig
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig
from homnet_platform.patients.calibration import CalibrateConfig, calibrate
from homnet_platform.patients.diagnosis import DiagnoseConfig, diagnose


@dataclass(frozen=True)
class Diagnosed:
    """What calibration and diagnosis left, and the settings they were given."""

    cohort: Cohort
    """Ten patients each of ``h1`` and ``h2``, half of them carriers."""
    model: Path
    """A checkpoint that learnt nothing."""
    calibration: CalibrateConfig
    diagnosis: DiagnoseConfig
    calibrated: Path
    """The directory with one directory per hospital."""
    output: Path
    """The verdicts."""


@pytest.fixture(scope="session")
def diagnosed(
    ray_cluster: None, tmp_path_factory: pytest.TempPathFactory, table_of: Callable[..., pa.Table]
) -> Diagnosed:
    """The test patients of both hospitals, with pages of those that are flagged."""
    work = tmp_path_factory.mktemp("diagnosed")
    tables = [
        table_of(name, num_patients=10, num_cells=3, abnormal=abnormal, seed=seed)
        for seed, (name, abnormal) in enumerate((("h1", "3"), ("h2", "5")))
    ]
    cohort = write_cohort(work / "cohort", tables, scale={"h1": 3.0, "h2": 3.0}, provenance={})
    form = HomNetConfig(width=8, pair_width=12, num_heads=2)
    torch.manual_seed(1)
    origin = {"learnt_from": [], "validated_on": []}
    model = Checkpoint(form, HomNet(form).state_dict(), provenance=origin).save(work / "model")
    split = SplitConfig(validation=0.4, test=0.5)
    calibration = CalibrateConfig(
        cohort=str(cohort.root),
        checkpoint=str(model),
        output=str(work / "calibrated"),
        split=split,
        min_patients=1,
    )
    calibrate(calibration)
    diagnosis = DiagnoseConfig(
        cohort=str(cohort.root),
        checkpoint=calibration.output,
        output=str(work / "verdicts"),
        patients="test",
        split=split,
        pages="flagged",
    )
    output = diagnose(diagnosis)
    return Diagnosed(cohort, model, calibration, diagnosis, Path(calibration.output), output)
