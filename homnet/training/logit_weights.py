"""Weights of a model's own logit and of its search over events, fitted on validation bags.

Fitted on training bags, the weights would be those of a model and of statistics that know these
pairs already: both are more certain there than on new people. In LAB.md, training the weights along
with the model lost half of what the search brings.

The families of events share one weight, in standard deviations of their scores over normal bags.
Which of them shows more of the *artificial* events says nothing about patients: with a weight each,
foreign segments got none, which cost patients a point and a half of AUC (LAB.md).

Shape suffixes: B bags, F families of events, W weights.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

_BOUND: Final = 10.0
"""Largest weight, so that bags of perfectly separated classes have one, too."""
_LEAST_OWN: Final = 0.01
"""Smallest weight of the model's own logit, which fine-tuning starts from."""
_LEAST_SPREAD: Final = 1e-3
"""Added to the spread of a family's scores, which are of the order of one."""


@dataclass(frozen=True)
class LogitWeights:
    """Weights of the parts of a logit."""

    own: float
    """Weight of the model's own logit."""
    weight_F: NDArray[np.float64]
    """Weight of each family's score, not negative: a higher score is never a sign of health. They
    are one weight, divided by the spread of the family's score over normal bags."""
    bias: float
    """Added to the sum."""

    def logits(
        self, own_B: NDArray[np.float64], score_BF: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Logits (B)."""
        return np.asarray(self.own * own_B + score_BF @ self.weight_F + self.bias)


def fit_logit_weights(
    own_B: NDArray[np.float64], score_BF: NDArray[np.float64], label_B: NDArray[np.bool_]
) -> LogitWeights:
    """Fits the weights by logistic regression with weights of at least 0.

    Args:
        own_B: the model's own logits of validation bags.
        score_BF: score of each family.
        label_B: labels (true if abnormal); both classes must occur.
    """
    spread_F = score_BF[~label_B].std(axis=0) + _LEAST_SPREAD
    part_BW = np.column_stack([own_B, (score_BF / spread_F).sum(axis=1), np.ones(len(own_B))])
    sign_B = np.where(label_B, 1.0, -1.0)

    def loss(weight_W: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin_B = sign_B * (part_BW @ weight_W)
        slope_B = -sign_B * expit(-margin_B)
        return float(np.logaddexp(0, -margin_B).mean()), slope_B @ part_BW / len(sign_B)

    bounds = [(_LEAST_OWN, _BOUND), (0.0, _BOUND), (None, None)]
    start = np.array([1.0, 0.0, 0.0])
    own, weight, bias = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return LogitWeights(own=float(own), weight_F=weight / spread_F, bias=float(bias))
