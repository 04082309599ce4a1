"""Calibration of whole patients: kept in checkpoints, and by whom."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homnet.calibration.patients import ALL_HOSPITALS
from homnet.cohorts.split import VALIDATION, split_patients
from homnet.errors import CheckpointError, ConfigError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.registry import Registry
from homnet_platform.patients.calibration import calibrate
from homnet_platform.patients.diagnosis import diagnose

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_calibration_is_kept_in_checkpoints_and_names_its_patients(diagnosed: Any) -> None:
    checkpoint = Checkpoint.load(diagnosed.calibrated / "h1" / "checkpoint")
    own = checkpoint.patients["h1"]
    assert own.hospitals == ("h1",)
    assert checkpoint.patients[ALL_HOSPITALS].hospitals == ("h1", "h2")
    validation = split_patients(diagnosed.cohort.patients, diagnosed.calibration.split)[VALIDATION]
    assert checkpoint.provenance["calibrated_on"] == patient_digests(validation)
    assert own.num_normal + own.num_abnormal == 4
    assert not own.supported
    assert checkpoint.version == Checkpoint.load(diagnosed.model).version


def test_who_was_learnt_from_calibrates_nothing(diagnosed: Any, tmp_path: Path) -> None:
    known = sorted(
        split_patients(diagnosed.cohort.patients, diagnosed.calibration.split)[VALIDATION]
    )[:1]
    model = Checkpoint.load(diagnosed.model)
    provenance = {"learnt_from": patient_digests(known), "validated_on": []}
    replace(model, provenance=provenance).save(tmp_path / "model")
    with pytest.raises(ConfigError, match="learnt from"):
        calibrate(replace(diagnosed.calibration, checkpoint=str(tmp_path / "model")))
    with pytest.raises(CheckpointError, match="calibrate first"):
        diagnose(replace(diagnosed.diagnosis, checkpoint=str(diagnosed.model)))


def test_a_hospital_left_out_is_calibrated_on_the_others_and_registered(
    diagnosed: Any, tmp_path: Path
) -> None:
    calibrate(
        replace(
            diagnosed.calibration,
            output=str(tmp_path / "left"),
            leave_out=True,
            registry=str(tmp_path / "registry"),
        )
    )
    checkpoint = Checkpoint.load(tmp_path / "left" / "h1" / "checkpoint")
    assert checkpoint.patients["h1"].hospitals == ("h2",)
    (entry,) = Registry(tmp_path / "registry").entries("h1")
    assert entry.version == checkpoint.digest
