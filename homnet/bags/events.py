"""Artificial abnormalities as index maps: output position t reads position map[t] of a source.

Every artificial abnormality of the paper's appendix A.1, including wrong pairs, is a list of at
most three pieces. A piece reads a run of positions of the homolog itself or of a donor, forwards or
backwards. One gather on the model's device applies the events of a batch, and the pieces also give
the true extent.

A microscope blurs a joined chromosome as a whole, so pieces do not meet in a sharp cut. Each is
read on past its ends, and its share of a position is the point spread's integral over the piece
(:attr:`EventConfig.seam_px`): far from a cut one piece has all of it, at a cut two have half, and
where the middle piece is shorter than the point spread all three mix. Shams are joined alike. A
second gather, of the positions near cuts, mixes all pieces there.

Donors come from the same cell (same staining and condensation), like a translocation partner. If
the cell lacks the type, they come from another cell of the same person. A patient's bags therefore
need only the patient's own pairs, on any worker.

Shape suffixes: N pairs, B bags, K cells, P homologs, C chromatids, L positions, Q pieces (3),
T chromosome types, J cuts (2), W positions around a cut, X a flattened axis.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from homnet.bags.draw import Bags, Draws, PairIndex
from homnet.errors import ConfigError, DataError, check_choices
from homnet.karyotype.chromosomes import (
    ACROCENTRICS,
    CHROMOSOME_INDEX,
    CHROMOSOMES,
    DENVER_GROUP_OF,
    SEQUENCE_LENGTH,
)
from homnet.karyotype.kinds import ARTIFICIAL, NORMAL, SHAM

_CODE: Final = {name: code for code, name in enumerate(ARTIFICIAL)}
_WHOLE: Final = 4096
"""A share of 1. Shares are integers, so that a mixture does not depend on the device or on what
else is in its batch."""
_REACH: Final = 4.0
"""Standard deviations of the point spread beyond which it takes no light."""
_FAR: Final = 30_000
"""A position beyond all others, in 16 bits."""
_FOREIGN: Final = ("addition", "replacement", "wrong_pair", "translocation")
"""Kinds that need a chromosome of another type."""


@dataclass(frozen=True)
class EventConfig:
    """The size, kinds and frequency of artificial abnormalities."""

    abnormal_share: float = 0.5
    """Share of abnormal bags (paper, appendix A.2: balanced)."""
    min_fraction: float = 0.10
    """Minimum size of an event, as a share of the chromosome's length."""
    max_fraction: float = 0.35
    """Maximum size of an event, as a share of the chromosome's length."""
    margin: float = 0.04
    """Share of the length at each tip without events: a chromosome that lost its end still has a
    rounded tip, and a cut through a tip would be a visible artefact."""
    jitter: float = 0.01
    """Standard deviation of breakpoints between the cells of a bag, as a share of the length."""
    robertsonian: Literal["acrocentric", "any"] = "acrocentric"
    """Types with Robertsonian events: the five acrocentrics, as in nature, or any type, which is
    another reading of appendix A.1."""
    sham_share: float = 0.0
    """Share of the normal bags that are cut and pasted without structural change."""
    translocations: bool = False
    """Whether to exchange ends between chromosomes, in addition to the paper's kinds."""
    seam_px: float = 1.0
    """Standard deviation of the point spread with which pieces are joined, image pixels: about one
    on real images. 0 cuts sharply, as do pairs of unknown scale (in memory, of no cohort)."""

    def __post_init__(self) -> None:
        check_choices(self)
        shares = ("abnormal_share", "sham_share", "min_fraction", "max_fraction", "margin")
        for name in (*shares, "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"events.{name} is {getattr(self, name)}; give a share between 0 and 1"
                )
        if not 0 <= self.seam_px < math.inf:
            raise ConfigError(
                f"events.seam_px is {self.seam_px}; give a width in pixels, 0 for sharp cuts"
            )


