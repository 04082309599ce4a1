"""Floors that the paper lacks: what one number of each pair finds without learning anything.

A method below a floor has learnt less than that number says; a floor near the best method says that
the task is easy. Neither floor knows chromosome types or band levels.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from homnet.bags.draw import PairBank
from homnet.training.stage import Stage
from homnet_baselines.features import aligned_correlation, log_length_ratio
from homnet_baselines.fitted import FittedModel
from homnet_baselines.pooling import over_pairs


@dataclass(frozen=True)
class FloorForm:
    """Which number."""

    method: Literal["Length ratio", "Aligned correlation"] = "Length ratio"
    """Absolute log ratio of the two lengths (as :mod:`homnet.realism.length_only` has it), or one
    minus the correlation of the two aligned profiles; the mean over the pairs of a bag."""

    def build(self) -> "Floor":
        """A floor, which is ready as it is."""
        return Floor(self)


class Floor(FittedModel):
    """One number of each pair, averaged over the bag."""

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
        """Gives the bags' numbers (B), which are 0 or more."""
        return over_pairs(
            lambda x_MPCL: (
                log_length_ratio(x_MPCL) if self.is_length else 1 - aligned_correlation(x_MPCL)
            ),
            x_BKPCL,
            mask_BK,
        )

    def fit(self, stage: Stage, bank: PairBank) -> None:
        """Learns nothing."""
