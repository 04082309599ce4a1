"""Floors, which the paper lacks: scores from one number per pair, without training.

A method below a floor has learnt less than that number tells. A floor near the best method shows
that the task is easy. Floors ignore chromosome type and band level.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from homnet.bags.draw import PairBank
from homnet.errors import check_choices
from homnet.training.stage import Stage
from homnet_baselines.features import aligned_correlation, log_length_ratio
from homnet_baselines.fitted import FittedModel
from homnet_baselines.pooling import mean_over_pairs


@dataclass(frozen=True)
class FloorForm:
    """Which number."""

    method: Literal["Length ratio", "Aligned correlation"] = "Length ratio"
    """Absolute log ratio of the two lengths (as in :mod:`homnet.realism.length_only`), or one minus
    the correlation of the two aligned profiles."""

    def __post_init__(self) -> None:
        check_choices(self)

    def build(self) -> "Floor":
        """A floor, which needs no fitting."""
        return Floor(self)


class Floor(FittedModel):
    """One number per pair, averaged over the bag."""

    def __init__(self, form: FloorForm) -> None:
        super().__init__()
        self.is_length = form.method == "Length ratio"

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Returns scores (B), at least 0."""
        x_MPCL = x_BKPCL[mask_BK]
        score_M = log_length_ratio(x_MPCL) if self.is_length else 1 - aligned_correlation(x_MPCL)
        return mean_over_pairs(score_M, mask_BK)

    def fit(self, stage: Stage, bank: PairBank) -> None:
        """Learns nothing."""
