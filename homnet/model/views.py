"""Layout of a pair before it is cut into regions.

Shape suffixes: B bags, K cells, P homologs, C chromatids, L positions (after stretching in
:func:`stretch`), X positions before stretching.
"""

import torch


def standardise(x_BKPCL: torch.Tensor) -> torch.Tensor:
    """Scales each homolog to mean 0 and variance 1 inside the chromosome.

    Args:
        x_BKPCL: darkness as shares of 255, 0 outside the chromosome; zeros outside are kept.
    """
    inside = (x_BKPCL > 0).to(x_BKPCL.dtype)
    count = inside.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
    mean = x_BKPCL.sum(dim=(-2, -1), keepdim=True) / count
    centred = (x_BKPCL - mean) * inside
    variance = centred.square().sum(dim=(-2, -1), keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-4)


def lengths(x_KPCL: torch.Tensor) -> torch.Tensor:
    """Length of each homolog (..., P) in samples, at least 1: up to the last one with darkness."""
    ends_L = torch.arange(1, x_KPCL.shape[-1] + 1, device=x_KPCL.device)
    return ((x_KPCL != 0).any(dim=-2) * ends_L).amax(dim=-1).clamp(min=1)


def stretch(x_BKPCL: torch.Tensor, num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Resamples each homolog to a common length by linear interpolation.

    Args:
        x_BKPCL: darkness, 0 after the end of the chromosome.
        num_positions: the new length.

    Returns:
        Stretched sequences (B, K, P, C, num_positions), float, and the natural logarithm of the
        share of L that each homolog filled before (B, K, P), which still shows deletions and
        duplications.
    """
    size = x_BKPCL.shape[-1]
    length_BKP1 = lengths(x_BKPCL)[..., None]
    t_L = torch.arange(num_positions, device=x_BKPCL.device)
    place_BKPL = ((t_L + 0.5) * (length_BKP1 / num_positions) - 0.5).clamp(min=0)
    left_BKPL = place_BKPL.long()
    share_BKP1L = (place_BKPL - left_BKPL)[..., None, :]
    right_BKPL = torch.minimum(left_BKPL + 1, length_BKP1 - 1)
    shape = (*x_BKPCL.shape[:-1], num_positions)
    left = x_BKPCL.gather(-1, left_BKPL[..., None, :].expand(shape)).float()
    right = x_BKPCL.gather(-1, right_BKPL[..., None, :].expand(shape)).float()
    return torch.lerp(left, right, share_BKP1L), torch.log(length_BKP1 / size).squeeze(-1)
