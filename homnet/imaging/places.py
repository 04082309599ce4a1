"""Finds the place of every chromosome of a karyogram: its type and its homologs.

Blobs are taken in reading order. A hidden Markov model runs over the places of a layout: at
each chromosome it is at a place, and has seen so many of that place's chromosomes. Three witnesses
give the probabilities: where there are gaps and new rows, what number is printed nearby, and what
the type classifier says of the bands. All layouts are tried. The probability of each chromosome's
type is the sum over all paths through all layouts, so what is ambiguous comes out as uncertain.

Shape suffixes: N chromosomes, T types, S states (places times counts).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from homnet.imaging.layouts import LAYOUTS, Layout
from homnet.karyotype.chromosomes import CHROMOSOMES

Floats = NDArray[np.float64]

_MAX_COUNT: Final = 4
"""Most chromosomes of one place."""
_COUNTS: Final = (0.006, 0.06, 0.914, 0.015, 0.005)
"""Probabilities that an autosome's place holds 0, 1, 2, ... chromosomes."""
_SEX_COUNTS: Final = (0.3, 0.4, 0.28, 0.015, 0.005)
"""The same for X and Y."""
_STRAY: Final = 0.004
"""Probability that a blob is no chromosome of any place: a marker, or clutter."""
_UNUSUAL_END: Final = 0.02
"""Probability that a row ends where none of the known layouts ends one."""
_WITHIN_BLOB: Final = -2.0
"""Log odds of another place for a chromosome that touches the one before it."""
_MOST: Final = 30.0
"""Largest difference of log likelihoods of one chromosome."""


@dataclass(frozen=True)
class Reading:
    """One way to read a blob: as one chromosome, or as several from left to right."""

    log_weight: float
    """Log prior weight of this way."""
    log_type_NT: Floats
    """Log likelihood ratio of each type, over a blob of which nothing is known, for each of the N
    chromosomes."""


@dataclass(frozen=True)
class BlobEvidence:
    """What is known of a blob on the page."""

    new_row: bool
    """Whether it is the first of its row."""
    log_gap: float
    """Log odds that it begins another place than the blob before it, from the gap between them;
    without meaning for the first of a row."""
    readings: tuple[Reading, ...]
    """Ways to read it, at least one."""


@dataclass(frozen=True)
class Places:
    """Probabilities of all readings of the blobs."""

    probability: tuple[tuple[Floats, ...], ...]
    """For each reading of each blob the probability (N, T) that it is read so and that each of its
    chromosomes has each type."""
    reading: tuple[tuple[float, ...], ...]
    """Probability of each reading of each blob."""
    log_evidence: float
    """Log likelihood of the page under all layouts."""
    layout: Layout
    """The most probable layout."""


def find_places(blobs: Sequence[BlobEvidence], layout: Layout | None = None) -> Places:
    """Finds the types of chromosomes from evidence of all kinds.

    Args:
        blobs: in reading order, at least one.
        layout: the only one that is possible; None tries those of the common systems.
    """
    orders: dict[tuple[str, ...], set[int]] = {}
    for one in LAYOUTS if layout is None else (layout,):
        orders.setdefault(one.order, set()).update(one.row_ends)
    found = [
        _forward_backward(blobs, order, ends, fixed=layout is not None)
        for order, ends in orders.items()
    ]
    log_evidence = np.array([log for _, _, log in found])
    total = float(logsumexp(log_evidence))
    share = np.exp(log_evidence - total) if np.isfinite(total) else np.zeros(len(found))
    best = list(orders)[int(share.argmax())]
    return Places(
        tuple(
            tuple(
                np.asarray(sum(part * one[0][b][r] for part, one in zip(share, found, strict=True)))
                for r in range(len(blob.readings))
            )
            for b, blob in enumerate(blobs)
        ),
        tuple(
            tuple(
                float(sum(part * one[1][b][r] for part, one in zip(share, found, strict=True)))
                for r in range(len(blob.readings))
            )
            for b, blob in enumerate(blobs)
        ),
        total - float(np.log(len(found))),
        layout or next(one for one in LAYOUTS if one.order == best),
    )


def _forward_backward(
    blobs: Sequence[BlobEvidence], order: Sequence[str], row_ends: set[int], *, fixed: bool
) -> tuple[list[list[Floats]], list[list[float]], float]:
    """Probabilities under one order, as of :class:`Places`, and the log likelihood of the page.

    State ``place * _MAX_COUNT + count - 1`` is at the ``count``-th chromosome of a place; the last
    state is before the first. A stray chromosome leaves the state as it was. Where it is the first
    of a row, the next one is the first instead: the second half of the states waits for it.
    """
    moves = _Moves.of(order, row_ends, fixed)
    type_S = np.repeat([CHROMOSOMES.index(name) for name in order], _MAX_COUNT)
    steps = [
        [
            [
                moves.step(
                    log_T[type_S],
                    blob.log_gap if number == 0 else _WITHIN_BLOB,
                    new_row=blob.new_row and number == 0,
                )
                for number, log_T in enumerate(reading.log_type_NT)
            ]
            for reading in blob.readings
        ]
        for blob in blobs
    ]
    weights = [[float(np.exp(one.log_weight)) for one in blob.readings] for blob in blobs]
    size = len(moves.end_S)
    start_S = np.zeros(2 * size)
    start_S[size - 1] = 1.0
    ahead, log_total = [start_S], 0.0
    for ways, weight in zip(steps, weights, strict=True):
        ahead_S = np.array(weight) @ np.stack([_through(ahead[-1], way) for way in ways])
        total = float(ahead_S.sum())
        if total == 0:
            empty = [[np.zeros(one.log_type_NT.shape) for one in blob.readings] for blob in blobs]
            return empty, [[0.0] * len(blob.readings) for blob in blobs], -np.inf
        ahead.append(ahead_S / total)
        log_total += float(np.log(total))
    behind_S = np.tile(moves.end_S, 2)
    log_total += float(np.log(max(float(ahead[-1] @ behind_S), 1e-300)))
    probability: list[list[Floats]] = []
    reading: list[list[float]] = []
    for ways, weight, before_S in zip(steps[::-1], weights[::-1], ahead[-2::-1], strict=True):
        backed = [_back(behind_S, way) for way in ways]
        all_S = np.array(weight) @ np.stack([one[0] for one in backed])
        whole = max(float(before_S @ all_S), 1e-300)
        reading.append(
            [
                part * float(before_S @ one[0]) / whole
                for part, one in zip(weight, backed, strict=True)
            ]
        )
        found = []
        for part, way, one in zip(weight, ways, backed, strict=True):
            rows, at_S = [], before_S
            for step, after_S in zip(way, one[1:], strict=True):
                share_S = (at_S @ step.placed_SS) * after_S
                row_T = np.zeros(len(CHROMOSOMES))
                np.add.at(row_T, type_S, (share_S[: size - 1] + share_S[size:-1]) * part / whole)
                rows.append(row_T)
                at_S = at_S @ step.whole_SS
            found.append(np.stack(rows))
        probability.append(found)
        behind_S = all_S / max(float(all_S.max()), 1e-300)
    return probability[::-1], reading[::-1], log_total


