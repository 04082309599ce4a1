"""The reader: a frozen HomNet, and a small convolutional network that finds kind and place.

:meth:`Reader.forward` is the frozen HomNet only, so its logits are bit-identical.
:meth:`Reader.read` processes the same bag at each position of the stretched view. Its input is the
sequences and the region features of HomNet's frozen trunk. Cells exchange information through means
and maxima over all homologs of a bag, and through the consensus of the homologs that look abnormal.
Homologs have no order across cells, so nothing is ever summed by slot.

Legend: B bags, K cells, P homologs (2), C chromatids (2), L positions of the stretched view,
M regions, D width of HomNet's regions, W width of the reader, N homologs (B K P), G places of a
segment on the reference chromosome.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import nn
from torch.nn import functional as F

from homnet.errors import ConfigError
from homnet.karyotype.kinds import SHOWN
from homnet.model.contract import NUM_TYPES, BagModel
from homnet.model.network import NUM_LEVELS, HomNet, HomNetConfig
from homnet.model.views import standardise, stretch
from homnet.reader.dotplot import DotPlots

FROZEN: Final = ("homnet.",)
"""Name prefixes of the weights that a reader never trains: those of the HomNet below."""


@dataclass(frozen=True)
class ReaderConfig:
    """Form of a reader."""

    model: HomNetConfig = HomNetConfig(view="stretched")
    """Form of the frozen HomNet."""
    width: int = 32
    """Channels of the reader at its finest resolution, W."""
    num_positions: int = 128
    """Positions of a stretched homolog, and places of a segment between the tips."""
    dot_plots: bool = True
    """Whether dot plots of the homologs that look abnormal are an input for kind and segment."""

    def __post_init__(self) -> None:
        if self.model.view != "stretched" or self.model.homologs != "pair":
            raise ConfigError(
                "a reader needs a HomNet that compares homologs in the stretched view; pre-train "
                "with the recipe 'best' or 'images'"
            )
        if self.num_positions % 8 or self.num_positions < 8:
            raise ConfigError(f"num_positions must be a multiple of 8, got {self.num_positions}")
        if self.width % 16:
            raise ConfigError(f"width must be a multiple of 16, got {self.width}")

    @classmethod
    def of_json(cls, *, model: Mapping[str, Any], **fields: Any) -> Self:
        """Makes the form from the content of a checkpoint's ``config.json``."""
        return cls(model=HomNetConfig(**model), **fields)

    def build(self) -> "Reader":
        """Builds a reader of this form, on a HomNet with random weights."""
        return Reader(self)


@dataclass(frozen=True)
class Reading:
    """Outputs of a reader for bags, before calibration."""

    kind_BX: torch.Tensor
    """Logits of :data:`homnet.karyotype.kinds.SHOWN`."""
    segment_B2G: torch.Tensor
    """Logits of the places where the segment starts and stops: tip of the short arm, stretched
    positions, tip of the long arm."""
    cell_BKX: torch.Tensor
    """Logits of a cell (B, K, 3): normal, homolog 0 abnormal, homolog 1 abnormal."""
    first_cell_BKX: torch.Tensor
    """The same before the consensus of the cells is used."""
    extent_BKPL: torch.Tensor
    """Logits of each stretched position for belonging to the abnormal extent."""


