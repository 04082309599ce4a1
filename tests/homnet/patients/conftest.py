"""A calibrated checkpoint that has learnt nothing, and verdicts by it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import torch

from homnet.calibration.likelihood_ratios import Scale
from homnet.calibration.patients import PatientCalibration
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.predictor import Predictor
from homnet.patients.diagnostician import Diagnostician, diagnose
from homnet.patients.finding import FindingReader
from homnet.patients.verdict import PatientVerdict, VerdictConfig

Judge = Callable[..., list[PatientVerdict]]
_FORM = HomNetConfig(width=8, pair_width=12, num_heads=2)


@pytest.fixture(scope="session")
def calibration(calibration_of: Callable[..., PatientCalibration]) -> PatientCalibration:
    """The calibration of hospital h1, in which every scale leaves scores as they are."""
    return calibration_of()


@pytest.fixture(scope="session")
def checkpoint(calibration: PatientCalibration) -> Checkpoint:
    """An untrained HomNet with that calibration."""
    torch.manual_seed(0)
    return Checkpoint(_FORM, HomNet(_FORM).state_dict(), patients={"h1": calibration})


@pytest.fixture(scope="session")
def judge(checkpoint: Checkpoint, calibration_of: Callable[..., PatientCalibration]) -> Judge:
    """Verdicts on a table; keywords change the calibration, ``config`` that of the verdict."""

    def verdicts(
        table: pa.Table, reader: FindingReader | None = None, **changes: Any
    ) -> list[PatientVerdict]:
        config = changes.pop("config", VerdictConfig())
        changes["reader"] = changes.pop("reader_version", "none")
        calibrated = replace(checkpoint, patients={"h1": calibration_of(**changes)})
        version = "none" if reader is None else reader.version
        judge = Diagnostician(calibrated, config, reader=version)
        return diagnose(judge, Predictor.of_checkpoint(calibrated), table, reader)

    return verdicts


@pytest.fixture(scope="session")
def forced(judge: Judge) -> Judge:
    """The same, but everybody is called abnormal, in all cells."""

    def verdicts(table: pa.Table, **changes: Any) -> list[PatientVerdict]:
        return judge(table, **{"threshold": -20.0, "cell_scale": Scale(1e-6, 3.0), **changes})

    return verdicts
