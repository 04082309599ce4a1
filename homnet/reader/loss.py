"""What a reader is to learn: kind, segment, homologs of cells, and extents along them.

Shape suffixes: B bags, K cells, P homologs, L stretched positions, G places, X classes.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from homnet.bags.epochs import Batch
from homnet.reader.network import Reading
from homnet.reader.truth import UNKNOWN, Targets

_EXTENT_MARGIN: Final = 1.5
"""Stretched positions by which an extent is widened at both ends: of a deletion only a junction is
left, and no breakpoint is seen to the position."""
_PLACE_BLUR: Final = 1.0
"""Standard deviation, in stretched positions, of the wanted distribution of a breakpoint."""
WEIGHTS: Final = {"kind": 1.0, "segment": 0.5, "cell": 1.0, "extent": 2.0}
"""What the parts of the loss count: about as much each when learning begins."""


def place_of_share(share_B2: torch.Tensor, num_positions: int) -> torch.Tensor:
    """Places on the axis of :attr:`ReaderConfig.num_places`, as real numbers.

    The tips are 0 and G - 1; a share s between them is in the middle of positions s L - 0.5.
    """
    inside = (share_B2 * num_positions + 0.5).clamp(1, num_positions)
    inside = torch.where(share_B2 <= 0, torch.zeros_like(inside), inside)
    return torch.where(share_B2 >= 1, torch.full_like(inside, num_positions + 1.0), inside)


def loss_of(reading: Reading, batch: Batch, targets: Targets) -> dict[str, torch.Tensor]:
    """The parts of the loss, each a mean over what is known in the batch.

    Returns:
        ``kind``, ``segment``, ``cell`` and ``extent``.
    """
    device = batch.mask_BK.device

    def tensor(values: NDArray[Any]) -> torch.Tensor:
        return torch.as_tensor(values, device=device)

    kind_B = tensor(targets.kind_B)
    kind = F.cross_entropy(reading.kind_BX, kind_B, ignore_index=UNKNOWN, reduction="sum") / (
        kind_B != UNKNOWN
    ).sum().clamp(min=1)

    segment_B2 = tensor(targets.segment_B2).float()
    known_B = segment_B2.isfinite().all(dim=1)
    num_places = reading.segment_B2G.shape[-1]
    place_B2 = place_of_share(segment_B2.nan_to_num(), num_places - 2)
    wanted_B2G = _blurred(place_B2, num_places)
    each_B2 = -(wanted_B2G * reading.segment_B2G.log_softmax(dim=-1)).sum(dim=-1)
    segment = (each_B2.sum(dim=1) * known_B).sum() / known_B.sum().clamp(min=1)

    mask_BK = batch.mask_BK
    homolog_BK, abnormal_BK = tensor(targets.homolog_BK), tensor(targets.abnormal_BK)
    class_BK = torch.where(abnormal_BK, homolog_BK + 1, 0)
    unknown_BK = ~mask_BK | (abnormal_BK & (homolog_BK < 0))
    class_BK = class_BK.masked_fill(unknown_BK, UNKNOWN)
    count = (~unknown_BK).sum().clamp(min=1)
    cell = sum(
        (
            F.cross_entropy(
                logit_BKX.flatten(0, 1),
                class_BK.flatten(),
                ignore_index=UNKNOWN,
                reduction="sum",
            )
            / count
            for logit_BKX in (reading.first_cell_BKX, reading.cell_BKX)
        ),
        start=torch.zeros((), device=device),
    )

    extent_BK2 = tensor(targets.extent_BK2).float()
    known_BK = mask_BK & (~abnormal_BK | extent_BK2.isfinite().all(dim=-1)) & ~unknown_BK
    wanted_BKPL = _extents(extent_BK2, homolog_BK, abnormal_BK, reading.extent_BKPL.shape[-1])
    each_BKPL = F.binary_cross_entropy_with_logits(
        reading.extent_BKPL, wanted_BKPL, reduction="none"
    )
    extent = (each_BKPL.mean(dim=(2, 3)) * known_BK).sum() / known_BK.sum().clamp(min=1)
    return {"kind": kind, "segment": segment, "cell": cell, "extent": extent}


def _blurred(place_B2: torch.Tensor, num_places: int) -> torch.Tensor:
    """A wanted distribution over places: sure of a tip, else a bell that leaves the tips alone."""
    places_G = torch.arange(num_places, device=place_B2.device, dtype=place_B2.dtype)
    bell_B2G = torch.exp(-0.5 * ((places_G - place_B2[..., None]) / _PLACE_BLUR).square())
    tip_B2 = (place_B2 <= 0) | (place_B2 >= num_places - 1)
    exact_B2G = (places_G == place_B2.round()[..., None]).to(bell_B2G.dtype)
    inner_G = (places_G > 0) & (places_G < num_places - 1)
    wanted_B2G = torch.where(tip_B2[..., None], exact_B2G, bell_B2G * inner_G)
    return wanted_B2G / wanted_B2G.sum(dim=-1, keepdim=True)


def _extents(
    extent_BK2: torch.Tensor, homolog_BK: torch.Tensor, abnormal_BK: torch.Tensor, num: int
) -> torch.Tensor:
    middle_L = torch.arange(num, device=extent_BK2.device) + 0.5
    edges = extent_BK2.nan_to_num() * num
    inside_BKL = (middle_L >= edges[..., :1] - _EXTENT_MARGIN) & (
        middle_L <= edges[..., 1:] + _EXTENT_MARGIN
    )
    homolog_P = torch.arange(2, device=extent_BK2.device)
    of_BKP = (homolog_BK[..., None] == homolog_P) & abnormal_BK[..., None]
    return (inside_BKL[:, :, None] & of_BKP[..., None]).float()


def total_loss(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The parts together, as much as each counts."""
    return sum((WEIGHTS[name] * part for name, part in parts.items()), start=torch.zeros(()))