class Block(nn.Module):
    """A convolution that also sees the partner and the whole bag at the same place."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        # Reducing the channels before the convolution cuts the time to a third.
        wide = width_in >= 2 * width
        self.narrow = nn.Conv1d(width_in, width, 1) if wide else nn.Identity()
        size = 3 if wide else 5
        self.conv = nn.Conv1d(
            width if wide else width_in, width, size, stride, padding=size // 2, bias=False
        )
        self.norm = nn.GroupNorm(8, width)
        self.pair = nn.Conv1d(2 * width, width, 1)
        self.bag = nn.Conv1d(2 * width, width, 1)

    def forward(self, h_NXL: torch.Tensor, bags: "Bag") -> torch.Tensor:
        """Returns features (N, W, L / stride)."""
        h_NWL = F.gelu(self.norm(self.conv(self.narrow(h_NXL))))
        both_NXL, all_BXL = bags.beside(h_NWL)
        mixed = bags.each(self.pair(both_NXL)) + self.bag(all_BXL)[:, None, None]
        return h_NWL + F.gelu(mixed).flatten(0, 2)


class Bag:
    """Maps N = B K P homologs to cells and bags; those of masked cells are ignored."""

    def __init__(self, mask_BK: torch.Tensor) -> None:
        self.num_bags, self.num_cells = mask_BK.shape
        self.there_BK111 = mask_BK[:, :, None, None, None]
        self.count_B111 = (2 * mask_BK.sum(dim=1)).clamp(min=1)[:, None, None, None]

    def each(self, h_NWL: torch.Tensor) -> torch.Tensor:
        """Reshapes (N, W, L) to (B, K, P, W, L)."""
        return h_NWL.view(self.num_bags, self.num_cells, 2, *h_NWL.shape[1:])

    def beside(self, h_NWL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each homolog with its partner (N, 2W, L); mean and maximum over each bag (B, 2W, L)."""
        h_BKPWL = self.each(h_NWL)
        both_NXL = torch.cat([h_BKPWL, h_BKPWL.flip(2)], dim=3).flatten(0, 2)
        total_BWL = (h_BKPWL * self.there_BK111).sum(dim=(1, 2))
        mean_BWL = total_BWL / self.count_B111[:, 0]
        # GELU is above -0.2, so -1 is never the maximum.
        most_BWL = h_BKPWL.masked_fill(~self.there_BK111, -1.0).amax(dim=(1, 2))
        return both_NXL, torch.cat([mean_BWL, most_BWL], dim=1)