@dataclass(frozen=True)
class Events:
    """The events of B bags. The first axis of every array is B."""

    kind_B: NDArray[np.int64]
    """Index into :data:`ARTIFICIAL`."""
    fraction_B: NDArray[np.float64]
    """Size as a share of the length: 1 for robertsonian and wrong_pair, 0 for normal, and the lost
    share for translocation."""
    homolog_BK: NDArray[np.int64]
    """Index of the abnormal homolog, drawn per cell, so it carries no information."""
    donor_row_BK: NDArray[np.int64]
    """Row of the bank that foreign segments come from."""
    donor_homolog_BK: NDArray[np.int64]
    """Homolog of that row, 0 or 1."""
    stop_BKQ: NDArray[np.int16]
    """Output position after the end of each piece."""
    origin_BKQ: NDArray[np.int16]
    """Source position of each piece's first sample."""
    step_BKQ: NDArray[np.int16]
    """+1 forwards, -1 backwards."""
    donor_BKQ: NDArray[np.bool_]
    """Whether the piece reads the donor."""
    length_BK2: NDArray[np.int16]
    """Samples of the homolog before the event, and of its donor."""
    seam_B: NDArray[np.float32]
    """Standard deviation of the point spread, samples; 0 is a sharp cut."""
    truth_BK2: NDArray[np.int16]
    """First abnormal output position, and the position after the last."""

    def take(self, index: Any) -> Self:
        """Some of the bags, by index or slice."""
        return replace(self, **{name: value[index] for name, value in vars(self).items()})

    @property
    def spread_BW(self) -> NDArray[np.int16]:
        """See :func:`spread_of`."""
        return spread_of(self.seam_B)

    @property
    def donor_BK2(self) -> NDArray[np.int64]:
        """Row and homolog that foreign segments come from."""
        return np.stack([self.donor_row_BK, self.donor_homolog_BK], axis=-1)

    @property
    def abnormal_B(self) -> NDArray[np.bool_]:
        """Whether each bag is abnormal; sham bags are not."""
        return np.isin(self.kind_B, [_CODE[NORMAL], _CODE[SHAM]], invert=True)


