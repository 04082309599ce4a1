"""Calibrates logits of bags to probabilities and thresholds, per hospital."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.metrics import log_loss

from homnet.evaluation.metrics import threshold_for_f1


@dataclass(frozen=True)
class Calibration:
    """Calibration of one hospital, fitted on validation bags only."""

    threshold: float
    """Bags of at least this probability are called abnormal (best F1 on validation bags)."""
    temperature: float = 1.0
    """Divisor of logits."""
    prior: float = 0.5
    """Share of abnormal bags among the validation bags."""


UNCALIBRATED = Calibration(threshold=0.5)


def calibrate(logit_B: NDArray[np.float64], label_B: NDArray[np.bool_]) -> Calibration:
    """Fits temperature and threshold on validation bags.

    The temperature minimises the cross-entropy (Guo et al. 2017, "On calibration of modern neural
    networks"); the threshold maximises F1 of the calibrated probabilities.

    Args:
        logit_B: uncalibrated logits of validation bags.
        label_B: labels (true if abnormal); both classes must occur.
    """

    def loss(log_temperature: float) -> float:
        return float(log_loss(label_B, expit(logit_B / np.exp(log_temperature))))

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    probability_B = expit(logit_B / temperature)
    return Calibration(
        threshold=threshold_for_f1(pd.DataFrame({"abnormal": label_B, "score": probability_B})),
        temperature=temperature,
        prior=float(label_B.mean()),
    )
