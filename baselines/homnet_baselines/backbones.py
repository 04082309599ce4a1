"""One-dimensional versions of image networks (appendix A.3).

Each maps (N, C, S) to features (N, D). ResNet and DenseNet are from MONAI, the ViT encoder is from
PyTorch. MONAI has no one-dimensional MLP-Mixer, Xception or MobileNet, and its ViT needs another
package. Default widths suit small machines; ``width=64`` is close to the published networks.

Shape suffixes: N sequences, C channels, S positions, D features, G tokens.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import nn

_TOKENS: Final = 16
"""Number of tokens of the mixer and the transformer."""

Backbone = Literal["MLP-Mixer", "ViT", "ResNet", "Xception", "MobileNet", "DenseNet"]


class Tokens(nn.Module):
    """Splits a sequence into patches of equal length and embeds each as a token (N, G, D)."""

    def __init__(self, num_channels: int, num_positions: int, num_tokens: int, width: int) -> None:
        super().__init__()
        size = num_positions // num_tokens
        self.patch = nn.Conv1d(num_channels, width, size, stride=size)

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns tokens (N, G, D)."""
        token_NGD: torch.Tensor = self.patch(x_NCS).transpose(1, 2)
        return token_NGD


class MixerBlock(nn.Module):
    """Mixes tokens, then channels (Tolstikhin et al. 2021)."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.tokens = nn.Sequential(
            nn.Linear(num_tokens, 2 * num_tokens), nn.GELU(), nn.Linear(2 * num_tokens, num_tokens)
        )
        self.channels = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_NGD: torch.Tensor) -> torch.Tensor:
        """Returns tokens of the same shape."""
        x_NGD = x_NGD + self.tokens(self.norms[0](x_NGD).transpose(1, 2)).transpose(1, 2)
        mixed: torch.Tensor = x_NGD + self.channels(self.norms[1](x_NGD))
        return mixed


class MLPMixer(nn.Module):
    """MLP-Mixer over 16 tokens."""

    def __init__(self, num_channels: int, num_positions: int, width: int):
        super().__init__()
        self.num_features = 4 * width
        self.tokens = Tokens(num_channels, num_positions, _TOKENS, self.num_features)
        self.blocks = nn.Sequential(*(MixerBlock(_TOKENS, self.num_features) for _ in range(4)))
        self.norm = nn.LayerNorm(self.num_features)

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D)."""
        features: torch.Tensor = self.norm(self.blocks(self.tokens(x_NCS))).mean(dim=1)
        return features


class ViT(nn.Module):
    """Vision transformer over 16 tokens and a class token (Dosovitskiy et al. 2021)."""

    def __init__(self, num_channels: int, num_positions: int, width: int):
        super().__init__()
        self.num_features = 4 * width
        self.tokens = Tokens(num_channels, num_positions, _TOKENS, self.num_features)
        self.summary = nn.Parameter(torch.zeros(1, 1, self.num_features))
        self.place = nn.Parameter(0.02 * torch.randn(1, 1 + _TOKENS, self.num_features))
        # nn.TransformerEncoder copies one layer, so that all begin with the same weights.
        layers = (
            nn.TransformerEncoderLayer(
                self.num_features,
                nhead=4,
                dim_feedforward=4 * self.num_features,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(4)
        )
        self.encoder = nn.Sequential(*layers, nn.LayerNorm(self.num_features))

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D)."""
        token_NGD = self.tokens(x_NCS)
        summary = self.summary.expand(len(token_NGD), -1, -1)
        encoded: torch.Tensor = self.encoder(torch.cat([summary, token_NGD], dim=1) + self.place)
        return encoded[:, 0]


def _convolution(num_in: int, num_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(num_in, num_out, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm1d(num_out),
        nn.ReLU(),
    )


def _separable(num_in: int, num_out: int, stride: int = 1) -> list[nn.Module]:
    """Depthwise convolution, then pointwise convolution."""
    return [
        nn.Conv1d(num_in, num_in, 3, stride, padding=1, groups=num_in, bias=False),
        nn.Conv1d(num_in, num_out, 1, bias=False),
        nn.BatchNorm1d(num_out),
    ]


class XceptionBlock(nn.Module):
    """Separable convolutions with a residual path (Chollet 2017)."""

    def __init__(self, num_in: int, num_out: int, depth: int, stride: int) -> None:
        super().__init__()
        widths = [num_in] + depth * [num_out]
        layers = [
            layer
            for one, other in pairwise(widths)
            for layer in (nn.ReLU(), *_separable(one, other))
        ]
        if stride > 1:
            layers.append(nn.MaxPool1d(3, stride, padding=1))
        self.layers = nn.Sequential(*layers)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and num_in == num_out
            else nn.Sequential(
                nn.Conv1d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm1d(num_out)
            )
        )

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns (N, C', S / stride)."""
        out: torch.Tensor = self.layers(x_NCS) + self.shortcut(x_NCS)
        return out


