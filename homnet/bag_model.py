"""What learning, checkpoints and prediction ask of a model: bags of pairs in, logits out.

HomNet is one such model. Anything else that keeps this contract is trained, kept, calibrated and
scored by the same code.

Shape suffixes: N pairs, B bags, K cells, P homologs, C chromatids, L positions.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import nn
from torch.nn import functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Summed loss of bags from logits (B) and labels (B, float; 1 is abnormal)."""


def cross_entropy(logit_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy (Eq. 11), summed over bags."""
    return F.binary_cross_entropy_with_logits(logit_B, label_B, reduction="sum")


class BagModel(nn.Module):
    """A model of bags. Higher logits are more abnormal."""

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Scores bags; for the arguments see :meth:`homnet.model.HomNet.forward`."""
        raise NotImplementedError

    def loss(self, logit_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
        """What training minimises, summed over bags."""
        return cross_entropy(logit_B, label_B)

    def fit_template(self, pair_NPCL: torch.Tensor, chromosome_N: torch.Tensor) -> None:
        """Looks at the structurally normal training pairs before training; by default not at all.

        Args:
            pair_NPCL: darkness, uint8.
            chromosome_N: types, 0..23.
        """

    def freeze_for_fine_tuning(self) -> None:
        """Freezes what fine-tuning leaves alone; by default nothing."""


class Form(Protocol):
    """Settings of a model: a frozen dataclass of values that JSON knows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self) -> BagModel:
        """A new model of this form."""