def _through(ahead_S: Floats, way: Sequence["_Step"]) -> Floats:
    """Probabilities of the states behind a reading from those before it."""
    for step in way:
        ahead_S = ahead_S @ step.whole_SS
    return ahead_S


def _back(behind_S: Floats, way: Sequence["_Step"]) -> list[Floats]:
    """Likelihood of all that follows each state: before each chromosome, and behind the last."""
    found = [behind_S]
    for step in reversed(way):
        found.insert(0, step.whole_SS @ found[0])
    return found


@dataclass(frozen=True)
class _Step:
    """Probabilities of the moves to one chromosome, its own likelihood included."""

    placed_SS: Floats
    """To a state at which it stands."""
    whole_SS: Floats
    """The same, or past it because it is a stray."""


@dataclass(frozen=True)
class _Moves:
    """Probabilities of moves between places; see :func:`_forward_backward`."""

    same_SS: Floats
    """To the next chromosome of the same place."""
    next_SS: Floats
    """To the first of a later place, in the same row."""
    row_SS: Floats
    """To the first of a later place, at the beginning of a row."""
    end_S: Floats
    """That a state is the last."""

    def step(self, log_S: Floats, log_gap: float, *, new_row: bool) -> _Step:
        """Moves to a chromosome with these log likelihood ratios of the states."""
        size = len(self.end_S)
        emit_S = np.append(np.exp(np.clip(log_S, -_MOST, _MOST)), 0.0)
        placed_SS, stray_SS = np.zeros((2 * size, 2 * size)), np.zeros((2 * size, 2 * size))
        first, second = slice(0, size), slice(size, None)
        placed_SS[second, first] = row_SS = self.row_SS * emit_S
        if new_row:
            placed_SS[first, first] = row_SS
            stray_SS[first, second] = _STRAY * np.eye(size)
        else:
            # Log odds of another place, half on either side.
            odds = float(np.exp(log_gap / 2))
            placed_SS[first, first] = (self.same_SS / odds + self.next_SS * odds) * emit_S
            stray_SS[first, first] = _STRAY * np.eye(size)
        stray_SS[second, second] = _STRAY * np.eye(size)
        return _Step(placed_SS, placed_SS + stray_SS)

    @classmethod
    def of(cls, order: Sequence[str], row_ends: set[int], fixed: bool) -> Self:
        """Moves through the places of an order.

        Args:
            order: types.
            row_ends: positions at which a row may begin.
            fixed: whether a row begins at each of these and nowhere else.
        """
        places = len(order)
        counts_PK = np.array([_SEX_COUNTS if name in ("X", "Y") else _COUNTS for name in order])
        begin = places * _MAX_COUNT
        same_SS, next_SS, row_SS = (np.zeros((begin + 1, begin + 1)) for _ in range(3))
        end_S = np.zeros(begin + 1)
        # at_least_PK[p, k]: probability of at least k chromosomes.
        at_least_PK = np.cumsum(counts_PK[:, ::-1], axis=1)[:, ::-1]
        empty_P = np.concatenate([[1.0], np.cumprod(counts_PK[:, 0])])
        for place in range(-1, places):
            for count in range(1, _MAX_COUNT + 1) if place >= 0 else (0,):
                state = place * _MAX_COUNT + count - 1 if place >= 0 else begin
                leave = 1.0
                if place >= 0:
                    leave = counts_PK[place, count] / at_least_PK[place, count]
                    if count < _MAX_COUNT:
                        same_SS[state, state + 1] = 1.0 - leave
                end_S[state] = leave * empty_P[places] / empty_P[place + 1]
                for to in range(place + 1, places):
                    passed = sum(place < end <= to for end in row_ends)
                    move = leave * empty_P[to] / empty_P[place + 1] * at_least_PK[to, 1]
                    first = to * _MAX_COUNT
                    if place < 0:
                        row_SS[state, first] = next_SS[state, first] = move
                        continue
                    if not (fixed and passed):
                        next_SS[state, first] = move
                    if passed or not fixed:
                        row_SS[state, first] = move * (1.0 if passed else _UNUSUAL_END)
        return cls(same_SS, next_SS, row_SS, end_S)
