"""A naive HomNet with loops over cells, homologs and heads, as the baseline for speed.

It shares the weights of the batched model and returns the same logits; only the speed differs.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from homnet.errors import ConfigError
from homnet.model.network import Alignment, Attention, HomNet


class LoopedHomNet(nn.Module):
    """The paper's form, one chromosome at a time."""

    def __init__(self, model: HomNet) -> None:
        """Uses the weights of a model.

        Raises:
            ConfigError: the form of the model is not supported here.
        """
        super().__init__()
        config = model.config
        form = (config.view, config.alignment, config.homologs)
        plain = form == ("absolute", "attention", "pair")
        departures = (
            config.standardise,
            config.partner,
            config.normalise_regions,
            config.symmetric,
        )
        if not plain or any(departures):
            raise ConfigError("the looped model is written for the paper's form only")
        self.model = model

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        """Scores bags like :class:`homnet.model.network.HomNet`."""
        hom, bag = self.model.hom, self.model.bag
        total_BE = torch.zeros(len(x_BKPCL), hom.pair.out_features, device=x_BKPCL.device)
        for cell in range(x_BKPCL.shape[1]):
            of_cell = slice(cell, cell + 1)
            r_BMD = [
                self._regions(x_BKPCL[:, cell, p], chromosome_B, level_BK[:, cell])
                for p in range(2)
            ]
            for alignment in cast(Iterable[Alignment], hom.alignments):
                r_BMD = [
                    alignment.difference(
                        r_BMD[p]
                        + self._aligned(cast(Attention, alignment.align), r_BMD[p], r_BMD[1 - p])
                    )
                    for p in range(2)
                ]
            pair_BE = F.relu(hom.pair(torch.cat([r_BMD[0].flatten(1), r_BMD[1].flatten(1)], dim=1)))
            weight_B1 = torch.sigmoid(bag.weight(pair_BE)) * mask_BK[:, of_cell]
            total_BE = total_BE + weight_B1 * pair_BE
        logit: torch.Tensor = bag.bag(total_BE).squeeze(-1)
        return logit

    def _regions(
        self, x_BCL: torch.Tensor, chromosome_B: torch.Tensor, level_B: torch.Tensor
    ) -> torch.Tensor:
        cms = self.model.cms
        missing = cms.num_regions * cms.region_length - x_BCL.shape[-1]
        regions_BCMX = F.pad(x_BCL, (0, missing)).unflatten(-1, (cms.num_regions, -1))
        patch_BMX = regions_BCMX.transpose(1, 2).flatten(2).float() / 255
        info_BMD = (cms.info_type(chromosome_B) + cms.info_level(level_B)).unflatten(
            1, (cms.num_regions, -1)
        )
        r_BMD = info_BMD + cms.merge(patch_BMX)
        r_BMD = cms.local(r_BMD) + r_BMD
        across_BMD: torch.Tensor = cms.across(r_BMD.transpose(1, 2)).transpose(1, 2) + r_BMD
        return across_BMD

    @staticmethod
    def _aligned(align: Attention, own_BMD: torch.Tensor, other_BMD: torch.Tensor) -> torch.Tensor:
        q, k, v = align.query(own_BMD), align.key(other_BMD), align.value(other_BMD)
        size = q.shape[-1] // align.num_heads
        heads = []
        for h in range(align.num_heads):
            part = slice(h * size, (h + 1) * size)
            a_BMM = q[..., part] @ k[..., part].transpose(-1, -2) / size**0.5
            if align.ratio:
                total = a_BMM.sum(dim=-1, keepdim=True)
                total = torch.where(total.abs() < 1e-2, torch.where(total < 0, -1e-2, 1e-2), total)
                a_BMM = a_BMM / total
            else:
                a_BMM = a_BMM.softmax(dim=-1)
            heads.append(a_BMM @ v[..., part])
        aligned_BMD: torch.Tensor = align.head(torch.cat(heads, dim=-1))
        return aligned_BMD
