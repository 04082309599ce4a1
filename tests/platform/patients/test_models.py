"""Workers load the models that the driver checked, and no others."""

from dataclasses import replace
from pathlib import Path

import pytest

from homnet.errors import CheckpointError
from homnet.model.checkpoint import Checkpoint
from homnet.model.shipped import SHIPPED, place_of, reader_beside
from homnet.patients.verdict import VerdictConfig
from homnet.reader.network import ReaderConfig
from homnet_platform.patients.models import load_models, loaded_once, predictor_once

VERDICT = VerdictConfig()


def test_what_the_driver_checked_is_what_workers_load() -> None:
    place = place_of(SHIPPED)
    models = load_models(SHIPPED, "", VERDICT, {"hospital-1": place})
    assert models.findings == str(reader_beside(SHIPPED))
    digests = models.digests
    assert digests.keys() == {str(place), models.findings}
    judge, _, reader = loaded_once(
        place, digests[str(place)], VERDICT, models.findings, digests[models.findings]
    )
    assert reader is not None
    assert reader.version == models.reader_version
    assert judge.calibration_of("hospital-1") == models.calibrations["hospital-1"]


@pytest.mark.parametrize("changed", ["model", "reader"])
def test_what_was_replaced_since_is_refused(changed: str) -> None:
    place, reader = place_of(SHIPPED), str(reader_beside(SHIPPED))
    digest = {
        "model": Checkpoint.load(place).digest,
        "reader": Checkpoint.load(reader, ReaderConfig.of_json).digest,
    }
    digest[changed] = "0" * 64
    with pytest.raises(CheckpointError, match=": was replaced since this run began"):
        loaded_once(place, digest["model"], VERDICT, reader, digest["reader"])


def test_what_is_loaded_once_is_what_is_at_its_place(tmp_path: Path) -> None:
    """In a notebook a model is trained again at its place, and calibrated again."""
    first = Checkpoint.load(place_of(SHIPPED))
    place = first.save(tmp_path / "model")
    assert predictor_once(place, first.digest).version == first.version
    weights = {name: 2 * values for name, values in first.weights.items()}
    second = replace(first, weights=weights)
    second.save(place)
    assert predictor_once(place, second.digest).version == second.version != first.version
    predictor_once.cache_clear()
    with pytest.raises(CheckpointError, match=": was replaced since this run began"):
        predictor_once(place, first.digest)


def test_models_without_a_calibration_of_patients_are_refused(tmp_path: Path) -> None:
    bare = Checkpoint.load(place_of(SHIPPED))
    place = Checkpoint(bare.config, bare.weights).save(tmp_path / "bare")
    with pytest.raises(CheckpointError, match="not calibrated for whole patients"):
        load_models(str(place), "", VERDICT, {"h1": place})
