"""The mean over the pairs that are there."""

import torch

from homnet_baselines.pooling import mean_over_pairs, over_pairs

MASK_BK = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])


def test_values_are_averaged_over_the_places_that_hold_a_pair() -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0], [7.0, 70.0]])
    expected = torch.tensor([[2.0, 20.0], [7.0, 70.0], [0.0, 0.0]])
    assert torch.equal(mean_over_pairs(values, MASK_BK), expected)


def test_empty_places_are_not_seen() -> None:
    x_BKPCL = torch.full((3, 3, 2, 2, 5), float("nan"))
    x_BKPCL[MASK_BK] = 4.0

    def length(x_MPCL: torch.Tensor) -> torch.Tensor:
        assert x_MPCL.shape == (3, 2, 2, 5)
        return x_MPCL.sum(dim=(1, 2, 3))

    assert over_pairs(length, x_BKPCL, MASK_BK).tolist() == [80.0, 80.0, 0.0]