class Reader(BagModel):
    """A frozen HomNet and the network that reads kind, segment, cells and extents."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.homnet = HomNet(config.model)
        self.homnet.requires_grad_(requires_grad=False)
        width = config.width
        # Mean and difference of the chromatids, the partner, the difference from it, the position;
        # with a template also the template and the difference from it.
        num_channels = 5 + 2 * config.model.template
        self.enter = nn.Conv1d(num_channels, width, 5, padding=2)
        self.regions = nn.Linear(config.model.width, width)
        self.about = nn.Linear(3, width)
        self.of_type = nn.Embedding(NUM_TYPES, width)
        self.level = nn.Embedding(NUM_LEVELS, width)
        for table in (self.of_type, self.level):
            nn.init.normal_(table.weight, std=0.1)
        self.down = nn.ModuleList(
            [
                Block(width, width, 2),
                Block(width, 3 * width // 2, 2),
                Block(3 * width // 2, 2 * width, 2),
                Block(2 * width, 2 * width),
            ]
        )
        self.up = nn.ModuleList(
            [Block(7 * width // 2, 3 * width // 2), Block(5 * width // 2, width)]
        )
        self.first_cell = nn.Linear(2 * width, 1)
        self.again = Block(5 * width, width)
        self.cell = nn.Linear(2 * width, 1)
        self.extent = nn.ConvTranspose1d(width, 1, 4, stride=2, padding=1)
        self.consensus = Consensus(config)
        self.dot_plots = DotPlots(2 * width) if config.dot_plots else None

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Logits (B) of the frozen HomNet."""
        logit_B: torch.Tensor = self.homnet(x_BKPCL, mask_BK, chromosome_B, level_BK)
        return logit_B

    def take_homnet(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Loads the weights of the HomNet, which stay frozen.

        Raises:
            RuntimeError: a weight is missing, unknown or of another shape.
        """
        self.homnet.load_state_dict(dict(weights), strict=True)

    def read(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> Reading:
        """Reads bags; for the arguments see :meth:`homnet.model.network.HomNet.forward`."""
        bags = Bag(mask_BK)
        h_NWL, own_BKPL, template_BL = self._enter(x_BKPCL, chromosome_B, level_BK)
        finest = self.down[0](h_NWL, bags)
        middle = self.down[1](finest, bags)
        coarse = self.down[3](self.down[2](middle, bags), bags)
        middle = self.up[0](torch.cat([_twice(coarse), middle], dim=1), bags)
        h_NWL = self.up[1](torch.cat([_twice(middle), finest], dim=1), bags)

        first_BKX = self._cells(self.first_cell, h_NWL, bags)
        abnormal_BWL, normal_BWL, _ = self._agreed(h_NWL, first_BKX, bags)
        # Each homolog again, with the consensus of the abnormal homologs of the bag.
        a_NWL, n_NWL = (
            c[:, None, None].expand(bags.each(h_NWL).shape).flatten(0, 2)
            for c in (abnormal_BWL, normal_BWL)
        )
        both = torch.cat([h_NWL, a_NWL, n_NWL, h_NWL - a_NWL, h_NWL - n_NWL], dim=1)
        again_NWL = self.again(both, bags)
        cell_BKX = self._cells(self.cell, again_NWL, bags)
        extent = self.extent(again_NWL).squeeze(1)
        abnormal_BWL, normal_BWL, weight_BKP = self._agreed(again_NWL, cell_BKX, bags)
        seen = None
        if self.dot_plots is not None:
            seen = self.dot_plots(own_BKPL, template_BL, weight_BKP)
        kind_BX, segment_B2G = self.consensus(
            abnormal_BWL, normal_BWL, weight_BKP.sum(dim=(1, 2)), chromosome_B, seen
        )
        return Reading(
            kind_BX=kind_BX,
            segment_B2G=segment_B2G,
            cell_BKX=cell_BKX,
            first_cell_BKX=first_BKX,
            extent_BKPL=extent.view(bags.num_bags, bags.num_cells, 2, -1),
        )

    def _enter(
        self, x_BKPCL: torch.Tensor, chromosome_B: torch.Tensor, level_BK: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Input features (N, W, L), standardised sequences (B, K, P, L) and template (B, L)."""
        with torch.no_grad():
            r_MBKPD, log_length_BKP = self.homnet.trunk(x_BKPCL, chromosome_B, level_BK)
            view_BKPCL, _ = stretch(x_BKPCL, self.config.num_positions)
            view_BKPCL = standardise(view_BKPCL / 255)
            own_BKPL = view_BKPCL.mean(dim=3)
            partner_BKPL = own_BKPL.flip(2)
            place_L = torch.linspace(-1, 1, own_BKPL.shape[-1], device=own_BKPL.device)
            channels = [
                own_BKPL,
                (view_BKPCL[:, :, :, 0] - view_BKPCL[:, :, :, 1]).abs(),
                partner_BKPL,
                own_BKPL - partner_BKPL,
                place_L.expand_as(own_BKPL),
            ]
            template_BL = own_BKPL.new_zeros(len(own_BKPL), own_BKPL.shape[-1])
            if self.homnet.cms.template_TL is not None:
                template_BL = self.homnet.cms.template_TL[chromosome_B]
                template_BL = F.interpolate(
                    template_BL[:, None], own_BKPL.shape[-1], mode="linear"
                ).squeeze(1)
                template = template_BL[:, None, None].expand_as(own_BKPL)
                channels += [template, own_BKPL - template]
            assert log_length_BKP is not None
            difference = log_length_BKP - log_length_BKP.flip(2)
            # Log lengths of homologs differ by about 0.08; ten times that is about 1.
            about_BKPX = torch.stack(
                [log_length_BKP, 10 * difference, 10 * difference.abs()], dim=-1
            )
        h_NWL: torch.Tensor = self.enter(torch.stack(channels, dim=3).flatten(0, 2))
        regions_MNW = self.regions(r_MBKPD).flatten(1, 3)
        h_NWL = h_NWL + F.interpolate(regions_MNW.permute(1, 2, 0), h_NWL.shape[-1], mode="linear")
        known_BKW = self.of_type(chromosome_B)[:, None] + self.level(level_BK)
        known_BKPW = known_BKW[:, :, None] + self.about(about_BKPX)
        return F.gelu(h_NWL + known_BKPW.flatten(0, 2)[..., None]), own_BKPL, template_BL

    @staticmethod
    def _cells(head: nn.Module, h_NWL: torch.Tensor, bags: Bag) -> torch.Tensor:
        """Logits (B, K, 3) of normal, homolog 0 and homolog 1."""
        pooled_NX = torch.cat([h_NWL.mean(dim=-1), h_NWL.amax(dim=-1)], dim=-1)
        logit_BKP = head(pooled_NX).view(bags.num_bags, bags.num_cells, 2)
        return F.pad(logit_BKP, (1, 0))

    @staticmethod
    def _agreed(
        h_NWL: torch.Tensor, cell_BKX: torch.Tensor, bags: Bag
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Consensus of the homologs that look abnormal, and of their partners.

        Returns:
            Both weighted means (B, W, L), and the weight of each homolog (B, K, P), 0..1.
        """
        h_BKPWL = bags.each(h_NWL)
        weight_BKP = cell_BKX.softmax(dim=-1)[..., 1:] * bags.there_BK111[:, :, :, 0, 0]
        weight_BKP11 = weight_BKP[..., None, None]
        floor_B11 = weight_BKP.sum(dim=(1, 2)).clamp(min=1e-3)[:, None, None]
        abnormal_BWL = (h_BKPWL * weight_BKP11).sum(dim=(1, 2)) / floor_B11
        normal_BWL = (h_BKPWL * weight_BKP11.flip(2)).sum(dim=(1, 2)) / floor_B11
        return abnormal_BWL, normal_BWL, weight_BKP


class Consensus(nn.Module):
    """Kind and segment of a bag from the consensus of its abnormal homologs."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        width = config.width
        wide = 2 * width
        self.enter = nn.Conv1d(2 * width, wide, 5, padding=2)
        self.of_type = nn.Embedding(NUM_TYPES, wide)
        nn.init.normal_(self.of_type.weight, std=0.1)
        self.layers = nn.ModuleList(
            nn.Conv1d(wide, wide, 5, padding=2 * step, dilation=step) for step in (1, 2, 4, 8)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, wide) for _ in self.layers)
        self.places = nn.ConvTranspose1d(wide, 2, 4, stride=2, padding=1)
        # Start at the tip of p and stop at the tip of q; start at q and stop at p are impossible.
        self.tips = nn.Linear(2 * wide, 2)
        self.kind = nn.Sequential(
            nn.Linear(2 * wide + 1, wide), nn.GELU(), nn.Linear(wide, len(SHOWN))
        )

    def forward(
        self,
        abnormal_BWL: torch.Tensor,
        normal_BWL: torch.Tensor,
        weight_B: torch.Tensor,
        chromosome_B: torch.Tensor,
        seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits of kinds (B, X) and of the places of start and stop (B, 2, G).

        Args:
            abnormal_BWL: mean of the homologs that look abnormal.
            normal_BWL: mean of their partners.
            weight_B: sum of the weights of the homologs.
            chromosome_B: index of the type, 0..23.
            seen: dot plot features along the normal chromosome (B, W, T) and overall (B, W).
        """
        h_BWL = self.enter(torch.cat([abnormal_BWL, normal_BWL], dim=1))
        if seen is not None:
            along = F.interpolate(seen[0], h_BWL.shape[-1], mode="linear")
            h_BWL = h_BWL + along + seen[1][..., None]
        h_BWL = F.gelu(h_BWL + self.of_type(chromosome_B)[..., None])
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h_BWL = h_BWL + F.gelu(norm(layer(h_BWL)))
        pooled_BX = torch.cat([h_BWL.mean(dim=-1), h_BWL.amax(dim=-1)], dim=-1)
        kind_BX = self.kind(torch.cat([pooled_BX, weight_B[:, None].log1p()], dim=-1))
        places_B2L = self.places(h_BWL)
        tip_B2 = self.tips(pooled_BX)
        never = torch.full_like(tip_B2[:, :1], -1e4)
        start_BG = torch.cat([tip_B2[:, :1], places_B2L[:, 0], never], dim=1)
        stop_BG = torch.cat([never, places_B2L[:, 1], tip_B2[:, 1:]], dim=1)
        return kind_BX, torch.stack([start_BG, stop_BG], dim=1)


def _twice(h_NWL: torch.Tensor) -> torch.Tensor:
    return F.interpolate(h_NWL, scale_factor=2.0, mode="linear")
