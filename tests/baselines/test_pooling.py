"""The mean over the pairs that are there."""

import torch

from homnet_baselines.pooling import mean_over_pairs

MASK_BK = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])


def test_values_are_averaged_over_the_places_that_hold_a_pair() -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0], [7.0, 70.0]])
    expected = torch.tensor([[2.0, 20.0], [7.0, 70.0], [0.0, 0.0]])
    assert torch.equal(mean_over_pairs(values, MASK_BK), expected)
