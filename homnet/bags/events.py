"""Artificial abnormalities as index maps: output position t reads position map[t] of a source.

Every artificial abnormality of the paper's appendix A.1, including wrong pairs, is a list of at
most three pieces. A piece reads a run of positions of the homolog itself or of a donor, forwards or
backwards. One gather on the model's device applies the events of a batch, and the pieces also give
the true extent.

Donors come from the same cell (same staining and condensation), like a translocation partner. If
the cell lacks the type, they come from another cell of the same person. A patient's bags therefore
need only the patient's own pairs, on any worker.

Shape suffixes: N pairs, B bags, K cells, P homologs, C chromatids, L positions, Q pieces (3),
T chromosome types, X a flattened axis.
"""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from homnet.bags.draw import Bags, PairIndex
from homnet.errors import ConfigError
from homnet.karyotype.chromosomes import (
    ACROCENTRICS,
    CHROMOSOME_INDEX,
    CHROMOSOMES,
    DENVER_GROUP_OF,
)
from homnet.karyotype.kinds import ARTIFICIAL, NORMAL, SHAM

_CODE: Final = {name: code for code, name in enumerate(ARTIFICIAL)}
_FOREIGN: Final = tuple(
    _CODE[kind] for kind in ("addition", "replacement", "wrong_pair", "translocation")
)
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


@dataclass(frozen=True)
class Events:
    """The events of B bags, the same on all workers. The first axis of every array is B."""

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
    stop_BKQ: NDArray[np.int64]
    """Output position after the end of each piece."""
    origin_BKQ: NDArray[np.int64]
    """Source position of each piece's first sample."""
    step_BKQ: NDArray[np.int64]
    """+1 forwards, -1 backwards."""
    donor_BKQ: NDArray[np.bool_]
    """Whether the piece reads the donor."""
    truth_BK2: NDArray[np.int64]
    """First abnormal output position, and the position after the last."""

    def take(self, index: Any) -> Self:
        """Some of the bags, by index or slice."""
        return replace(self, **{name: value[index] for name, value in vars(self).items()})

    @property
    def abnormal_B(self) -> NDArray[np.bool_]:
        """Whether each bag is abnormal; sham bags are not."""
        return np.isin(self.kind_B, [_CODE[NORMAL], _CODE[SHAM]], invert=True)