def draw_events(
    bank: PairIndex, bags: Bags, config: EventConfig, *, seed: int, epoch: int = 0
) -> Events:
    """Draws one event per bag, the same in all its cells except for jitter of breakpoints.

    All kinds possible for the bag's chromosome type are equally likely. The label is independent of
    the type.

    Args:
        bank: structurally normal pairs, which include the donors.
        bags: B bags of the bank, as :func:`homnet.bags.draw.draw_bags` returns them.
        config: kinds and sizes.
        seed: seed of the run.
        epoch: number of the epoch.

    Raises:
        ConfigError: fractions and margins leave no room, or no person has two chromosome types.
        DataError: a pair of the bank is abnormal.
    """
    if bank.codes.abnormal_N.any():
        raise DataError("artificial abnormalities are made in normal pairs; take bank.normal()")
    if not 0 < config.min_fraction <= config.max_fraction <= 1 - 2 * config.margin:
        raise ConfigError(
            f"events of {config.min_fraction} to {config.max_fraction} of a chromosome do not fit "
            f"between margins of {config.margin}; lower max_fraction or margin"
        )
    codes = bank.codes
    part_B = codes.part_N[bags.row_BK[:, 0]]
    first_Q = np.flatnonzero(np.diff(part_B, prepend=-1))
    size_Q = np.diff(first_Q, append=len(bags))
    draws = Draws(seed, "events", epoch, codes.part_Q[part_B[first_Q]], size_Q)
    num_cells = bags.row_BK.shape[1]
    u_BX, u_BKX, z_BKX = draws.uniform(10), draws.uniform(num_cells, 3), draws.normal(num_cells, 2)

    kind_B = _draw_kinds(bags.chromosome_B, part_B, config, u_BX[:, :4])
    reach = config.max_fraction - config.min_fraction
    fraction_B = config.min_fraction + reach * u_BX[:, 4]
    room_B = 1 - 2 * config.margin - fraction_B
    start_B = config.margin + u_BX[:, 5] * room_B
    donor_start_B = config.margin + u_BX[:, 6] * room_B
    homolog_BK = (u_BKX[..., 0] < 0.5).astype(np.int64)
    kind_B, donor_row_BK = _draw_donors(bank, bags, kind_B, u_BX[:, 7], u_BKX[..., 1])
    donor_homolog_BK = (u_BKX[..., 2] < 0.5).astype(np.int64)
    # A sham takes its segment from another cell, which a bag of one pair lacks.
    kind_B[(kind_B == _CODE[SHAM]) & (bags.mask_BK.sum(axis=1) < 2)] = _CODE[NORMAL]
    sham_B = kind_B == _CODE[SHAM]
    donor_row_BK[sham_B] = _most_similar(codes.length_NP, bags, homolog_BK, sham_B)
    donor_homolog_BK[sham_B] = homolog_BK[sham_B]

    length_BK = codes.length_NP[bags.row_BK, homolog_BK]
    donor_length_BK = codes.length_NP[donor_row_BK, donor_homolog_BK]
    jitter_BK, size_jitter_BK = np.moveaxis(config.jitter * z_BKX.clip(-2, 2), -1, 0)
    size_BK = np.rint((fraction_B[:, None] + size_jitter_BK) * length_BK).astype(np.int64)
    size_BK = size_BK.clip(1, np.maximum(length_BK - 2, 1))
    start_BK = np.rint((start_B[:, None] + jitter_BK) * length_BK).astype(np.int64)
    start_BK = start_BK.clip(1, np.maximum(length_BK - size_BK - 1, 1))
    # A foreign segment is at most as long as its donor, so no background is pasted.
    foreign_B = _is(kind_B, "addition", "replacement", SHAM)
    size_BK = np.where(
        foreign_B[:, None], np.minimum(size_BK, np.maximum(donor_length_BK - 2, 1)), size_BK
    )
    donor_start_BK = np.rint((donor_start_B[:, None] + jitter_BK) * donor_length_BK)
    # The middle of a sham's segment is at the same place in both.
    middle_BK = (start_BK + size_BK / 2) / length_BK
    same_BK = np.rint(middle_BK * donor_length_BK - size_BK / 2)
    donor_start_BK = np.where(sham_B[:, None], same_BK, donor_start_BK).astype(np.int64)
    donor_start_BK = donor_start_BK.clip(1, np.maximum(donor_length_BK - size_BK - 1, 1))

    # The end gained in a translocation has its own size, and may be on either arm.
    gained_B = config.min_fraction + reach * u_BX[:, 8]
    gained_BK = np.rint((gained_B[:, None] + size_jitter_BK) * donor_length_BK).astype(np.int64)
    gained_BK = gained_BK.clip(1, np.maximum(donor_length_BK - 1, 1))
    short_arm_B = u_BX[:, 9] < 0.5

    whole_B = _is(kind_B, "robertsonian", "wrong_pair")
    # A bag's pairs are of one file, hence of one laboratory.
    seam_B = config.seam_px * np.nan_to_num(codes.scale_N[bags.row_BK[:, 0]])
    return Events(
        kind_B=kind_B,
        fraction_B=np.where(whole_B, 1.0, np.where(kind_B == _CODE[NORMAL], 0.0, fraction_B)),
        homolog_BK=homolog_BK,
        donor_row_BK=donor_row_BK,
        donor_homolog_BK=donor_homolog_BK,
        length_BK2=np.stack([length_BK, donor_length_BK], axis=-1).astype(np.int16),
        seam_B=seam_B.astype(np.float32),
        **_pieces(
            kind_B,
            length_BK,
            donor_length_BK,
            start_BK,
            size_BK,
            donor_start_BK,
            np.where(short_arm_B[:, None], gained_BK, 0),
            np.where(short_arm_B[:, None], 0, gained_BK),
        ),
    )


def _is(kind_B: NDArray[np.int64], *kinds: str) -> NDArray[np.bool_]:
    """Whether each code is of one of these kinds."""
    of_code = np.zeros(len(ARTIFICIAL), np.bool_)
    of_code[[_CODE[kind] for kind in kinds]] = True
    return of_code[kind_B]


