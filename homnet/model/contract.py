"""Interface that training, checkpoints and prediction require: bags of pairs in, logits out.

HomNet implements it. Any other model that does is trained, stored, calibrated and scored by the
same code.

Shape suffixes: N pairs, B bags, K cells, P homologs, C chromatids, L positions, T chromosome types,
X a profile and a count, F families of events.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from homnet.karyotype.chromosomes import CHROMOSOMES

NUM_TYPES: Final = len(CHROMOSOMES)
"""Number of chromosome types."""
LATER: Final = {"later": True}
"""Metadata of a field of a form that older checkpoints lack; its default has no effect."""
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Loss summed over bags, given logits (B) and labels (B, float; 1 is abnormal)."""


def cross_entropy(logit_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy (Eq. 11), summed over bags."""
    return F.binary_cross_entropy_with_logits(logit_B, label_B, reduction="sum")


class BagModel(nn.Module):
    """A model that scores bags. Higher logits mean more abnormal."""

    cpu_pairs: ClassVar[int | None] = None
    """Pairs that a CPU computes at once, so that activations stay in its cache; the gradients of
    the parts of a batch are added. None if bags of a batch depend on each other, as with batch
    normalisation."""

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Returns logits (B); for the arguments see :meth:`homnet.model.network.HomNet.forward`."""
        raise NotImplementedError

    def loss(self, logit_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
        """Training loss, summed over bags."""
        return cross_entropy(logit_B, label_B)

    def profiles(self, pair_NPCL: torch.Tensor) -> torch.Tensor | None:
        """Profiles that are averaged over the normal training pairs of each type before training.

        Args:
            pair_NPCL: darkness, uint8.

        Returns:
            One row per pair (N, L), or None (the default) if the model needs no average.
        """
        return None

    def set_template(self, mean_TL: torch.Tensor) -> None:
        """Sets the mean of :meth:`profiles` of each type (T, L); 0 for types without pairs."""

    @torch.no_grad()
    def template_sums(
        self, pair_NPCL: torch.Tensor, chromosome_N: torch.Tensor
    ) -> torch.Tensor | None:
        """Sums of :meth:`profiles` over the pairs of each type, with the number of pairs appended.

        Sums over several sets of pairs can be added.

        Returns:
            Float64 (T, L + 1), or None if the model needs no average.
        """
        # In chunks: a float copy of a paper-sized bank would not fit in memory.
        sums_TX: torch.Tensor | None = None
        for part, types in zip(pair_NPCL.split(4096), chromosome_N.split(4096), strict=True):
            profile_NL = self.profiles(part)
            if profile_NL is None:
                return None
            if sums_TX is None:
                sums_TX = profile_NL.new_zeros(
                    (NUM_TYPES, profile_NL.shape[1] + 1), dtype=torch.float64
                )
            counted_NX = F.pad(profile_NL.double(), (0, 1), value=1.0)
            sums_TX.index_add_(0, types, counted_NX)
        return sums_TX

    @torch.no_grad()
    def take_sums(self, sums_TX: torch.Tensor) -> None:
        """Computes the template from the :meth:`template_sums` of all pairs."""
        self.set_template((sums_TX[:, :-1] / sums_TX[:, -1:].clamp(min=1)).float())

    def fit_template(self, pair_NPCL: torch.Tensor, chromosome_N: torch.Tensor) -> None:
        """Computes the template from normal pairs, if the model has one.

        Args:
            pair_NPCL: darkness of structurally normal pairs, uint8.
            chromosome_N: their types, 0..23.
        """
        sums_TX = self.template_sums(pair_NPCL, chromosome_N)
        if sums_TX is not None:
            self.take_sums(sums_TX)

    def family_scores(
        self, x_BKPCL: torch.Tensor, mask_BK: torch.Tensor, chromosome_B: torch.Tensor
    ) -> torch.Tensor | None:
        """Scores of bags (B, F) that need no training, or None (the default).

        If there are any, they are weighed against the logit after each epoch
        (:mod:`homnet.training.logit_weights`).
        """
        return None

    def reweighted(
        self,
        weights: Mapping[str, torch.Tensor],
        own: float,
        weight_F: torch.Tensor,
        bias: float,
    ) -> dict[str, torch.Tensor]:
        """Weights with which the logit is a weighted sum of today's and of :meth:`family_scores`.

        Args:
            weights: all weights of a model of this form, in which the scores do not count.
            own: factor on its logit.
            weight_F: weights of the scores.
            bias: added to the logit.
        """
        raise NotImplementedError

    def freeze_for_fine_tuning(self) -> None:
        """Freezes the parameters that fine-tuning does not update; none by default."""


def settings_of(config: Any) -> dict[str, Any]:
    """Fields of a config by name, also of configs inside it.

    A :data:`LATER` field is left out while it has its default, so that checkpoints keep their
    version, and unfinished runs their settings.
    """
    found = {}
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if not (one.metadata == LATER and value == one.default):
            found[one.name] = settings_of(value) if dataclasses.is_dataclass(value) else value
    return found


class Form(Protocol):
    """Form of a model: a frozen dataclass of JSON-able values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self) -> BagModel:
        """Builds a model of this form with random weights."""