def draw_events(
    bank: PairIndex, bags: Bags, config: EventConfig, generator: np.random.Generator
) -> Events:
    """Draws one event per bag, the same in all its cells except for jitter of breakpoints.

    All kinds possible for the bag's chromosome type are equally likely. The label is independent of
    the type.

    Args:
        bank: structurally normal pairs, which include the donors.
        bags: B bags of the bank.
        config: kinds and sizes.
        generator: random generator.

    Raises:
        ConfigError: fractions and margins leave no room, or no person has two chromosome types.
    """
    if not 0 < config.min_fraction <= config.max_fraction <= 1 - 2 * config.margin:
        raise ConfigError(
            f"events of {config.min_fraction} to {config.max_fraction} of a chromosome do not fit "
            f"between margins of {config.margin}; lower max_fraction or margin"
        )
    shape_BK = bags.row_BK.shape
    kind_B = _draw_kinds(bags.chromosome_B, config, generator)
    fraction_B = generator.uniform(config.min_fraction, config.max_fraction, len(bags))
    room_B = 1 - 2 * config.margin - fraction_B
    start_B = config.margin + generator.random(len(bags)) * room_B
    donor_start_B = config.margin + generator.random(len(bags)) * room_B
    homolog_BK = generator.integers(0, 2, shape_BK)
    kind_B, donor_row_BK = _draw_donors(bank, bags, kind_B, generator)
    donor_homolog_BK = generator.integers(0, 2, shape_BK)
    sham_B = kind_B == _CODE[SHAM]
    next_BK = np.where(
        np.roll(bags.mask_BK, -1, axis=1), np.roll(bags.row_BK, -1, axis=1), bags.row_BK[:, :1]
    )
    donor_row_BK[sham_B] = next_BK[sham_B]
    donor_homolog_BK[sham_B] = homolog_BK[sham_B]
    donor_start_B[sham_B] = start_B[sham_B]

    length_NP = bank.length_NP
    length_BK = length_NP[bags.row_BK, homolog_BK]
    donor_length_BK = length_NP[donor_row_BK, donor_homolog_BK]
    jitter_BK = config.jitter * generator.standard_normal(shape_BK).clip(-2, 2)
    size_jitter_BK = config.jitter * generator.standard_normal(shape_BK).clip(-2, 2)
    size_BK = np.rint((fraction_B[:, None] + size_jitter_BK) * length_BK).astype(np.int64)
    size_BK = size_BK.clip(1, np.maximum(length_BK - 2, 1))
    start_BK = np.rint((start_B[:, None] + jitter_BK) * length_BK).astype(np.int64)
    start_BK = start_BK.clip(1, np.maximum(length_BK - size_BK - 1, 1))
    # A foreign segment is at most as long as its donor, so no background is pasted.
    foreign_B = np.isin(kind_B, [_CODE["addition"], _CODE["replacement"], _CODE[SHAM]])
    size_BK = np.where(
        foreign_B[:, None], np.minimum(size_BK, np.maximum(donor_length_BK - 2, 1)), size_BK
    )
    donor_start_BK = np.rint((donor_start_B[:, None] + jitter_BK) * donor_length_BK).astype(
        np.int64
    )
    donor_start_BK = donor_start_BK.clip(1, np.maximum(donor_length_BK - size_BK - 1, 1))

    # The end gained in a translocation has its own size, and may be on either arm.
    gained_B = generator.uniform(config.min_fraction, config.max_fraction, len(bags))
    gained_BK = np.rint((gained_B[:, None] + size_jitter_BK) * donor_length_BK).astype(np.int64)
    gained_BK = gained_BK.clip(1, np.maximum(donor_length_BK - 1, 1))
    short_arm_B = generator.random(len(bags)) < 0.5

    whole_B = np.isin(kind_B, [_CODE["robertsonian"], _CODE["wrong_pair"]])
    return Events(
        kind_B=kind_B,
        fraction_B=np.where(whole_B, 1.0, np.where(kind_B == _CODE[NORMAL], 0.0, fraction_B)),
        homolog_BK=homolog_BK,
        donor_row_BK=donor_row_BK,
        donor_homolog_BK=donor_homolog_BK,
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


def _pieces(
    kind_B: NDArray[np.int64],
    n: NDArray[np.int64],
    m: NDArray[np.int64],
    s: NDArray[np.int64],
    e: NDArray[np.int64],
    d: NDArray[np.int64],
    gp: NDArray[np.int64],
    gq: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """Pieces and true extent of every bag and cell, as fields of :class:`Events`.

    Args:
        kind_B: codes of kinds.
        n: length of the homolog; (B, K), like all following arguments.
        m: length of the donor.
        s: start of the event.
        e: size of the event.
        d: start of the donor's segment.
        gp: size of the end gained by the short arm in a translocation; 0 if on the long arm.
        gq: size of the end gained by the long arm; 0 if on the short arm.
    """
    lost_p, lost_q = np.where(gp > 0, e, 0), np.where(gp > 0, 0, e)
    zero = np.zeros_like(n)
    pasted = [(s, 0, 1, False), (s + e, d, 1, True), (n, s + e, 1, False)]
    turned = [(s, 0, 1, False), (s + e, s + e - 1, -1, False), (n, s + e, 1, False)]
    added = [(s, 0, 1, False), (s + e, d, 1, True), (n + e, s, 1, False)]
    exchanged = [
        (gp, 0, 1, True),
        (gp + n - e, lost_p, 1, False),
        (gp + n - e + gq, m - gq, 1, True),
    ]
    exchanged_truth = (np.where(gp > 0, 0, n - lost_q), np.where(gp > 0, gp, n - lost_q + gq))
    # kind: ((stop, origin, step, reads the donor) per piece, (first, stop) of the truth)
    table: dict[str, tuple[list[tuple[Any, Any, int, bool]], tuple[Any, Any]]] = {
        NORMAL: ([(n, 0, 1, False)], (zero, zero)),
        "deletion": ([(s, 0, 1, False), (n - e, s + e, 1, False)], (s - 1, s + 1)),
        "addition": (added, (s, s + e)),
        "duplication": ([(s + e, 0, 1, False), (n + e, s, 1, False)], (s + e, s + 2 * e)),
        "inversion": (turned, (s, s + e)),
        "replacement": (pasted, (s, s + e)),
        "robertsonian": ([(n, n - 1, -1, False), (2 * n, 0, 1, False)], (zero, n)),
        "wrong_pair": ([(m, 0, 1, True)], (zero, m)),
        "translocation": (exchanged, exchanged_truth),
        SHAM: (pasted, (zero, zero)),
    }
    shape_BKQ = (*n.shape, 3)
    made: dict[str, NDArray[Any]] = {
        "stop_BKQ": np.zeros(shape_BKQ, np.int64),
        "origin_BKQ": np.zeros(shape_BKQ, np.int64),
        "step_BKQ": np.ones(shape_BKQ, np.int64),
        "donor_BKQ": np.zeros(shape_BKQ, np.bool_),
        "truth_BK2": np.zeros((*n.shape, 2), np.int64),
    }
    for kind, (pieces, (first, last)) in table.items():
        chosen = kind_B == _CODE[kind]
        made["truth_BK2"][chosen] = np.stack([first, last], axis=-1)[chosen]
        # Missing pieces repeat the last stop and so are empty.
        for q in range(3):
            piece = pieces[min(q, len(pieces) - 1)]
            names = ("stop_BKQ", "origin_BKQ", "step_BKQ", "donor_BKQ")
            for name, value in zip(names, piece, strict=True):
                made[name][chosen, :, q] = np.broadcast_to(value, n.shape)[chosen]
    return made


def _draw_kinds(
    chromosome_B: NDArray[np.int64], config: EventConfig, generator: np.random.Generator
) -> NDArray[np.int64]:
    left_out = (NORMAL, SHAM) if config.translocations else (NORMAL, SHAM, "translocation")
    abnormal = [_CODE[k] for k in ARTIFICIAL if k not in left_out]
    robertsonian = _CODE["robertsonian"]
    fits = np.isin(chromosome_B, [CHROMOSOME_INDEX[c] for c in ACROCENTRICS])
    if config.robertsonian == "any":
        fits = np.ones_like(fits)
    place_B = generator.random(len(chromosome_B))
    other = np.asarray([k for k in abnormal if k != robertsonian])
    kind_B = np.where(
        fits,
        np.asarray(abnormal)[(place_B * len(abnormal)).astype(np.int64)],
        other[(place_B * len(other)).astype(np.int64)],
    )
    # Shares are exact within each chromosome type, so labels are balanced.
    normal_B = np.zeros(len(kind_B), np.bool_)
    for chromosome in np.unique(chromosome_B):
        bags = generator.permutation(np.nonzero(chromosome_B == chromosome)[0])
        share = (1 - config.abnormal_share) * len(bags)
        normal_B[bags[: int(share + generator.random())]] = True
    sham_B = normal_B & (generator.random(len(kind_B)) < config.sham_share)
    kind_B = np.where(normal_B, _CODE[NORMAL], kind_B)
    return np.where(sham_B, _CODE[SHAM], kind_B)


def _draw_donors(
    bank: PairIndex, bags: Bags, kind_B: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws a donor of another chromosome type for every pair: one type per bag, in the same cell.

    Wrong pairs use a type of the same Denver group. If the cell lacks the type, the donor is from
    another cell of the same person. Bags without a second type common to all their people get a
    duplication instead of a foreign segment.

    Returns:
        Kinds (B) and rows (B, K).
    """
    num_types = len(CHROMOSOMES)
    type_N = bank.frame["chromosome"].to_numpy()
    person_N = bank.numbered("hospital", "patient_id")
    cell_N = bank.numbered("hospital", "patient_id", "cell_id")
    row_of = np.full((cell_N.max() + 1, num_types), -1)
    row_of[cell_N, type_N] = np.arange(len(bank))
    size_X = np.bincount(person_N * num_types + type_N, minlength=(person_N.max() + 1) * num_types)
    first_X = np.cumsum(size_X) - size_X
    by_person_N = np.argsort(person_N * num_types + type_N, kind="stable")

    # Padding refers to row 0, which may be of another person.
    row_BK = np.where(bags.mask_BK, bags.row_BK, bags.row_BK[:, :1])
    person_BK = person_N[row_BK]
    present_PT = size_X.reshape(-1, num_types) > 0
    allowed_BT: NDArray[np.bool_] = np.asarray(present_PT[person_BK].all(axis=1))
    np.put_along_axis(allowed_BT, bags.chromosome_B[:, None], values=False, axis=1)
    group_T = np.asarray([DENVER_GROUP_OF[c] for c in CHROMOSOMES])
    of_group_BT = allowed_BT & (group_T[bags.chromosome_B][:, None] == group_T)
    # Without a second type of the group, any other type is allowed.
    wrong_B = (kind_B == _CODE["wrong_pair"]) & of_group_BT.any(axis=1)
    allowed_BT = np.where(wrong_B[:, None], of_group_BT, allowed_BT)
    alone_B = ~allowed_BT.any(axis=1)
    if alone_B.all():
        raise ConfigError(
            "artificial abnormalities need at least two chromosome types of a person in the "
            "training pairs; only one is there"
        )
    kind_B = np.where(alone_B & np.isin(kind_B, _FOREIGN), _CODE["duplication"], kind_B)
    allowed_BT[alone_B, bags.chromosome_B[alone_B]] = True
    donor_B = (generator.random(allowed_BT.shape) * allowed_BT).argmax(axis=1)
    in_cell_BK = row_of[cell_N[row_BK], donor_B[:, None]]
    of_person_BK = person_BK * num_types + donor_B[:, None]
    place_BK = (generator.random(row_BK.shape) * size_X[of_person_BK]).astype(np.int64)
    stand_in_BK = by_person_N[first_X[of_person_BK] + place_BK]
    return kind_B, np.where(in_cell_BK >= 0, in_cell_BK, stand_in_BK)


@dataclass(frozen=True)
class EventTensors:
    """:class:`Events` as tensors on one device, ready for :func:`apply_events`."""

    homolog_BK: torch.Tensor
    donor_row_BK: torch.Tensor
    donor_homolog_BK: torch.Tensor
    stop_BKQ: torch.Tensor
    origin_BKQ: torch.Tensor
    step_BKQ: torch.Tensor
    donor_BKQ: torch.Tensor

    @classmethod
    def of(cls, events: Events, device: torch.device | str) -> Self:
        """Moves the arrays that :func:`apply_events` needs to a device."""
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
    bank_NPCL: torch.Tensor, row_BK: torch.Tensor, events: EventTensors
) -> torch.Tensor:
    """Gathers the pairs of bags and rearranges one homolog of each pair by its pieces.

    Args:
        bank_NPCL: darkness of the bank, uint8, on the model's device.
        row_BK: rows of the bags.
        events: pieces of each bag and cell.

    Returns:
        Darkness (B, K, 2, 2, L), uint8, truncated at position L.
    """
    x_BKPCL = bank_NPCL[row_BK]
    num_bags, num_cells, _, _, length = x_BKPCL.shape
    bag = torch.arange(num_bags, device=row_BK.device)[:, None]
    cell = torch.arange(num_cells, device=row_BK.device)[None]
    itself_BKCL = x_BKPCL[bag, cell, events.homolog_BK]
    donor_BKCL = bank_NPCL[events.donor_row_BK, events.donor_homolog_BK]
    # The homolog and its donor, concatenated, with one background position at the end.
    source_BKCX = torch.nn.functional.pad(torch.cat([itself_BKCL, donor_BKCL], dim=-1), (0, 1))

    t_L = torch.arange(length, device=row_BK.device)
    stop_BKQ = events.stop_BKQ
    begin_BKQ = torch.nn.functional.pad(stop_BKQ[..., :-1], (1, 0))
    offset_BKQ = events.origin_BKQ - events.step_BKQ * begin_BKQ + length * events.donor_BKQ
    q_BKL = (t_L >= stop_BKQ[..., 0:1]).long() + (t_L >= stop_BKQ[..., 1:2]).long()
    index_BKL = offset_BKQ.gather(-1, q_BKL) + events.step_BKQ.gather(-1, q_BKL) * t_L
    index_BKL = torch.where(t_L < stop_BKQ[..., 2:3], index_BKL, 2 * length)
    changed_BKCL = source_BKCX.gather(-1, index_BKL[:, :, None].expand(-1, -1, 2, -1))
    x_BKPCL[bag, cell, events.homolog_BK] = changed_BKCL
    return x_BKPCL