def _pieces(kind_B: NDArray[np.int64], *places_BK: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Pieces and true extent of every bag and cell, as fields of :class:`Events`.

    Args:
        kind_B: codes of kinds.
        places_BK: the arguments of :func:`_pieces_of` after the kind.
    """
    shape_BK = places_BK[0].shape
    made: dict[str, NDArray[Any]] = {
        "stop_BKQ": np.zeros((*shape_BK, 3), np.int16),
        "origin_BKQ": np.zeros((*shape_BK, 3), np.int16),
        "step_BKQ": np.ones((*shape_BK, 3), np.int16),
        "donor_BKQ": np.zeros((*shape_BK, 3), np.bool_),
        "truth_BK2": np.zeros((*shape_BK, 2), np.int16),
    }
    for kind, code in _CODE.items():
        chosen = np.flatnonzero(kind_B == code)
        if not len(chosen):
            continue
        pieces, truth = _pieces_of(kind, *(place_BK[chosen] for place_BK in places_BK))
        for side in range(2):
            made["truth_BK2"][chosen, :, side] = truth[side]
        # Missing pieces repeat the last stop and so are empty.
        for q in range(3):
            piece = pieces[min(q, len(pieces) - 1)]
            names = ("stop_BKQ", "origin_BKQ", "step_BKQ", "donor_BKQ")
            for name, value in zip(names, piece, strict=True):
                made[name][chosen, :, q] = value
    return made


_Piece = tuple[Any, Any, int, bool]
"""Stop, origin, step, and whether it reads the donor."""


def _pieces_of(
    kind: str,
    n: NDArray[np.int64],
    m: NDArray[np.int64],
    s: NDArray[np.int64],
    e: NDArray[np.int64],
    d: NDArray[np.int64],
    gp: NDArray[np.int64],
    gq: NDArray[np.int64],
) -> tuple[list[_Piece], tuple[Any, Any]]:
    """The pieces of bags of one kind, and the first and last position of their truth.

    Args:
        kind: one of :data:`ARTIFICIAL`.
        n: length of the homolog; (B, K), like all following arguments.
        m: length of the donor.
        s: start of the event.
        e: size of the event.
        d: start of the donor's segment.
        gp: size of the end gained by the short arm in a translocation; 0 if on the long arm.
        gq: size of the end gained by the long arm; 0 if on the short arm.
    """
    match kind:
        case "deletion":
            return [(s, 0, 1, False), (n - e, s + e, 1, False)], (s - 1, s + 1)
        case "addition":
            added: list[_Piece] = [(s, 0, 1, False), (s + e, d, 1, True), (n + e, s, 1, False)]
            return added, (s, s + e)
        case "duplication":
            return [(s + e, 0, 1, False), (n + e, s, 1, False)], (s + e, s + 2 * e)
        case "inversion":
            turned: list[_Piece] = [
                (s, 0, 1, False),
                (s + e, s + e - 1, -1, False),
                (n, s + e, 1, False),
            ]
            return turned, (s, s + e)
        case "replacement" | "sham":
            pasted: list[_Piece] = [(s, 0, 1, False), (s + e, d, 1, True), (n, s + e, 1, False)]
            return pasted, ((s, s + e) if kind == "replacement" else (0, 0))
        case "robertsonian":
            return [(n, n - 1, -1, False), (2 * n, 0, 1, False)], (0, n)
        case "wrong_pair":
            return [(m, 0, 1, True)], (0, m)
        case "translocation":
            lost_p, lost_q = np.where(gp > 0, e, 0), np.where(gp > 0, 0, e)
            exchanged: list[_Piece] = [
                (gp, 0, 1, True),
                (gp + n - e, lost_p, 1, False),
                (gp + n - e + gq, m - gq, 1, True),
            ]
            first, last = np.where(gp > 0, 0, n - lost_q), np.where(gp > 0, gp, n - lost_q + gq)
            return exchanged, (first, last)
    return [(n, 0, 1, False)], (0, 0)


def _draw_kinds(
    chromosome_B: NDArray[np.int64],
    part_B: NDArray[np.int64],
    config: EventConfig,
    u_BX: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Codes of kinds (B), given four random numbers (B, 4) and the part of each bag."""
    left_out = (NORMAL, SHAM) if config.translocations else (NORMAL, SHAM, "translocation")
    abnormal = [_CODE[k] for k in ARTIFICIAL if k not in left_out]
    robertsonian = _CODE["robertsonian"]
    fits_T = np.isin(np.arange(len(CHROMOSOMES)), [CHROMOSOME_INDEX[c] for c in ACROCENTRICS])
    fits_T |= config.robertsonian == "any"
    other = np.asarray([k for k in abnormal if k != robertsonian])
    kind_B = np.where(
        fits_T[chromosome_B],
        np.asarray(abnormal)[(u_BX[:, 0] * len(abnormal)).astype(np.int64)],
        other[(u_BX[:, 0] * len(other)).astype(np.int64)],
    )
    # Shares are exact within each chromosome type of a part, so labels are balanced.
    group_B = part_B * len(CHROMOSOMES) + chromosome_B
    order_B = np.argsort(group_B + u_BX[:, 1])
    first_G = np.flatnonzero(np.diff(group_B[order_B], prepend=-1))
    size_G = np.diff(first_G, append=len(group_B))
    share_G = (1 - config.abnormal_share) * size_G + u_BX[order_B[first_G], 2]
    place_B = np.arange(len(group_B)) - np.repeat(first_G, size_G)
    normal_B = np.zeros(len(group_B), np.bool_)
    normal_B[order_B] = place_B < np.repeat(share_G.astype(np.int64), size_G)
    kind_B = np.where(normal_B, _CODE[NORMAL], kind_B)
    return np.where(normal_B & (u_BX[:, 3] < config.sham_share), _CODE[SHAM], kind_B)


def _draw_donors(
    bank: PairIndex,
    bags: Bags,
    kind_B: NDArray[np.int64],
    u_B: NDArray[np.float64],
    u_BK: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws a donor of another chromosome type for every pair: one type per bag, in the same cell.

    Wrong pairs use a type of the same Denver group. If the cell lacks the type, the donor is from
    another cell of the same person. Bags without a second type common to all their people get a
    duplication instead of a foreign segment.

    Returns:
        Kinds (B) and rows (B, K).
    """
    codes = bank.codes
    person_BK = codes.person_N[bags.row_BK]
    size_PT = codes.size_PT
    if (person_BK == person_BK[:, :1]).all():
        allowed_BT: NDArray[np.bool_] = size_PT[person_BK[:, 0]] > 0
    else:
        allowed_BT = np.asarray((size_PT[person_BK] > 0).all(axis=1))
    np.put_along_axis(allowed_BT, bags.chromosome_B[:, None], values=False, axis=1)
    # Without a second type of the group, any other type is allowed.
    wrong_B = np.flatnonzero(kind_B == _CODE["wrong_pair"])
    group_T = np.asarray([DENVER_GROUP_OF[c] for c in CHROMOSOMES])
    of_group_WT = allowed_BT[wrong_B] & (group_T[bags.chromosome_B[wrong_B]][:, None] == group_T)
    some_W = of_group_WT.any(axis=1)
    allowed_BT[wrong_B[some_W]] = of_group_WT[some_W]
    count_B = allowed_BT.sum(axis=1)
    alone_B = count_B == 0
    if alone_B.all():
        raise ConfigError(
            "artificial abnormalities need at least two chromosome types of a person in the "
            "training pairs; only one is there"
        )
    kind_B = np.where(alone_B & _is(kind_B, *_FOREIGN), _CODE["duplication"], kind_B)
    allowed_BT[alone_B, bags.chromosome_B[alone_B]] = True
    wanted_B = (u_B * np.maximum(count_B, 1)).astype(np.int64)
    donor_B = (allowed_BT.cumsum(axis=1) > wanted_B[:, None]).argmax(axis=1)
    in_cell_BK = codes.row_XT[codes.cell_N[bags.row_BK], donor_B[:, None]]
    place_BK = (u_BK * size_PT[person_BK, donor_B[:, None]]).astype(np.int64)
    stand_in_BK = codes.first_PT[person_BK, donor_B[:, None]] + place_BK
    return kind_B, np.where(in_cell_BK >= 0, in_cell_BK, stand_in_BK)


def _most_similar(
    length_NP: NDArray[Any], bags: Bags, homolog_BK: NDArray[np.int64], sham_B: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For each pair of the sham bags, the row of the other cell whose homolog is nearest in length.

    A segment keeps its size in samples, so its bands are displaced by as much as lengths differ.

    Returns:
        Rows (S, K) of the S sham bags.
    """
    row_BK, mask_BK, homolog_BK = bags.row_BK[sham_B], bags.mask_BK[sham_B], homolog_BK[sham_B]
    own_BK = length_NP[row_BK, homolog_BK].clip(1).astype(np.float64)
    other_BKJ = length_NP[row_BK[:, None, :], homolog_BK[:, :, None]]
    apart_BKJ = np.abs(np.log(own_BK[:, :, None] / other_BKJ.clip(1)))
    apart_BKJ[~mask_BK[:, None, :] | np.eye(mask_BK.shape[1], dtype=np.bool_)] = np.inf
    return np.take_along_axis(row_BK, apart_BKJ.argmin(axis=2), axis=1)


def spread_of(seam_B: NDArray[np.float32]) -> NDArray[np.int16]:
    """Share of the piece before a cut at the W / 2 samples before and after the cut, in 4096ths.

    Samples t - 1 and t lie on either side of a cut at t, half a sample from it. Without a point
    spread the share is thus 4096 before the cut and 0 after it, as it is beyond these samples.

    Args:
        seam_B: standard deviation of the point spread, samples.
    """
    reach = min(max(math.ceil(_REACH * seam_B.max(initial=0)), 1), SEQUENCE_LENGTH)
    with np.errstate(divide="ignore"):
        deviation_BW = -(np.arange(-reach, reach) + 0.5) / seam_B[:, None].astype(np.float64)
    share_BW: NDArray[np.float64] = torch.special.ndtr(torch.from_numpy(deviation_BW)).numpy()
    return np.rint(_WHOLE * share_BW).astype(np.int16)


@dataclass(frozen=True)
class EventTensors:
    """What :func:`rearrange` needs of :class:`Events`, as tensors on one device."""

    homolog_BK: torch.Tensor
    stop_BKQ: torch.Tensor
    origin_BKQ: torch.Tensor
    step_BKQ: torch.Tensor
    donor_BKQ: torch.Tensor
    length_BK2: torch.Tensor
    spread_BW: torch.Tensor

    @classmethod
    def of(cls, events: Events, device: torch.device | str) -> Self:
        """Moves the arrays to a device."""
        return cls(
            **{
                name: torch.as_tensor(getattr(events, name)).to(device)
                for name in cls.__annotations__
            }
        )

    def take(self, index: Any) -> Self:
        """Selects bags by slice or by a tensor of indices on the same device."""
        return replace(self, **{name: value[index] for name, value in vars(self).items()})


def apply_events(
    bank_NPCL: torch.Tensor,
    row_BK: torch.Tensor,
    donor_BK2: torch.Tensor,
    events: EventTensors,
) -> torch.Tensor:
    """Gathers the pairs of bags and rearranges one homolog of each pair by its pieces.

    Args:
        bank_NPCL: darkness of the bank, uint8, on the model's device.
        row_BK: rows of the bags.
        donor_BK2: row and homolog of their donors.
        events: pieces of each bag and cell.

    Returns:
        Darkness (B, K, 2, 2, L), uint8, truncated at position L.
    """
    donor_BKCL = bank_NPCL[donor_BK2[..., 0], donor_BK2[..., 1]]
    return rearrange(bank_NPCL[row_BK], donor_BKCL, events)


def rearrange(
    x_BKPCL: torch.Tensor, donor_BKCL: torch.Tensor, events: EventTensors
) -> torch.Tensor:
    """Rearranges one homolog of each pair by its pieces, in place.

    Args:
        x_BKPCL: darkness of the pairs, uint8.
        donor_BKCL: darkness of the donor of each pair.
        events: pieces of each bag and cell.

    Returns:
        ``x_BKPCL``, truncated at position L.
    """
    num_bags, num_cells, _, _, length = x_BKPCL.shape
    device = x_BKPCL.device
    bag = torch.arange(num_bags, device=device)[:, None]
    cell = torch.arange(num_cells, device=device)[None]
    itself_BKCL = x_BKPCL[bag, cell, events.homolog_BK]
    source_BKCX = torch.cat([itself_BKCL, donor_BKCL], dim=-1)

    t_L = torch.arange(length, device=device, dtype=torch.int16)
    stop_BKQ = events.stop_BKQ
    begin_BKQ = torch.nn.functional.pad(stop_BKQ[..., :-1], (1, 0))
    behind_BKQ = (length * events.donor_BKQ).to(torch.int16)
    offset_BKQ = events.origin_BKQ - events.step_BKQ * begin_BKQ
    q_BKL = (t_L >= stop_BKQ[..., 0:1]).long() + (t_L >= stop_BKQ[..., 1:2]).long()
    index_BKL = (offset_BKQ + behind_BKQ).gather(-1, q_BKL)
    index_BKL += events.step_BKQ.gather(-1, q_BKL) * t_L
    inside_BKL = t_L < stop_BKQ[..., 2:3]
    index_BKL = torch.where(inside_BKL, index_BKL, 0).long()
    changed_BKCL = source_BKCX.gather(-1, index_BKL[:, :, None].expand(-1, -1, 2, -1))
    changed_BKCL *= inside_BKL[:, :, None]

    t_BKX, share_BKQX = _seams(events, length)
    # Past a tip of a source its last sample is repeated. The darkness at a tip has already fallen
    # to the chromosome's edge because background follows, but at a junction chromosome follows:
    # background would be seen as a gap, and could make a position inside a chromosome 0.
    tip_BKQ = (events.length_BK2 - 1).gather(-1, events.donor_BKQ.long())
    index_BKQX = offset_BKQ[..., None] + events.step_BKQ[..., None] * t_BKX[:, :, None]
    index_BKQX = index_BKQX.minimum(tip_BKQ[..., None]).clamp_(min=0) + behind_BKQ[..., None]
    index_BKCX = index_BKQX.flatten(2)[:, :, None].long().expand(-1, -1, 2, -1)
    value_BKCQX = source_BKCX.gather(-1, index_BKCX).unflatten(-1, (3, -1))
    mixed_BKCX = (share_BKQX[:, :, None] * value_BKCQX).sum(dim=3, dtype=torch.int32)
    mixed_BKCX = (mixed_BKCX + _WHOLE // 2) // _WHOLE
    t_BKCX = t_BKX[:, :, None].long().expand(-1, -1, 2, -1)
    changed_BKCL.scatter_(-1, t_BKCX, mixed_BKCX.to(torch.uint8))
    x_BKPCL[bag, cell, events.homolog_BK] = changed_BKCL
    return x_BKPCL


def _seams(events: EventTensors, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The positions (B, K, X) near cuts, some more than once, and each piece's share of them.

    Shares (B, K, Q, X) are in 4096ths: together 4096, or 0 beyond the chromosome. They count every
    cut, so those of a position near two cuts are the same in both runs of positions.
    """
    cut_BKJ, end_BK1 = events.stop_BKQ[..., :-1], events.stop_BKQ[..., -1:]
    # Where one of two pieces is empty there is a tip of the chromosome, which is no junction.
    cut_BKJ = torch.where(cut_BKJ > 0, cut_BKJ, -_FAR)
    cut_BKJ = torch.where(cut_BKJ < end_BK1, cut_BKJ, _FAR)
    num_cells, width = cut_BKJ.shape[1], events.spread_BW.shape[1]
    around_W = torch.arange(width, device=cut_BKJ.device, dtype=torch.int16) - width // 2
    t_BKX = (cut_BKJ[..., None] + around_W).flatten(2).clamp_(0, length - 1)
    place_BKJX = t_BKX[:, :, None] - cut_BKJ[..., None] + width // 2
    spread_BKJW = events.spread_BW[:, None, None].expand(-1, num_cells, 2, -1)
    before_BKJX = spread_BKJW.gather(-1, place_BKJX.clamp_(0, width - 1).long()).int()
    first_BKX, later_BKX = before_BKJX.unbind(dim=2)
    share_BKQX = torch.stack([first_BKX, later_BKX - first_BKX, _WHOLE - later_BKX], dim=2)
    return t_BKX, share_BKQX * (t_BKX < end_BK1)[:, :, None]