class Xception(nn.Module):
    """Xception (Chollet 2017) with 2 blocks in the middle flow instead of 8."""

    def __init__(self, num_channels: int, num_positions: int, width: int) -> None:
        super().__init__()
        self.num_features = 16 * width
        self.layers = nn.Sequential(
            _convolution(num_channels, width, stride=2),
            _convolution(width, 2 * width),
            XceptionBlock(2 * width, 4 * width, 2, 2),
            XceptionBlock(4 * width, 8 * width, 2, 2),
            XceptionBlock(8 * width, 8 * width, 3, 1),
            XceptionBlock(8 * width, 8 * width, 3, 1),
            XceptionBlock(8 * width, 8 * width, 2, 2),
            *_separable(8 * width, 16 * width),
            nn.ReLU(),
        )

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D)."""
        features: torch.Tensor = self.layers(x_NCS).mean(dim=-1)
        return features


class MobileNet(nn.Module):
    """Depthwise separable convolutions (Howard et al. 2017), with 8 of the 13 layers."""

    def __init__(self, num_channels: int, num_positions: int, width: int) -> None:
        super().__init__()
        plan = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), (16, 1), (16, 1)]
        self.num_features = plan[-1][0] * width
        layers: list[nn.Module] = [_convolution(num_channels, width, stride=2)]
        before = width
        for times, stride in plan:
            depthwise, pointwise, norm = _separable(before, times * width, stride)
            between = (nn.BatchNorm1d(before), nn.ReLU())
            layers += [depthwise, *between, pointwise, norm, nn.ReLU()]
            before = times * width
        self.layers = nn.Sequential(*layers)

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D)."""
        features: torch.Tensor = self.layers(x_NCS).mean(dim=-1)
        return features


class ResNet(nn.Module):
    """ResNet-18 (He et al. 2016) from MONAI, with one spatial dimension."""

    def __init__(self, num_channels: int, num_positions: int, width: int) -> None:
        from monai.networks.nets.resnet import ResNet as MonaiResNet  # takes seconds to import

        super().__init__()
        self.num_features = 8 * width
        self.network = MonaiResNet(
            block="basic",
            layers=[2, 2, 2, 2],
            block_inplanes=[width, 2 * width, 4 * width, 8 * width],
            spatial_dims=1,
            n_input_channels=num_channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            feed_forward=False,
        )

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D)."""
        features: torch.Tensor = self.network(x_NCS)
        return features


class DenseNet(nn.Module):
    """One-dimensional MONAI DenseNet (Huang et al. 2017) with half the layers of DenseNet-121."""

    def __init__(self, num_channels: int, num_positions: int, width: int) -> None:
        from monai.networks.nets.densenet import DenseNet as MonaiDenseNet

        super().__init__()
        self.num_features = 4 * width
        self.network = MonaiDenseNet(
            spatial_dims=1,
            in_channels=num_channels,
            out_channels=self.num_features,
            init_features=width,
            growth_rate=max(width // 2, 1),
            block_config=(3, 6, 12, 8),
        )

    def forward(self, x_NCS: torch.Tensor) -> torch.Tensor:
        """Returns features (N, D)."""
        features: torch.Tensor = self.network(x_NCS)
        return features


BACKBONES: Final[Mapping[Backbone, Callable[[int, int, int], nn.Module]]] = {
    "MLP-Mixer": MLPMixer,
    "ViT": ViT,
    "ResNet": ResNet,
    "Xception": Xception,
    "MobileNet": MobileNet,
    "DenseNet": DenseNet,
}
"""Constructors taking (num_channels, num_positions, width); each network has ``num_features``."""
