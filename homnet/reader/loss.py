"""Loss and calibration of a reader: kind, segment, homologs of cells, extents along homologs.

Shape suffixes: B bags, K cells, P homologs, L stretched positions, G places, X classes, N of
anything.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from homnet.reader.network import Reading
from homnet.reader.truth import UNKNOWN, Targets

_EXTENT_MARGIN: Final = 1.5
"""Stretched positions added to both ends of an extent: a deletion leaves only a junction, and no
breakpoint is visible to the exact position."""
_PLACE_BLUR: Final = 1.0
"""Standard deviation, in stretched positions, of the target distribution of a breakpoint."""
WEIGHTS: Final = {"kind": 1.0, "segment": 0.5, "cell": 1.0, "extent": 2.0}
"""Weight of each part of the loss; chosen so that all parts are about equal at the start."""


class Part(NamedTuple):
    """One part of the loss: a sum over known labels, so that batches of any size can be added."""

    total: torch.Tensor
    """Summed loss (a scalar)."""
    num: torch.Tensor
    """Number of labels in the sum."""

    @property
    def mean(self) -> torch.Tensor:
        """Loss per label; 0 without labels."""
        return self.total / self.num.clamp(min=1)


class Labels(NamedTuple):
    """Targets as tensors on the device of the readings; ``UNKNOWN`` or NaN where not known."""

    kind_B: torch.Tensor
    place_B2: torch.Tensor
    """Start and stop as real numbers on the axis of places, see :func:`place_of_share`."""
    class_BK: torch.Tensor
    """0 for a normal cell, 1 or 2 if homolog 0 or 1 is abnormal."""

    @classmethod
    def of(cls, targets: Targets, mask_BK: torch.Tensor, num_positions: int) -> "Labels":
        """Makes the labels of bags.

        Args:
            targets: truth of the bags.
            mask_BK: False for absent cells.
            num_positions: number of stretched positions of a reading.
        """

        def tensor(values: NDArray[Any]) -> torch.Tensor:
            return torch.as_tensor(values, device=mask_BK.device)

        homolog_BK, abnormal_BK = tensor(targets.homolog_BK), tensor(targets.abnormal_BK)
        unknown_BK = ~mask_BK | (abnormal_BK & (homolog_BK < 0))
        share_B2 = tensor(targets.segment_B2)
        placed_B1 = share_B2.isfinite().all(dim=1, keepdim=True)
        place_B2 = place_of_share(share_B2.nan_to_num(), num_positions)
        return cls(
            kind_B=tensor(targets.kind_B),
            place_B2=place_B2.masked_fill(~placed_B1, math.nan),
            class_BK=torch.where(abnormal_BK, homolog_BK + 1, 0).masked_fill(unknown_BK, UNKNOWN),
        )


def place_of_share(share_B2: torch.Tensor, num_positions: int) -> torch.Tensor:
    """Places of segment ends, as real numbers: the G - 2 positions of a reader between both tips.

    The tips are 0 and G - 1; a share s between them is at the middle of positions s L - 0.5.
    """
    inside = (share_B2 * num_positions + 0.5).clamp(1, num_positions)
    inside = torch.where(share_B2 <= 0, torch.zeros_like(inside), inside)
    return torch.where(share_B2 >= 1, torch.full_like(inside, num_positions + 1.0), inside)


def loss_of(reading: Reading, targets: Targets, mask_BK: torch.Tensor) -> dict[str, Part]:
    """Computes the parts of the loss of a batch.

    Args:
        reading: reading of the bags.
        targets: truth of the bags.
        mask_BK: False for absent cells.

    Returns:
        ``kind`` and ``segment``, summed over bags, and ``cell`` and ``extent``, summed over cells.
    """
    num_positions = reading.extent_BKPL.shape[-1]
    labels = Labels.of(targets, mask_BK, num_positions)

    placed_B = labels.place_B2.isfinite().all(dim=1)
    wanted_B2G = _blurred(labels.place_B2.float().nan_to_num(), num_positions + 2)
    segment_B = -(wanted_B2G * reading.segment_B2G.log_softmax(dim=-1)).sum(dim=(1, 2))

    known_BK = labels.class_BK != UNKNOWN
    logits = (reading.first_cell_BKX, reading.cell_BKX)
    cell = sum(_cross_entropy(logit_BKX, labels.class_BK).total for logit_BKX in logits)

    extent_BK2 = torch.as_tensor(targets.extent_BK2, device=mask_BK.device).float()
    outlined_BK = known_BK & ((labels.class_BK == 0) | extent_BK2.isfinite().all(dim=-1))
    extent_BK = F.binary_cross_entropy_with_logits(
        reading.extent_BKPL,
        _extents(extent_BK2, labels.class_BK, num_positions),
        reduction="none",
    ).mean(dim=(2, 3))
    return {
        "kind": _cross_entropy(reading.kind_BX, labels.kind_B),
        "segment": Part((segment_B * placed_B).sum(), placed_B.sum()),
        "cell": Part(torch.as_tensor(cell), known_BK.sum()),
        "extent": Part((extent_BK * outlined_BK).sum(), outlined_BK.sum()),
    }


def _cross_entropy(logit_NX: torch.Tensor, class_N: torch.Tensor) -> Part:
    """Cross-entropy over all leading dimensions."""
    total = F.cross_entropy(
        logit_NX.flatten(0, -2), class_N.flatten(), ignore_index=UNKNOWN, reduction="sum"
    )
    return Part(total, (class_N != UNKNOWN).sum())


def _blurred(place_B2: torch.Tensor, num_places: int) -> torch.Tensor:
    """Target distributions (B, 2, G): all mass on a tip, or a bell curve between the tips."""
    places_G = torch.arange(num_places, device=place_B2.device, dtype=place_B2.dtype)
    bell_B2G = torch.exp(-0.5 * ((places_G - place_B2[..., None]) / _PLACE_BLUR).square())
    tip_B2 = (place_B2 <= 0) | (place_B2 >= num_places - 1)
    exact_B2G = (places_G == place_B2.round()[..., None]).to(bell_B2G.dtype)
    inner_G = (places_G > 0) & (places_G < num_places - 1)
    wanted_B2G = torch.where(tip_B2[..., None], exact_B2G, bell_B2G * inner_G)
    return wanted_B2G / wanted_B2G.sum(dim=-1, keepdim=True)


def _extents(extent_BK2: torch.Tensor, class_BK: torch.Tensor, num: int) -> torch.Tensor:
    """1 at positions (B, K, P, L) inside the extents of abnormal homologs, 0 elsewhere."""
    middle_L = torch.arange(num, device=extent_BK2.device) + 0.5
    edges = extent_BK2.nan_to_num() * num
    inside_BKL = (middle_L >= edges[..., :1] - _EXTENT_MARGIN) & (
        middle_L <= edges[..., 1:] + _EXTENT_MARGIN
    )
    of_BKP = class_BK[..., None] == torch.arange(1, 3, device=extent_BK2.device)
    return (inside_BKL[:, :, None] & of_BKP[..., None]).float()


def means(parts: Mapping[str, Part]) -> dict[str, torch.Tensor]:
    """Means of the parts by name, and ``loss``, their weighted sum."""
    found = {name: part.mean for name, part in parts.items()}
    total = torch.stack([WEIGHTS[name] * mean for name, mean in found.items()]).sum()
    return {"loss": total, **found}


def calibrate(
    readings: Sequence[Reading], targets: Targets, mask_BK: torch.Tensor
) -> dict[str, float]:
    """Fits the temperatures of a reader's logits on validation bags (Guo et al. 2017).

    Args:
        readings: readings of the bags, batch by batch.
        targets: truth of the bags.
        mask_BK: False for absent cells.

    Returns:
        ``kind``, ``segment`` and ``cell``: divisors of the logits.
    """
    kind_BX, segment_B2G, cell_BKX = (
        torch.cat([getattr(reading, name) for reading in readings]).double().cpu()
        for name in ("kind_BX", "segment_B2G", "cell_BKX")
    )
    labels = Labels.of(targets, mask_BK.cpu(), segment_B2G.shape[-1] - 2)
    place_B2 = labels.place_B2.round().nan_to_num(UNKNOWN).long()
    return {
        "kind": _temperature(kind_BX, labels.kind_B),
        "segment": _temperature(segment_B2G, place_B2),
        "cell": _temperature(cell_BKX, labels.class_BK),
    }


def _temperature(logit_NX: torch.Tensor, class_N: torch.Tensor) -> float:
    """The temperature that minimises the cross-entropy; 1 if no class is known."""
    known_N = class_N != UNKNOWN
    logit_NX, class_N = logit_NX[known_N], class_N[known_N]
    if not len(class_N):
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logit_NX / math.exp(log_temperature), class_N))

    return math.exp(minimize_scalar(loss, bounds=(-2, 3), method="bounded").x)
