"""Converts scores to log likelihood ratios, which do not depend on prevalence.

Shape suffixes: N scores, G types of patients, T chromosome types (24).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from homnet.errors import DataError
from homnet.karyotype.chromosomes import CHROMOSOMES

Floats = NDArray[np.float64]

_PRIOR_SD: Final = 1.0
"""Prior standard deviation of log factor and shift: limits the effect of one abnormal patient."""
_HOSPITAL_SD: Final = 0.5
"""The same for a hospital around all hospitals: laboratories differ, and each has few carriers."""
_LEAST_WEIGHT: Final = 0.01
"""Minimum coefficient of the model's logit in the regression with the reader's log odds."""
_MAX_EVIDENCE: Final = 12.0
"""Log likelihood ratios are clipped to this absolute value."""


@dataclass(frozen=True)
class Scale:
    """A linear map from scores to log likelihood ratios."""

    factor: float = 1.0
    """Slope, above 0."""
    shift: float = 0.0
    """Intercept."""

    @property
    def temperature(self) -> float:
        """Divisor of logits, the inverse of the factor (Guo et al. 2017)."""
        return 1 / self.factor

    def __call__(self, score_N: Floats) -> Floats:
        """Log likelihood ratios (N) of scores, clipped to +-12."""
        evidence_N = self.factor * np.asarray(score_N, float) + self.shift
        return np.clip(evidence_N, -_MAX_EVIDENCE, _MAX_EVIDENCE)


def fit_scale(score_N: Floats, label_N: NDArray[np.bool_], *, around: Scale | None = None) -> Scale:
    """Fits a linear map from scores to log likelihood ratios, at the prevalence of the rows.

    Platt scaling (1999) with a normal prior.

    Args:
        score_N: scores.
        label_N: whether each score is abnormal; both classes must occur.
        around: mean of the prior: for a hospital the scale of all hospitals; None is the identity.

    Raises:
        DataError: one of the classes is absent.
    """
    prior, sign_N = _prior_and_signs(label_N)
    middle, sd = Scale(), _PRIOR_SD
    if around is not None:
        middle, sd = around, _HOSPITAL_SD
    start = np.array([math.log(middle.factor), middle.shift])

    def loss(parameters: Floats) -> float:
        log_factor, shift = parameters
        margin_N = sign_N * (math.exp(log_factor) * score_N + shift + prior)
        penalty = ((parameters - start) ** 2).sum() / 2 / sd**2
        return float(np.logaddexp(0, -margin_N).sum() + penalty)

    best = minimize(loss, start, method="Nelder-Mead").x
    return Scale(float(math.exp(best[0])), float(best[1]))


def fit_weight(logit_G: Floats, read_G: Floats, abnormal_G: NDArray[np.bool_]) -> float:
    """Weight of a reader's log odds relative to the model's logits, by logistic regression on both.

    Args:
        logit_G: logits of the model.
        read_G: log odds of the reader.
        abnormal_G: whether each type is abnormal; both classes must occur.

    Returns:
        The factor, at least 0, of ``read_G`` in its sum with ``logit_G``; 0 if ``read_G`` is
        constant.

    Raises:
        DataError: one of the classes is absent.
    """
    _require_both(abnormal_G)
    if np.ptp(read_G) == 0:
        return 0.0
    fitted = LogisticRegression(C=_PRIOR_SD**2).fit(np.stack([logit_G, read_G], 1), abnormal_G)
    own, read = fitted.coef_[0].tolist()
    # The model's logit defines the unit, even if its coefficient is near 0.
    return float(max(read, 0.0) / max(own, _LEAST_WEIGHT))


def fit_offsets(
    logit_G: Floats, abnormal_G: NDArray[np.bool_], chromosome_G: NDArray[np.int64]
) -> tuple[float, ...]:
    """Fits offsets that make the logits of all chromosome types comparable.

    Satellites and stalks of acrocentrics, and heterochromatin, vary between the homologs of healthy
    people. Without offsets these types alone would determine a common threshold. Offsets are fitted
    together with a common scale, with a normal prior around 0.

    Args:
        logit_G: logits of types.
        abnormal_G: whether each type is abnormal; both classes must occur.
        chromosome_G: index of the chromosome type, 0..23.

    Returns:
        24 offsets in logit units, with mean 0 over the types that occur.

    Raises:
        DataError: one of the classes is absent.
    """
    prior, sign_G = _prior_and_signs(abnormal_G)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        factor, offset_T = math.exp(parameters[0]), parameters[2:]
        moved_G = logit_G + offset_T[chromosome_G]
        margin_G = sign_G * (factor * moved_G + parameters[1] + prior)
        slope_G = -sign_G * expit(-margin_G)
        gradient = np.concatenate(
            [
                [(slope_G * factor * moved_G).sum(), slope_G.sum()],
                factor * np.bincount(chromosome_G, slope_G, minlength=len(CHROMOSOMES)),
            ]
        )
        penalty = (parameters**2).sum() / 2 / _PRIOR_SD**2
        return float(np.logaddexp(0, -margin_G).sum() + penalty), gradient + (
            parameters / _PRIOR_SD**2
        )

    start = np.zeros(2 + len(CHROMOSOMES))
    offset_T = minimize(loss, start, jac=True, method="L-BFGS-B").x[2:]
    there = np.unique(chromosome_G)
    centred_T = np.zeros(len(CHROMOSOMES))
    centred_T[there] = offset_T[there] - offset_T[there].mean()
    return tuple(centred_T.tolist())


def _prior_and_signs(label_N: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Log odds of an abnormal row, and signs (N): 1 for abnormal, -1 for normal rows."""
    _require_both(label_N)
    return float(logit(label_N.mean())), np.where(label_N, 1.0, -1.0)


def _require_both(label_N: NDArray[np.bool_]) -> None:
    if label_N.all() or not label_N.any():
        raise DataError("a calibration needs normal and abnormal validation patients")
