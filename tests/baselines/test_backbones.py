"""Backbones: one feature vector of any sequence."""

import pytest
import torch

from homnet_baselines.backbones import BACKBONES


@pytest.mark.parametrize("num_positions", [512, 128])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_give_features(name: str, num_positions: int) -> None:
    backbone = BACKBONES[name](5, num_positions, 6)
    assert backbone(torch.randn(3, 5, num_positions)).shape == (3, backbone.num_features)
