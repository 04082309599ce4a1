"""Pooling from pairs to bags for every baseline: the mean over the pairs present.

Shape suffixes: B bags, K cells, M pairs present, P homologs, C chromatids, L positions.
"""

from collections.abc import Callable

import torch


def over_pairs(
    score: Callable[[torch.Tensor], torch.Tensor], x_BKPCL: torch.Tensor, mask_BK: torch.Tensor
) -> torch.Tensor:
    """Applies a function to single pairs and averages it over each bag; padding is skipped.

    Args:
        score: maps pairs (M, P, C, L) to (M, ...).
        x_BKPCL: bags.
        mask_BK: True where there is a pair.

    Returns:
        (B, ...).
    """
    return mean_over_pairs(score(x_BKPCL[mask_BK]), mask_BK)


def mean_over_pairs(value_M: torch.Tensor, mask_BK: torch.Tensor) -> torch.Tensor:
    """Mean (B, ...) per bag of the values (M, ...) of its pairs, in the order of the mask."""
    shape = (*mask_BK.shape, *value_M.shape[1:])
    spread_BK = torch.zeros(shape, dtype=value_M.dtype, device=value_M.device)
    spread_BK[mask_BK] = value_M
    count_B = mask_BK.sum(dim=1).clamp(min=1).view(-1, *[1] * (value_M.ndim - 1))
    return spread_BK.sum(dim=1) / count_B
