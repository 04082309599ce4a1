"""The one rule by which every baseline comes from pairs to bags: the mean over the pairs there are.

Shape suffixes: B bags, K cells, M pairs that are there, P homologs, C chromatids, L positions.
"""

from collections.abc import Callable

import torch


def over_pairs(
    score: Callable[[torch.Tensor], torch.Tensor], x_BKPCL: torch.Tensor, mask_BK: torch.Tensor
) -> torch.Tensor:
    """Mean over each bag's pairs of what is computed of single pairs; empty places are not seen.

    Args:
        score: gives (M, ...) of pairs (M, P, C, L).
        x_BKPCL: bags.
        mask_BK: which places hold a pair.

    Returns:
        (B, ...).
    """
    return mean_over_pairs(score(x_BKPCL[mask_BK]), mask_BK)


def mean_over_pairs(value_M: torch.Tensor, mask_BK: torch.Tensor) -> torch.Tensor:
    """Mean (B, ...) of values (M, ...) of the pairs that are there, in the order of the mask."""
    shape = (*mask_BK.shape, *value_M.shape[1:])
    spread_BK = torch.zeros(shape, dtype=value_M.dtype, device=value_M.device)
    spread_BK[mask_BK] = value_M
    count_B = mask_BK.sum(dim=1).clamp(min=1).view(-1, *[1] * (value_M.ndim - 1))
    return spread_BK.sum(dim=1) / count_B
