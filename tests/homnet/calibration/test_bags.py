"""Calibration of bags: the temperature undoes overconfidence, the threshold is the best for F1."""

import numpy as np
import pytest
from scipy.special import expit

from homnet.calibration.bags import calibrate


def test_the_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    true_logit = rng.normal(0, 2, 20_000)
    label = rng.random(20_000) < expit(true_logit)
    calibration = calibrate(4 * true_logit, label)
    assert calibration.temperature == pytest.approx(4, rel=0.1)
    assert calibration.prior == pytest.approx(label.mean())
    assert calibration.threshold == pytest.approx(0.4, abs=0.1)
