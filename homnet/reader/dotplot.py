"""Dot plots: every window of the abnormal homologs against every window of a normal sequence.

In a dot plot, a deletion is a step in the diagonal, a duplication repeats a part of it, an
inversion reverses a part of it, an exchanged end has no diagonal, and an isochromosome has two that
meet. Each axis is the position on a chromosome, so a plot also shows where on the normal chromosome
a piece comes from. The sequences are means over the cells of a bag, of the homologs that look
abnormal and of their partners; means are far less noisy than single chromosomes.

Legend: B bags, K cells, P homologs, L positions, T windows, V positions of a window, X channels.
"""

from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

NUM_PLOTS: Final = 3
"""Abnormal homologs against their partners, and both against the template."""
_CHANNELS: Final = 4
"""Correlation and difference of a window, and of the reversed window."""


def windows(x_XL: torch.Tensor, num: int, size: int) -> torch.Tensor:
    """Evenly spaced windows (..., T, V) of sequences (..., L); tip values are repeated."""
    length = x_XL.shape[-1]
    middle_T = (torch.arange(num, device=x_XL.device) + 0.5) * length / num
    offset_V = torch.arange(size, device=x_XL.device) - (size - 1) / 2
    place_TV = (middle_T[:, None] + offset_V - 0.5).round().long().clamp(0, length - 1)
    return x_XL[..., place_TV]


def compare(a_XTV: torch.Tensor, b_XTV: torch.Tensor) -> torch.Tensor:
    """Compares all windows of one sequence with all windows of another.

    Args:
        a_XTV: windows (..., T, V).
        b_XTV: windows (..., T, V); leading dimensions broadcast.

    Returns:
        (..., 4, T, T): correlation and negative mean squared difference, then both with the first
        window reversed.
    """
    found = []
    size = a_XTV.shape[-1]
    b_even = b_XTV - b_XTV.mean(dim=-1, keepdim=True)
    b_norm = (b_even.square().sum(dim=-1) + 0.1 * size).rsqrt()
    b_square = b_XTV.square().mean(dim=-1)
    for turned in (a_XTV, a_XTV.flip(-1)):
        even = turned - turned.mean(dim=-1, keepdim=True)
        norm = (even.square().sum(dim=-1) + 0.1 * size).rsqrt()
        found.append(even @ b_even.transpose(-1, -2) * norm[..., None] * b_norm[..., None, :])
        product = turned @ b_XTV.transpose(-1, -2) / size
        square = turned.square().mean(dim=-1)
        difference = square[..., None] + b_square[..., None, :] - 2 * product
        found.append(-difference.clamp(max=4.0))
    return torch.stack(found, dim=-3)


def plots(
    own_BKPL: torch.Tensor,
    template_BL: torch.Tensor,
    weight_BKP: torch.Tensor,
    num: int,
    size: int,
) -> torch.Tensor:
    """Computes the dot plots of bags.

    Args:
        own_BKPL: standardised sequences.
        template_BL: template of the type; zeros if the model has none.
        weight_BKP: probability that each homolog is abnormal; 0 for masked cells.
        num: windows along each axis, T.
        size: positions per window, V.

    Returns:
        (B, 12, T, T): four channels each of :data:`NUM_PLOTS`.
    """
    share_BKP = weight_BKP / weight_BKP.sum(dim=(1, 2), keepdim=True).clamp(min=1e-3)
    abnormal_BL = torch.einsum("bkp,bkpl->bl", share_BKP, own_BKPL)
    normal_BL = torch.einsum("bkp,bkpl->bl", share_BKP.flip(2), own_BKPL)
    abnormal, normal, template = (
        windows(x_BL, num, size) for x_BL in (abnormal_BL, normal_BL, template_BL)
    )
    pairs = ((abnormal, normal), (abnormal, template), (normal, template))
    return torch.cat([compare(a_BTV, b_BTV) for a_BTV, b_BTV in pairs], dim=1)


class DotPlots(nn.Module):
    """Features of dot plots, along the axis of the normal chromosome and of the whole plot."""

    def __init__(self, width: int, num_windows: int = 64, window: int = 12) -> None:
        super().__init__()
        self.num_windows, self.window = num_windows, window
        grid = torch.linspace(-1, 1, num_windows)
        places = torch.stack([grid[:, None].expand(-1, num_windows), grid.expand(num_windows, -1)])
        self.places_XTT: torch.Tensor
        self.register_buffer("places_XTT", places, persistent=False)
        num_channels = NUM_PLOTS * _CHANNELS + 2
        layers = [
            nn.Conv2d(num_channels, 16, 3, padding=1),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.Conv2d(32, 32, 3, padding=2, dilation=2),
            nn.Conv2d(32, 32, 3, padding=4, dilation=4),
        ]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.GroupNorm(4, layer.out_channels) for layer in layers)
        self.last = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.along = nn.Conv1d(2 * 32, width, 1)
        self.whole = nn.Linear(2 * 48, width)

    def forward(
        self, own_BKPL: torch.Tensor, template_BL: torch.Tensor, weight_BKP: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features along the normal chromosome (B, W, T / 2) and of the whole plot (B, W)."""
        plot_BXTT = plots(own_BKPL, template_BL, weight_BKP, self.num_windows, self.window)
        places = self.places_XTT.expand(len(plot_BXTT), -1, -1, -1)
        h_BXTT = torch.cat([plot_BXTT, places], dim=1)
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            fresh = F.gelu(norm(layer(h_BXTT)))
            h_BXTT = h_BXTT + fresh if number > 1 else fresh
        along_BXT = torch.cat([h_BXTT.mean(dim=2), h_BXTT.amax(dim=2)], dim=1)
        last_BXTT = F.gelu(self.last(h_BXTT))
        whole_BX = torch.cat([last_BXTT.mean(dim=(2, 3)), last_BXTT.amax(dim=(2, 3))], dim=1)
        return self.along(along_BXT), self.whole(whole_BX)
