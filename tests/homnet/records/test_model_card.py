"""The model card says what the model learnt from, how good it is, and where it ends."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from homnet.calibration.patients import PatientCalibration
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig
from homnet.records.model_card import model_card
from homnet.results import read_json

FORM = HomNetConfig(width=8, pair_width=12, num_heads=2)


def test_people_thresholds_and_figures_are_those_of_the_model(
    calibration_of: Callable[..., PatientCalibration],
) -> None:
    calibration = calibration_of(num_normal=240, num_abnormal=60, threshold=1.25, specificity=0.98)
    model = Checkpoint(
        FORM,
        HomNet(FORM).state_dict(),
        provenance={"learnt_from": [str(n) for n in range(1200)]},
        patients={"h1": calibration},
    )
    # A reader also knows the people of the model below it.
    reader = replace(model, provenance={"learnt_from": [str(n) for n in range(1500)]})
    record: dict[str, Any] = read_json(
        Path(__file__).parents[3] / "results" / "diagnose-hospitals.json"
    )
    card = model_card(record, model, reader)
    assert "HomNet: 1,200 simulated people" in card
    assert "Reader: 300 other simulated people" in card
    assert "h1: threshold 1.25 for a specificity of 0.98, set on 240 healthy and 60" in card
    assert record["claim"] in card
    assert "| all hospitals | 226, 950 |" in card
    assert "never seen a chromosome of a real person" in card
