"""Logistic regression on the paper's features (appendix A.3).

Shape suffixes: N bags, F features of a bag, M pairs, T chromosome types.
"""

from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from homnet.bags.draw import PairBank
from homnet.bags.epochs import DeviceBank, Epoch
from homnet.bags.plan import Plan
from homnet.errors import ConfigError
from homnet.model.contract import NUM_TYPES
from homnet.model.network import NUM_LEVELS
from homnet.training.stage import Stage
from homnet.training.supply import Held
from homnet_baselines.features import NUM_PAPER, paper_features, type_scaling
from homnet_baselines.fitted import FittedModel
from homnet_baselines.pooling import mean_over_pairs

NUM_FEATURES = 4 * NUM_PAPER + NUM_LEVELS
"""Mean and maximum over the bag's pairs, of signed and of absolute values, and band levels."""
_SCORING_BATCH = 512


@dataclass(frozen=True)
class RegressionForm:
    """Logistic regression."""

    method: Literal["LR"] = "LR"
    """Name."""
    penalty: float = 1e-3
    """L2 penalty: adds ``penalty / 2`` times the squared coefficients to the mean loss. With a
    parent, it applies to the distance from the parent's coefficients."""
    max_bags: int = 500_000
    """Maximum number of bags drawn over all epochs, whose features are kept in memory."""

    def __post_init__(self) -> None:
        if self.penalty <= 0 or self.max_bags < 2:
            raise ConfigError(
                "penalty must be above 0 and max_bags at least 2, got "
                f"{self.penalty:g} and {self.max_bags}"
            )

    def build(self) -> "Regression":
        """An unfitted model."""
        return Regression(self)


class Regression(FittedModel):
    """Features of pairs as deviations from their chromosome type, aggregated over the bag."""

    centre_TF: torch.Tensor
    spread_TF: torch.Tensor
    weight_F: torch.Tensor
    bias: torch.Tensor

    def __init__(self, form: RegressionForm) -> None:
        super().__init__()
        self.form = form
        self.keep(
            centre_TF=torch.zeros(NUM_TYPES, NUM_PAPER),
            spread_TF=torch.zeros(NUM_TYPES, NUM_PAPER),  # zero: not measured yet
            weight_F=torch.zeros(NUM_FEATURES),
            bias=0.0,
        )

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Returns logits (B)."""
        feature_BF = self.features(x_BKPCL, mask_BK, chromosome_B, level_BK)
        return feature_BF @ self.weight_F + self.bias

    def features(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Features of bags (B, F)."""
        chromosome_M = chromosome_B[:, None].expand_as(mask_BK)[mask_BK]
        value_MF = paper_features(x_BKPCL[mask_BK])
        value_MF = (value_MF - self.centre_TF[chromosome_M]) / self.spread_TF[chromosome_M]
        # The scale of a type with few pairs is noisy: its values must not dominate.
        value_MF = value_MF.clamp(-10, 10)
        value_MF = torch.cat([value_MF, value_MF.abs()], dim=1)
        largest_BKF = torch.full((*mask_BK.shape, value_MF.shape[1]), -torch.inf).to(value_MF)
        largest_BKF[mask_BK] = value_MF
        level_MF = torch.nn.functional.one_hot(level_BK[mask_BK], NUM_LEVELS).to(value_MF)
        return torch.cat(
            [
                mean_over_pairs(value_MF, mask_BK),
                largest_BKF.amax(dim=1),
                mean_over_pairs(level_MF, mask_BK),
            ],
            dim=1,
        )

    def fit(self, stage: Stage, bank: PairBank) -> None:
        """Fits the coefficients, with the parent's as the centre of the prior if there is one."""
        if not self.spread_TF.any():
            normal = bank.normal()
            types = torch.tensor(normal.frame["chromosome"].to_numpy())
            parts = torch.tensor(normal.pair_NPCL).split(_SCORING_BATCH)
            measured = torch.cat([paper_features(part) for part in parts])
            centre, spread = type_scaling(measured, types)
            self.keep(centre_TF=centre, spread_TF=spread)
        feature_NF, label_N = self._drawn(stage, bank)
        weight_F, bias = fit_logistic(
            feature_NF,
            label_N,
            self.form.penalty,
            self.weight_F.double().numpy(),
            float(self.bias),
        )
        self.keep(weight_F=weight_F, bias=bias)

    def _drawn(self, stage: Stage, bank: PairBank) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        loaded = DeviceBank(bank, "cpu")
        held = Held.of(Plan.of(bank.index, stage.training.bags), bank)
        features: list[NDArray[np.float64]] = []
        labels: list[NDArray[np.bool_]] = []
        left = self.form.max_bags
        for number in count():
            windows = stage.windows(held.plan, number)
            parts = [held.of_window(window.part_Q)[0] for window in windows]
            epoch: Epoch = stage.train_epoch(bank, number, np.concatenate(parts))
            bags = loaded.load(epoch)
            for start in range(0, min(len(epoch), left), _SCORING_BATCH):
                chosen = slice(start, min(start + _SCORING_BATCH, left))
                batch = bags.batch(chosen)
                values = self.features(
                    batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK
                )
                features.append(values.double().numpy())
                labels.append(epoch.label_B[chosen])
            left -= len(epoch)
            if left <= 0 or number + 1 >= stage.training.max_epochs:
                break
        return np.concatenate(features), np.concatenate(labels)


def fit_logistic(
    feature_NF: NDArray[np.float64],
    label_N: NDArray[np.bool_],
    penalty: float,
    weight_F: NDArray[np.float64],
    bias: float,
) -> tuple[NDArray[np.float64], float]:
    """Logistic regression with a Gaussian prior around given coefficients.

    Minimises the mean cross-entropy plus ``penalty / 2`` times the squared distance from
    ``weight_F``; the bias has no penalty. With ``weight_F = 0`` this is scikit-learn's
    ``LogisticRegression`` with ``C = 1 / (penalty * N)``, which supports no other centre.

    Args:
        feature_NF: features of bags.
        label_N: True is abnormal.
        penalty: see above.
        weight_F: centre of the prior, and starting point.
        bias: starting point.

    Returns:
        Coefficients (F,) and bias.
    """

    def loss(wb: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit_N = feature_NF @ wb[:-1] + wb[-1]
        off_F = wb[:-1] - weight_F
        value = np.mean(np.logaddexp(0, logit_N) - label_N * logit_N)
        error_N = (expit(logit_N) - label_N) / len(label_N)
        slope = np.append(feature_NF.T @ error_N + penalty * off_F, error_N.sum())
        return float(value + penalty / 2 * off_F @ off_F), slope

    found = minimize(loss, np.append(weight_F, bias), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])
