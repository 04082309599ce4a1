"""How a pair is laid out before regions are cut from it, and how far it lies from normal ones.

Shape suffixes: B bags, K cells, P homologs, C chromatids, L positions, S stretched positions,
T chromosome types, N pairs, F numbers.
"""

from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

from homnet.model.contract import NUM_TYPES

NUM_DEVIATIONS: Final = 4
"""Numbers that :class:`Deviations` gives of each homolog."""
_COARSE: Final = 32
"""Places at which profiles are compared when single positions do not count."""
_FLOOR: Final = 1e-5
"""Added to mean squares before their logarithm: equal profiles have no finite one."""
_LIMIT: Final = 6.0
"""Standard deviations beyond which a number says no more."""


def standardise(x_BKPCL: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 of each homolog inside its chromosome; background stays 0."""
    inside = (x_BKPCL > 0).to(x_BKPCL.dtype)
    count = inside.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    mean = x_BKPCL.sum(dim=(-2, -1), keepdim=True) / count
    centred = (x_BKPCL - mean) * inside
    variance = centred.square().sum(dim=(-2, -1), keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-4)


def stretch(x_BKPCL: torch.Tensor, num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stretches or shrinks each homolog to one length, linearly.

    Args:
        x_BKPCL: darkness, 0 after the end of the chromosome.
        num_positions: the new length.

    Returns:
        The stretched sequences (B, K, P, C, num_positions), float, and the lengths before
        (B, K, P) as natural logarithms of the share of L, which keep the evidence of deletions and
        duplications.
    """
    size = x_BKPCL.shape[-1]
    filled_BKPX = (x_BKPCL != 0).any(dim=-2)
    ends_X = torch.arange(1, size + 1, device=x_BKPCL.device)
    length_BKP1 = (filled_BKPX * ends_X).amax(dim=-1, keepdim=True).clamp(min=1)
    t_L = torch.arange(num_positions, device=x_BKPCL.device)
    place_BKPL = ((t_L + 0.5) * (length_BKP1 / num_positions) - 0.5).clamp(min=0)
    left_BKPL = place_BKPL.long()
    share_BKP1L = (place_BKPL - left_BKPL)[..., None, :]
    right_BKPL = torch.minimum(left_BKPL + 1, length_BKP1 - 1)
    shape = (*x_BKPCL.shape[:-1], num_positions)
    left = x_BKPCL.gather(-1, left_BKPL[..., None, :].expand(shape)).float()
    right = x_BKPCL.gather(-1, right_BKPL[..., None, :].expand(shape)).float()
    return torch.lerp(left, right, share_BKP1L), torch.log(length_BKP1 / size).squeeze(-1)


class Deviations(nn.Module):
    """How far a pair lies from normal ones, in proportion to how much normal ones vary.

    Of each homolog: its distance from the mean profile of its type. Of both: the distance of their
    profiles, position by position and in coarse places, and the ratio of their lengths. Distances
    are logarithms of mean squares. All but the first have mean 0 and standard deviation 1 over the
    normal training pairs of the type; the first has about that.
    """

    centre_TF: torch.Tensor
    spread_TF: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre_TF", torch.zeros(NUM_TYPES, NUM_DEVIATIONS))
        self.register_buffer("spread_TF", torch.ones(NUM_TYPES, NUM_DEVIATIONS))

    def forward(
        self,
        x_BKPCS: torch.Tensor,
        log_length_BKP: torch.Tensor,
        chromosome_B: torch.Tensor,
        template_TS: torch.Tensor,
    ) -> torch.Tensor:
        """Gives numbers (B, K, P, F) of stretched, standardised sequences and their log lengths."""
        profile_BKPS = x_BKPCS.mean(dim=3)
        away_BKP = _log_square(profile_BKPS - template_TS[chromosome_B][:, None, None])
        between_BK3 = _between(profile_BKPS, log_length_BKP)
        between_BKP3 = between_BK3[:, :, None].expand(*away_BKP.shape, -1)
        number_BKPF = torch.cat([away_BKP[..., None], between_BKP3], dim=-1)
        centre_BF, spread_BF = self.centre_TF[chromosome_B], self.spread_TF[chromosome_B]
        scaled_BKPF = (number_BKPF - centre_BF[:, None, None]) / spread_BF[:, None, None]
        return scaled_BKPF.clamp(-_LIMIT, _LIMIT)

    def moments(self, x_N1PCS: torch.Tensor, log_length_N1P: torch.Tensor) -> torch.Tensor:
        """What is to be averaged over normal pairs of a type, for :meth:`take_moments` (N, 7)."""
        profile_N1PS = x_N1PCS.mean(dim=3)
        between_N3 = _between(profile_N1PS, log_length_N1P)[:, 0]
        square_N1 = profile_N1PS.square().mean(dim=(1, 2, 3))[:, None]
        return torch.cat([square_N1, between_N3, between_N3.square()], dim=1)

    def take_moments(self, mean_TX: torch.Tensor, template_TS: torch.Tensor) -> None:
        """Takes the averages of :meth:`moments`, and the mean profiles of the same pairs."""
        square_T, first_T3, second_T3 = mean_TX.split([1, 3, 3], dim=1)
        spread_T3 = (second_T3 - first_T3.square()).clamp(min=0).sqrt()
        # A type without a normal pair has no spread, and says nothing.
        spread_T3 = torch.where(spread_T3 > 0, spread_T3, torch.inf)
        # The mean square distance from the mean follows from both means; its logarithm spreads
        # about as that of the distance between homologs.
        away_T1 = (square_T - template_TS.square().mean(dim=1, keepdim=True)).clamp(min=0)
        self.centre_TF.copy_(torch.cat([torch.log(away_T1 + _FLOOR), first_T3], dim=1))
        self.spread_TF.copy_(torch.cat([spread_T3[:, :1], spread_T3], dim=1))


def _between(profile_BKPS: torch.Tensor, log_length_BKP: torch.Tensor) -> torch.Tensor:
    """Distances of the two homologs (B, K, 3): fine, coarse, and of their lengths."""
    difference_BKS = profile_BKPS[:, :, 0] - profile_BKPS[:, :, 1]
    coarse_BKR = F.adaptive_avg_pool1d(difference_BKS, _COARSE)
    ratio_BK = (log_length_BKP[..., 0] - log_length_BKP[..., 1]).abs()
    return torch.stack([_log_square(difference_BKS), _log_square(coarse_BKR), ratio_BK], dim=-1)


def _log_square(x: torch.Tensor) -> torch.Tensor:
    return torch.log(x.square().mean(dim=-1) + _FLOOR)
