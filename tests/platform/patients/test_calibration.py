"""Calibration of whole patients: kept in checkpoints, and by whom."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homnet.bags.assessment import assess
from homnet.calibration.labelled_scores import LabelledScores
from homnet.calibration.patients import ALL_HOSPITALS, PatientCalibration, fit_hospitals
from homnet.cohorts.split import VALIDATION, split_patients
from homnet.errors import CheckpointError, ConfigError, StoreError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import best_form
from homnet.model.predictor import Predictor
from homnet.model.registry import Registry
from homnet.patients.diagnostician import read_types
from homnet.patients.scores import read_log_odds, score_patients
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader
from homnet_platform.data import rows_of
from homnet_platform.patients import calibration
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


@pytest.fixture
def reader() -> Checkpoint:
    """A reader of findings that has learnt nothing."""
    form = ReaderConfig(model=replace(best_form(), width=16, pair_width=16), width=16)
    return Checkpoint(
        form,
        form.build().state_dict(),
        metrics={"calibration": {"kind": 1.0, "segment": 1.0, "cell": 1.0}},
        provenance={"learnt_from": []},
    )


def test_settings_and_reader_are_those_of_the_calibration(
    diagnosed: Any, reader: Checkpoint, tmp_path: Path
) -> None:
    config = replace(
        diagnosed.calibration,
        findings=str(reader.save(tmp_path / "reader")),
        output=str(tmp_path / "calibrated"),
        hospitals=("h1",),
        min_cells=3,
    )
    read_from = {}
    for share in (0.5, 1.0):
        calibrate(replace(config, read_share=share))
        own = Checkpoint.load(tmp_path / "calibrated" / "h1" / "checkpoint").patients["h1"]
        assert (own.min_cells, own.reader) == (3, reader.version)
        read_from[share] = own.read_from
    assert read_from[0.5] is not None
    assert read_from[1.0] is None  # everything is read


def test_each_hospital_is_scored_by_its_own_model_and_by_the_reader(
    diagnosed: Any, reader: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Checkpoint.load(diagnosed.model)
    models = {"h1": first, "h2": replace(first, weights=first.config.build().state_dict())}
    for name, model in models.items():
        model.save(tmp_path / "models" / name / "checkpoint")
    seen: list[LabelledScores] = []

    def fit(scores: LabelledScores, **options: Any) -> dict[str, PatientCalibration]:
        seen.append(scores)
        return fit_hospitals(scores, **options)

    monkeypatch.setattr(calibration, "fit_hospitals", fit)
    calibrate(
        replace(
            diagnosed.calibration,
            checkpoint=str(tmp_path / "models"),
            findings=str(reader.save(tmp_path / "reader")),
            output=str(tmp_path / "calibrated"),
        )
    )
    (scores,) = seen
    validation = split_patients(diagnosed.cohort.patients, diagnosed.calibration.split)[VALIDATION]
    for name, model in models.items():
        assessment = assess(rows_of(diagnosed.cohort.of_hospitals([name]).read(), validation))
        evidence = Predictor.of_checkpoint(model).evidence(assessment.bags)
        num_types = len(assessment.types)
        read = read_types(CalibratedReader.of_checkpoint(reader), assessment, np.arange(num_types))
        own = scores.of(np.array(scores.hospital_J) == name)
        for found, expected in (
            (own.logit_G, score_patients(assessment, evidence).logit_G),
            (own.read_G, read_log_odds(num_types, read, reads=True)),
        ):
            assert np.ptp(expected) > 1e-3
            np.testing.assert_allclose(found, expected, atol=1e-5)


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
        diagnose(
            replace(
                diagnosed.diagnosis,
                checkpoint=str(diagnosed.model),
                output=str(tmp_path / "verdicts"),
            )
        )


def test_nothing_of_an_earlier_calibration_stays_beside_a_new_one(
    diagnosed: Any, tmp_path: Path
) -> None:
    output = tmp_path / "calibrated"
    shutil.copytree(diagnosed.calibrated, output)
    again = replace(diagnosed.calibration, output=str(output), specificity=0.9)
    with pytest.raises(ConfigError, match="calibrated: holds a calibration of h2 from an earlier"):
        calibrate(replace(again, hospitals=("h1",)))
    with pytest.raises(ConfigError, match="h1/checkpoint: is read, and would be replaced"):
        calibrate(replace(again, checkpoint=str(output)))
    Checkpoint.load(diagnosed.model).save(output / "reader")
    with pytest.raises(ConfigError, match="calibrated: holds a reader from an earlier run"):
        calibrate(again)
    for name in ("h1", "h2"):
        own = Checkpoint.load(output / name / "checkpoint").patients[name]
        assert own.specificity == diagnosed.calibration.specificity


def test_a_calibration_that_is_killed_leaves_no_mixture(
    diagnosed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "calibrated"
    shutil.copytree(diagnosed.calibrated, output)
    again = replace(diagnosed.calibration, output=str(output), specificity=0.9)
    save = Checkpoint.save

    def killed(self: Checkpoint, path: Any) -> Any:
        if path.parent.name == "h2":
            raise KeyboardInterrupt
        return save(self, path)

    monkeypatch.setattr(Checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        calibrate(again)
    assert Checkpoint.load(output / "h1" / "checkpoint").patients["h1"].specificity == 0.9
    with pytest.raises(CheckpointError, match="h2/checkpoint: no checkpoint here"):
        diagnose(
            replace(diagnosed.diagnosis, checkpoint=str(output), output=str(tmp_path / "verdicts"))
        )
    monkeypatch.undo()
    calibrate(again)
    assert Checkpoint.load(output / "h2" / "checkpoint").patients["h2"].specificity == 0.9


def test_an_output_that_cannot_be_written_is_noticed_before_the_work(
    diagnosed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("homnet_platform.patients.calibration.process_blocks")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/out: cannot be written"):
        calibrate(replace(diagnosed.calibration, output=str(tmp_path / "file" / "out")))


def test_a_calibrated_model_is_registered(diagnosed: Any, tmp_path: Path) -> None:
    registry = str(tmp_path / "registry")
    calibrate(replace(diagnosed.calibration, output=str(tmp_path / "out"), registry=registry))
    (entry,) = Registry(registry).entries("h1")
    assert entry.version == Checkpoint.load(tmp_path / "out" / "h1" / "checkpoint").digest
