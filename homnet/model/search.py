"""A search over events by what is known of normal pairs, summed over the cells of a bag.

Eq. 10 adds what each pair shows by itself. But an abnormality lies at the same place in every cell:
weak signs at one place in five cells mean more than strong ones at five places. The search adds the
log likelihood ratio of each possible event over the cells, and compares events after that. It needs
no abnormal chromosome: the ratios follow from the mean profile of each type and the covariance of
normal pairs, which are measured once, on the training pairs.

Two families of events are searched, at all places and in many sizes:

- *inversions*: would the pair be more likely with the segment turned back?
- *foreign segments*: given the rest of the pair, would the segment be more likely in a chromosome
  of any type?

Deletions, duplications and exchanged ends shift the bands beside them, which both families notice.

Shape suffixes: N pairs, B bags, K cells, P homologs, C chromatids, L positions of the stretched
view, D positions of the search, X positions of both homologs (2 D), T chromosome types, F families,
H events of both families, R rows (the positions of all events of a family, one after the other),
S positions of an event, Y sums.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F

from homnet.model.contract import NUM_TYPES

FAMILIES: Final = ("inversion", "foreign segment")
"""Families of events, in the order of weights and scores."""
_SMALLEST: Final = 0.06
"""Smallest event, as a share of the chromosome."""
FEWEST_POSITIONS: Final = 25
"""Fewest positions of a search, at which the smallest event has two."""
_LARGEST: Final = 0.40
"""Largest event."""
_STEP: Final = 0.045
"""Step of sizes and of places, as a share of the chromosome, rounded to whole positions: one of 32,
three of 64. Two of 64 find no more, four fewer (LAB.md)."""
_OWN_VARIANCE: Final = 0.6
"""Weight of the diagonal in the covariance: a few hundred pairs do not determine all of it. Of .3,
.6 and .8, this was best on validation people (LAB.md)."""
_FLOOR: Final = 0.02
"""Added to all variances; profiles have variance 1."""
_POOLED_PAIRS: Final = 20
"""Weight of the covariance over all types, in pairs: rare types rely on it."""
_LARGEST_RATIO: Final = 4.0
"""Bound on the log likelihood ratio of a homolog, because real pairs are not quite Gaussian and a
cell may be cut out wrongly. 3 to 6 are alike; without it .002 of AUC are lost (LAB.md)."""


@dataclass(frozen=True)
class _Segments:
    """The segments of a family: first position and the position after the last, by size."""

    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, num_positions: int, *, margin: int) -> "_Segments":
        """Segments at least ``margin`` positions from the tips of a chromosome of D positions."""
        step = max(1, round(_STEP * num_positions))
        smallest, largest = (round(s * num_positions) for s in (_SMALLEST, _LARGEST))
        return cls(
            tuple(
                (start, start + size)
                for size in range(smallest, largest + 1, step)
                for start in range(margin, num_positions - size - margin + 1, step)
            )
        )

    def __len__(self) -> int:
        return len(self.places)

    def by_size(self) -> Iterator[tuple[int, list[int]]]:
        """Each size S, and the first positions (H) of its segments."""
        for size, same in groupby(self.places, key=lambda place: place[1] - place[0]):
            yield size, [start for start, _ in same]

    def positions(self) -> Iterator[torch.Tensor]:
        """The positions (H, S) of the segments of each size."""
        for size, starts in self.by_size():
            yield torch.tensor(starts)[:, None] + torch.arange(size)


class EventSearch(nn.Module):
    """Scores of a bag that say whether there is an event somewhere in its pairs.

    Only :attr:`weight_F` is chosen by looking at abnormal bags: it is fitted on validation bags
    (:mod:`homnet.training.logit_weights`). While it is 0 the search has no effect.
    """

    mean_TD: torch.Tensor
    """Mean profile of each type."""
    covariance_TXX: torch.Tensor
    """Covariance of both homologs' profiles, the same in either order."""
    any_D: torch.Tensor
    """Autocovariance of the profiles of all types, by distance."""
    weight_F: torch.Tensor
    """Weight of each family's score in the logit, not negative; see :meth:`weigh`."""
    is_weighted: bool
    """Whether a weight is above 0, so that the search counts in the logits of its model."""

    # Matrices that give the ratios, made from the moments.
    precision_TXD: torch.Tensor
    """From both homologs to the gradient on one."""
    swap_RD: torch.Tensor
    """Difference between the two positions that a row of an inversion exchanges."""
    turn_TRD: torch.Tensor
    """Its squares, summed over an event's rows, are the quadratic part of an inversion's ratio."""
    own_TRD: torch.Tensor
    """From the gradient: its squares are the surprise at a segment, given the rest of the pair."""
    any_RD: torch.Tensor
    """From the profile: its squares are the surprise if the segment is of any type."""
    constant_TH: torch.Tensor
    """Constant part of the ratio of foreign segments."""

    def __init__(self, num_positions: int) -> None:
        """Makes a search that knows no normal pairs yet; see :meth:`take_sums`.

        Args:
            num_positions: D, at least :data:`FEWEST_POSITIONS`.
        """
        super().__init__()
        self.num_positions, self._width = num_positions, 2 * num_positions
        # A turned tip would have no roll-off; a foreign end has one.
        self._inversions = _Segments.of(num_positions, margin=1)
        self._foreign = _Segments.of(num_positions, margin=0)
        self.register_buffer("mean_TD", torch.zeros(NUM_TYPES, num_positions))
        self.register_buffer("covariance_TXX", torch.eye(self._width).repeat(NUM_TYPES, 1, 1))
        self.register_buffer("any_D", F.one_hot(torch.tensor(0), num_positions).float())
        self.register_buffer("weight_F", torch.zeros(len(FAMILIES)))
        # An inversion exchanges pairs of positions: it has a row for each pair.
        inversion_rows = sum((stop - start) // 2 for start, stop in self._inversions.places)
        foreign_rows = sum(stop - start for start, stop in self._foreign.places)
        for name, shape in (
            ("precision_TXD", (NUM_TYPES, self._width, num_positions)),
            ("swap_RD", (inversion_rows, num_positions)),
            ("turn_TRD", (NUM_TYPES, inversion_rows, num_positions)),
            ("own_TRD", (NUM_TYPES, foreign_rows, num_positions)),
            ("any_RD", (foreign_rows, num_positions)),
            ("constant_TH", (NUM_TYPES, len(self._foreign))),
        ):
            self.register_buffer(name, torch.zeros(shape), persistent=False)
        self.is_weighted = False

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._make()
        self.is_weighted = bool(self.weight_F.any())

    def weigh(self, weight_F: torch.Tensor) -> None:
        """Sets the weight of each family's score."""
        self.weight_F.copy_(weight_F)
        self.is_weighted = bool(weight_F.any())

    @property
    def num_sums(self) -> int:
        """Number of sums of each type, Y."""
        return self.num_positions + self._width**2

    @torch.no_grad()
    def sums(self, x_BKPCL: torch.Tensor, chromosome_B: torch.Tensor) -> torch.Tensor:
        """Sums of the profiles of pairs, and of products of them, by type (T, Y), float64.

        Args:
            x_BKPCL: normal pairs in the stretched view, standardised.
            chromosome_B: their types.
        """
        profile_BKPD = self._profiles(x_BKPCL).double()
        sums_TY = profile_BKPD.new_zeros(NUM_TYPES, self.num_sums)
        for chromosome in chromosome_B.unique().tolist():
            own_NPD = profile_BKPD[chromosome_B == chromosome].flatten(0, 1)
            both_NX = torch.cat([own_NPD.flatten(1), own_NPD.flip(1).flatten(1)])
            product_XX = both_NX.T @ both_NX / 2
            sums_TY[chromosome] = torch.cat([own_NPD.mean(dim=1).sum(dim=0), product_XX.flatten()])
        return sums_TY

    @torch.no_grad()
    def take_sums(self, sums_TY: torch.Tensor, count_T: torch.Tensor) -> None:
        """Takes mean and covariance from :meth:`sums` over all pairs, and their number by type."""
        size, width = self.num_positions, self._width
        count_T1 = count_T[:, None].clamp(min=1)
        mean_TD, product_TY = sums_TY.split([size, width**2], dim=1)
        mean_TD = mean_TD / count_T1
        mean_TX = mean_TD.repeat(1, 2)
        own_TXX = (product_TY / count_T1).unflatten(1, (width, width))
        own_TXX = own_TXX - mean_TX[:, :, None] * mean_TX[:, None]
        share_T11 = (count_T / count_T.sum().clamp(min=1))[:, None, None]
        pooled_XX = (share_T11 * own_TXX).sum(dim=0)
        weight_T11 = (count_T / (count_T + _POOLED_PAIRS))[:, None, None]
        own_TXX = torch.lerp(pooled_XX.expand_as(own_TXX), own_TXX, weight_T11)
        variance_TXX = torch.diag_embed(own_TXX.diagonal(dim1=1, dim2=2))
        floor_XX = _FLOOR * torch.eye(width, dtype=own_TXX.dtype, device=own_TXX.device)
        self.covariance_TXX.copy_(torch.lerp(own_TXX, variance_TXX, _OWN_VARIANCE) + floor_XX)
        self.mean_TD.copy_(mean_TD)
        of_all_DD = product_TY.sum(dim=0).view(width, width)[:size, :size] / count_T.sum().clamp(
            min=1
        )
        self.any_D.copy_(torch.stack([of_all_DD.diagonal(d).mean() for d in range(size)]))
        self.any_D[0] += _FLOOR
        self._make()

    @torch.no_grad()
    def ratios(
        self,
        x_BKPCL: torch.Tensor,
        chromosome_B: torch.Tensor,
        count_T: list[int] | None = None,
    ) -> torch.Tensor:
        """Log likelihood ratio of each event in each pair (B, K, H), on either homolog.

        Args:
            x_BKPCL: pairs in the stretched view, standardised.
            chromosome_B: their types.
            count_T: number of pairs of each type, if they are sorted by type. Otherwise they are
                sorted here, and the host waits for the device.
        """
        with _full_precision(x_BKPCL.device.type):
            profile_BKPD = self._profiles(x_BKPCL)
            if count_T is not None:
                ratio_NH = self._ratios(profile_BKPD.flatten(0, 1), count_T)
            else:
                type_N = chromosome_B.repeat_interleave(profile_BKPD.shape[1])
                order_N = type_N.argsort()
                counted = torch.bincount(type_N, minlength=NUM_TYPES).tolist()
                sorted_NH = self._ratios(profile_BKPD.flatten(0, 1)[order_N], counted)
                ratio_NH = torch.empty_like(sorted_NH)
                ratio_NH[order_N] = sorted_NH
        ratio_BKH: torch.Tensor = ratio_NH.unflatten(0, profile_BKPD.shape[:2])
        return ratio_BKH

    def scores(self, ratio_BKH: torch.Tensor, mask_BK: torch.Tensor) -> torch.Tensor:
        """Scores (B, F) of each family: the log mean, over events, of the summed ratios."""
        total_BH = (ratio_BKH * mask_BK[..., None]).sum(dim=1)
        return torch.stack(
            [own.logsumexp(dim=-1) - math.log(own.shape[-1]) for own in self._families(total_BH)],
            dim=-1,
        )

    def contributions(
        self, ratio_NH: torch.Tensor, bag_N: torch.Tensor, size_B: torch.Tensor
    ) -> torch.Tensor:
        """What each pair adds to the logit of its bag (N); together the weighted :meth:`scores`.

        A pair is judged at the places that all pairs of its bag point to. What it costs to look at
        many places is shared evenly by the pairs.

        Args:
            ratio_NH: ratios of the pairs of all bags.
            bag_N: index of the bag of each pair.
            size_B: number of pairs of each bag.
        """
        total_BH = ratio_NH.new_zeros(len(size_B), ratio_NH.shape[1]).index_add(0, bag_N, ratio_NH)
        added_N = ratio_NH.new_zeros(len(ratio_NH))
        families = zip(
            self.weight_F, self._families(total_BH), self._families(ratio_NH), strict=True
        )
        for weight, total_BX, ratio_NX in families:
            share_BX = total_BX.softmax(dim=-1)
            entropy_B = -torch.special.xlogy(share_BX, share_BX).sum(dim=-1)
            cost_B = (entropy_B - math.log(total_BX.shape[-1])) / size_B
            added_N += weight * ((share_BX[bag_N] * ratio_NX).sum(dim=-1) + cost_B[bag_N])
        return added_N

    def forward(
        self, x_BKPCL: torch.Tensor, mask_BK: torch.Tensor, chromosome_B: torch.Tensor
    ) -> torch.Tensor:
        """What the search adds to the logits of bags (B)."""
        score_BF = self.scores(self.ratios(x_BKPCL, chromosome_B), mask_BK)
        added_B: torch.Tensor = (score_BF * self.weight_F).sum(dim=-1)
        return added_B

    def _families(self, of_event: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Cuts the last axis (H) into families."""
        return of_event.tensor_split([len(self._inversions)], dim=-1)

    def _profiles(self, x_BKPCL: torch.Tensor) -> torch.Tensor:
        """Mean of the chromatids at D positions (B, K, P, D), with mean 0 and variance 1."""
        profile_BKPD = x_BKPCL.float().mean(dim=3).unflatten(-1, (self.num_positions, -1)).mean(-1)
        centred = profile_BKPD - profile_BKPD.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        scaled_BKPD: torch.Tensor = centred * torch.rsqrt(variance + 1e-4)
        return scaled_BKPD

    def _ratios(self, profile_NPD: torch.Tensor, count_T: list[int]) -> torch.Tensor:
        """Ratios (N, H) of pairs sorted by type, whose maps stay in the cache for all of them."""
        found = []
        for chromosome, profile in enumerate(profile_NPD.split(count_T)):
            if not len(profile):
                continue
            centred = profile - self.mean_TD[chromosome]
            # Both homologs, the one in question first.
            both_NPX = torch.stack([centred.flatten(1), centred.flip(1).flatten(1)], dim=1)
            gradient = both_NPX @ self.precision_TXD[chromosome]
            # Turning a segment back changes the profile by what its rows exchange. The squared
            # distance from normal pairs then changes by a linear and a quadratic part.
            turned = profile @ self.turn_TRD[chromosome].T
            linear = (profile @ self.swap_RD.T) * (gradient @ self.swap_RD.T)
            inversion = _summed(linear - turned * turned / 2, self._inversions, each=2)
            own = gradient @ self.own_TRD[chromosome].T
            of_any = profile @ self.any_RD.T
            surprise = _summed(own * own - of_any * of_any, self._foreign, each=1)
            foreign = surprise / 2 + self.constant_TH[chromosome]
            ratio_NPH = torch.cat([inversion, foreign], dim=-1)
            # Of a type without normal training pairs nothing is known.
            found.append(torch.where(self.mean_TD[chromosome].any(), ratio_NPH, 0.0))
        bounded_NPH = _LARGEST_RATIO * torch.tanh(torch.cat(found) / _LARGEST_RATIO)
        ratio_NH: torch.Tensor = bounded_NPH.logsumexp(dim=1) - math.log(2)
        return ratio_NH

    @torch.no_grad()
    def _make(self) -> None:
        """Makes the matrices, in float64 on the CPU."""
        size = self.num_positions
        precision_TXX = torch.linalg.inv(self.covariance_TXX.double().cpu())
        own_TDD = precision_TXX[:, :size, :size]
        any_D, at_D = self.any_D.double().cpu(), torch.arange(size)
        longest = max(stop - start for start, stop in self._foreign.places)
        any_SS = any_D[(at_D[:, None] - at_D).abs()][:longest, :longest]
        # Means at each distance need not be those of one covariance; what is lacking is added.
        lacking = (1e-3 - torch.linalg.eigvalsh(any_SS)[0]).clamp(min=0)
        any_SS = any_SS + lacking * torch.eye(longest)
        identity_DD = torch.eye(size, dtype=torch.float64)
        swaps, turns, owns, anys, constants = [], [], [], [], []
        for place_HS in self._inversions.positions():
            half = place_HS.shape[1] // 2
            swap_HSD = identity_DD[place_HS.flip(1)[:, :half]] - identity_DD[place_HS[:, :half]]
            # The profile changes by minus the swaps' transpose times the swaps.
            quadratic = torch.einsum("hsd,tde,hre->thsr", swap_HSD, own_TDD, swap_HSD)
            turn = torch.linalg.cholesky(quadratic).mT @ swap_HSD
            swaps.append(swap_HSD.flatten(0, 1))
            turns.append(turn.flatten(1, 2))
        for place_HS in self._foreign.positions():
            length = place_HS.shape[1]
            rows, columns = place_HS[:, :, None], place_HS[:, None]
            given_THSS = torch.linalg.inv(own_TDD[:, rows, columns])
            of_any_SS = any_SS[:length, :length]
            at_HSD = identity_DD[place_HS]
            owns.append((torch.linalg.cholesky(given_THSS).mT @ at_HSD).flatten(1, 2))
            whitening_SS = torch.linalg.inv(torch.linalg.cholesky(of_any_SS))
            anys.append((whitening_SS @ at_HSD).flatten(0, 1))
            constants.append((torch.logdet(given_THSS) - torch.logdet(of_any_SS)) / 2)
        for buffer, made in (
            (self.precision_TXD, precision_TXX[:, :, :size]),
            (self.swap_RD, torch.cat(swaps)),
            (self.turn_TRD, torch.cat(turns, dim=1)),
            (self.own_TRD, torch.cat(owns, dim=1)),
            (self.any_RD, torch.cat(anys)),
            (self.constant_TH, torch.cat(constants, dim=1)),
        ):
            buffer.copy_(made)


def _full_precision(device_type: str) -> AbstractContextManager[Any]:
    """Context that overrules a lower precision for matrix products, where there is one."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _summed(row_NPR: torch.Tensor, segments: _Segments, *, each: int) -> torch.Tensor:
    """Sums the rows of each segment (N, P, H), which has one for ``each`` positions."""
    found, at = [], 0
    for size, starts in segments.by_size():
        rows, count = size // each, len(starts)
        part = row_NPR[..., at : at + rows * count]
        found.append(part.unflatten(-1, (count, rows)).sum(dim=-1))
        at += rows * count
    return torch.cat(found, dim=-1)
