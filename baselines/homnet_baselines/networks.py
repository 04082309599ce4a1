"""Supervised networks and the Siamese network as models of bags.

All get the same input as HomNet (four sequences per pair, chromosome type and band level, several
pairs per bag) and are pre-trained and fine-tuned the same way. They differ in how they process a
pair. Type and band level enter as two channels of 16 learnt numbers each, as in Eq. 2.

Shape suffixes: B bags, K cells, M pairs present, P homologs, C channels, L positions (512),
S positions of the view, D features.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.nn import functional as F

from homnet.errors import ConfigError, check_choices
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH
from homnet.model.contract import NUM_TYPES, BagModel
from homnet.model.network import NUM_LEVELS
from homnet.model.views import standardise, stretch
from homnet_baselines.backbones import BACKBONES, Backbone
from homnet_baselines.pooling import mean_over_pairs

View = Literal["absolute", "stretched"]
_STRETCHED: Final = 128
_NUM_INFO: Final = 2
_INFO_REGIONS: Final = 16


@dataclass(frozen=True)
class NetworkForm:
    """A supervised network."""

    method: Backbone = "ResNet"
    """Which."""
    view: View = "absolute"
    """Input. ``"absolute"``: the sequences as they are (paper). ``"stretched"``, as in HomNet's
    best form: homologs stretched to one length and standardised, the mean profile of the type as
    another channel, and the lengths as numbers."""
    width: int = 16
    """Channels of the first layer; later layers have multiples of it."""

    def __post_init__(self) -> None:
        check_choices(self)
        _check(self.width)

    def build(self) -> "PairNetwork":
        """A network with random weights."""
        return PairNetwork(self)


@dataclass(frozen=True)
class SiameseForm:
    """A Siamese network with a contrastive loss (after Bechar et al. 2023)."""

    method: Literal["Siamese"] = "Siamese"
    """Name."""
    backbone: Backbone = "Xception"
    """Network that embeds a homolog; Bechar et al. report the best results with Xception."""
    view: View = "absolute"
    """As in :class:`NetworkForm`."""
    width: int = 16
    """As in :class:`NetworkForm`."""
    num_features: int = 32
    """Size of a homolog's embedding."""
    margin: float = 1.0
    """Minimum distance that the loss asks of abnormal pairs."""

    def __post_init__(self) -> None:
        check_choices(self)
        _check(self.width)
        if self.num_features < 1 or self.margin <= 0:
            raise ConfigError(
                "num_features must be at least 1 and margin above 0, got "
                f"{self.num_features} and {self.margin:g}"
            )

    def build(self) -> "Siamese":
        """A network with random weights."""
        return Siamese(self)


class _Seen(BagModel):
    """Input of the networks."""

    template_TS: torch.Tensor

    def __init__(self, view: View) -> None:
        super().__init__()
        self.stretched = view == "stretched"
        self.num_positions = _STRETCHED if self.stretched else SEQUENCE_LENGTH
        # Extra channels: type and level, and the type's mean profile.
        self.num_extra = _NUM_INFO + self.stretched
        size = _NUM_INFO * _INFO_REGIONS
        self.info_type = nn.Embedding(NUM_TYPES, size)
        self.info_level = nn.Embedding(NUM_LEVELS, size)
        for table in (self.info_type, self.info_level):
            nn.init.normal_(table.weight, std=0.02)
        self.register_buffer(
            "template_TS", torch.zeros(NUM_TYPES, self.num_positions if self.stretched else 0)
        )

    def sequences(self, x_MPCL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequences (M, P, C, S) and log lengths (M, P, 1 or, in the absolute view, 0)."""
        if not self.stretched:
            return x_MPCL.float() / 255, x_MPCL.new_zeros((*x_MPCL.shape[:2], 0)).float()
        stretched, log_length_MP = stretch(x_MPCL, self.num_positions)
        return standardise(stretched / 255), log_length_MP[..., None]

    def extra(self, chromosome_M: torch.Tensor, level_M: torch.Tensor) -> torch.Tensor:
        """Channels (M, C, S) of type and band level."""
        info: torch.Tensor = self.info_type(chromosome_M) + self.info_level(level_M)
        info_MCS = info.view(len(info), _NUM_INFO, -1).repeat_interleave(
            self.num_positions // _INFO_REGIONS, dim=-1
        )
        if not self.stretched:
            return info_MCS
        return torch.cat([info_MCS, self.template_TS[chromosome_M][:, None]], dim=1)

    def profiles(self, pair_NPCL: torch.Tensor) -> torch.Tensor | None:
        """The mean profile of each pair; None in the absolute view."""
        return self.sequences(pair_NPCL)[0].mean(dim=(1, 2)) if self.stretched else None

    def set_template(self, mean_TL: torch.Tensor) -> None:
        """Sets the mean profile of each type."""
        self.template_TS.copy_(mean_TL)

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Returns logits (B): the mean over the pairs present."""
        chromosome_M = chromosome_B[:, None].expand_as(mask_BK)[mask_BK]
        score_M = self.pair_scores(x_BKPCL[mask_BK], chromosome_M, level_BK[mask_BK])
        return mean_over_pairs(score_M, mask_BK)

    def pair_scores(
        self, x_MPCL: torch.Tensor, chromosome_M: torch.Tensor, level_M: torch.Tensor
    ) -> torch.Tensor:
        """Scores of pairs (M)."""
        raise NotImplementedError


class PairNetwork(_Seen):
    """Both homologs as channels of one sequence, as in the paper's baselines.

    Training takes the homologs as they are stored: which of them carries an event is random.
    Inference averages the logits of both orders, so the order has no effect.
    """

    def __init__(self, form: NetworkForm) -> None:
        super().__init__(form.view)
        num_channels = 4 + self.num_extra
        self.backbone = BACKBONES[form.method](num_channels, self.num_positions, form.width)
        num_lengths = 4 if self.stretched else 0
        self.head = nn.Linear(_width_of(self.backbone) + num_lengths, 1)

    def pair_scores(
        self, x_MPCL: torch.Tensor, chromosome_M: torch.Tensor, level_M: torch.Tensor
    ) -> torch.Tensor:
        """Logits of pairs (M)."""
        sequence_MPCS, log_length_MP1 = self.sequences(x_MPCL)
        extra_MCS = self.extra(chromosome_M, level_M)
        logit_M = self._ordered(sequence_MPCS, log_length_MP1, extra_MCS)
        if self.training:
            return logit_M
        other_M = self._ordered(sequence_MPCS.flip(1), log_length_MP1.flip(1), extra_MCS)
        return (logit_M + other_M) / 2

    def _ordered(
        self, sequence_MPCS: torch.Tensor, log_length_MP1: torch.Tensor, extra_MCS: torch.Tensor
    ) -> torch.Tensor:
        features = [self.backbone(torch.cat([sequence_MPCS.flatten(1, 2), extra_MCS], dim=1))]
        if self.stretched:
            # As in HomNet's best form: log lengths differ by about 0.08, so scale by ten.
            difference_M1 = 10 * (log_length_MP1[:, 0] - log_length_MP1[:, 1])
            features += [log_length_MP1.flatten(1), difference_M1, difference_M1.abs()]
        logit: torch.Tensor = self.head(torch.cat(features, dim=1)).squeeze(-1)
        return logit


class Siamese(_Seen):
    """Embeds both homologs with one network and scores their distance."""

    def __init__(self, form: SiameseForm) -> None:
        super().__init__(form.view)
        self.margin = form.margin
        num_channels = 2 + self.num_extra
        self.backbone = BACKBONES[form.backbone](num_channels, self.num_positions, form.width)
        self.head = nn.Linear(_width_of(self.backbone) + self.stretched, form.num_features)

    def pair_scores(
        self, x_MPCL: torch.Tensor, chromosome_M: torch.Tensor, level_M: torch.Tensor
    ) -> torch.Tensor:
        """Distances between the homologs (M), minus half the margin."""
        sequence_MPCS, log_length_MP1 = self.sequences(x_MPCL)
        extra = self.extra(chromosome_M, level_M).repeat_interleave(2, dim=0)
        features = self.backbone(torch.cat([sequence_MPCS.flatten(0, 1), extra], dim=1))
        # Log lengths are scaled by ten, as in PairNetwork.
        features = torch.cat([features, 10 * log_length_MP1.flatten(0, 1)], dim=1)
        embedding_MPD: torch.Tensor = self.head(features).unflatten(0, (-1, 2))
        squared_M = (embedding_MPD[:, 0] - embedding_MPD[:, 1]).square().sum(dim=-1)
        # The square root has no finite gradient at zero.
        return (squared_M + 1e-6).sqrt() - self.margin / 2

    def loss(self, logit_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
        """Contrastive loss (Hadsell et al. 2006) on the bags' mean distances, summed over bags."""
        distance_B = logit_B + self.margin / 2
        apart_B = F.relu(self.margin - distance_B)
        return ((1 - label_B) * distance_B.square() + label_B * apart_B.square()).sum()


def _width_of(backbone: Any) -> int:
    return int(backbone.num_features)


def _check(width: int) -> None:
    if width < 2:
        raise ConfigError(f"width must be at least 2, got {width}")
