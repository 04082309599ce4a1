"""Simulates the rows of a cohort.

The rows of a person depend only on the seed, the hospital and the person's number. They do not
depend on the order or the number of machines.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from homnet.cohorts.pairs import SINGLE_HOMOLOG, pair_table
from homnet.imaging.extraction import BENT, BENT_BELOW, TOO_LONG
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOME_INDEX, CHROMOSOMES
from homnet.seeding import generator
from homnet.simulator.atlas import BandAppearance
from homnet.simulator.events import Derivative
from homnet.simulator.genome import Homolog
from homnet.simulator.laboratory import HospitalConfig
from homnet.simulator.population import Person, draw_person
from homnet.simulator.rendering import Batch, Rendering, render, seen_at, tabulate

_GOLDEN: Final = 0.6180339887498949


@dataclass(frozen=True)
class _Chromosome:
    """One distinct chromosome in a person's cells."""

    name: str
    """Type."""
    homolog: Homolog
    """The chromosome."""
    derivative: Derivative | None
    """The change and its position, or None."""


def simulate_person(
    seed: int,
    hospital: HospitalConfig,
    number: int,
    mean_cells: float,
    *,
    rearranged_types: bool = False,
) -> pa.Table:
    """Simulates all pairs of all cells of one person, or only those of selected types.

    Args:
        seed: the cohort's seed.
        hospital: hospital of the person.
        number: index of the person in the hospital, from 0.
        mean_cells: mean number of cells per person, at least 1.
        rearranged_types: simulate only the types changed by an abnormality and an equal number of
            others, at least one.

    Returns:
        Rows as of :data:`homnet.cohorts.pairs.SCHEMA`, ordered by type, then cell.
    """
    draw = generator(seed, "person", hospital.name, number)
    person = draw_person(draw, hospital, abnormal=_is_abnormal(seed, hospital, number))
    num_cells = 1 + int(draw.poisson(mean_cells - 1))
    chromosomes, dealt = _deal(draw, person, num_cells)
    if rearranged_types:
        left_out = np.ones(len(CHROMOSOMES), np.bool_)
        left_out[_taught_types(generator(seed, "types", hospital.name, number), person)] = False
        dealt[left_out] = -1
    batch = _batch(draw, hospital, chromosomes, dealt)
    rendering = render(batch, hospital.laboratory, draw)
    columns = {
        **_observed(
            batch, rendering, chromosomes, hospital.name, _pseudonym(seed, hospital, number)
        ),
        **_truth(batch, rendering, chromosomes, person),
    }
    return pair_table(**columns)


def _is_abnormal(seed: int, hospital: HospitalConfig, number: int) -> bool:
    """Uses steps of the golden ratio, which keep the abnormal share accurate in small hospitals."""
    first = generator(seed, "abnormal", hospital.name).random()
    return bool((first + number * _GOLDEN) % 1.0 < hospital.abnormal_fraction)


def _taught_types(draw: np.random.Generator, person: Person) -> NDArray[np.int64]:
    """Returns the changed types and an equal number of other paired types, at least one."""
    changed = {CHROMOSOME_INDEX[name] for name, _ in person.clones[0].derivatives}
    others = [
        CHROMOSOME_INDEX[name]
        for name, homologs in person.clones[0].genome.items()
        if len(homologs) == 2 and CHROMOSOME_INDEX[name] not in changed
    ]
    chosen = draw.choice(others, max(len(changed), 1), replace=False)
    return np.array([*sorted(changed), *chosen], np.int64)


def _pseudonym(seed: int, hospital: HospitalConfig, number: int) -> str:
    text = f"{seed}/{hospital.name}/{number}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _deal(
    draw: np.random.Generator, person: Person, num_cells: int
) -> tuple[list[_Chromosome], NDArray[np.int64]]:
    """Assigns each cell the chromosomes of one of the person's clones.

    Returns:
        The distinct chromosomes, and their indices in each cell (24, cells, 2), -1 for none. A ring
        is opened at a different position in each cell, because its reading has no fixed start.
    """
    chromosomes: list[_Chromosome] = []
    rows = np.full((len(person.clones), len(CHROMOSOMES), 2), -1)
    for clone, found in zip(person.clones, rows, strict=True):
        for name, homologs in clone.genome.items():
            for i, homolog in enumerate(homologs):
                found[CHROMOSOME_INDEX[name], i] = len(chromosomes)
                derivative = clone.derivatives.get((name, i))
                chromosomes.append(_Chromosome(name, homolog, derivative))
    clone_G = (draw.random(num_cells) >= person.clones[0].share).astype(np.int64)
    # At least one cell of an abnormal patient is abnormal; otherwise the abnormality is unknown.
    clone_G[draw.integers(num_cells)] = 0
    dealt = rows[clone_G].transpose(1, 0, 2)
    for (name, i), derivative in person.clones[0].derivatives.items():
        for cell in np.flatnonzero(clone_G == 0) if derivative.circular else ():
            dealt[CHROMOSOME_INDEX[name], cell, i] = len(chromosomes)
            opened = derivative.opened(draw.random())
            chromosomes.append(_Chromosome(name, opened.homolog, opened))
    return chromosomes, dealt


def _batch(
    draw: np.random.Generator,
    hospital: HospitalConfig,
    chromosomes: list[_Chromosome],
    dealt: NDArray[np.int64],
) -> Batch:
    """Assigns the chromosomes of the cells to slots.

    The slots of a pair are swapped at random in each cell, so that the slot of the abnormal homolog
    carries no information.
    """
    num_cells: int = dealt.shape[1]
    dealt = np.where(draw.random(dealt.shape) < hospital.laboratory.missing_rate, -1, dealt)
    dealt = draw.permuted(dealt, axis=-1)
    # A single homolog is in slot 0.
    alone = dealt[..., 0] < 0
    dealt[alone] = dealt[alone][:, ::-1]
    cell = np.broadcast_to(np.arange(num_cells), dealt.shape[:2])
    seen = dealt[..., 0] >= 0
    shares, bands = np.array(hospital.laboratory.band_levels), hospital.laboratory.bands
    return Batch(
        homologs=tabulate([one.homolog for one in chromosomes], bands),
        homolog_NP=dealt[seen],
        cell_N=cell[seen],
        level_G=draw.choice(len(BAND_LEVELS), num_cells, p=shares / shares.sum()),
        landmark_HE=_landmarks([one.derivative for one in chromosomes], bands),
    )


def _landmarks(
    derivatives: list[Derivative | None], bands: BandAppearance | None
) -> NDArray[np.float32]:
    """Returns start, stop and breakpoints (H, E) of each changed chromosome, nan for none."""
    num_points = max((len(one.points) for one in derivatives if one is not None), default=0)
    landmark_HE = np.full((len(derivatives), 2 + num_points), np.nan, np.float32)
    for h, one in enumerate(derivatives):
        if one is not None:
            landmark_HE[h] = [
                np.nan if point is None else seen_at(one.homolog, point, bands)
                for point in (one.start, one.stop, *one.points)
            ]
    return landmark_HE


def _observed(
    batch: Batch,
    rendering: Rendering,
    chromosomes: list[_Chromosome],
    hospital: str,
    patient_id: str,
) -> dict[str, Any]:
    """Returns columns that a laboratory can observe."""
    num_pairs = len(batch.cell_N)
    levels = np.array(BAND_LEVELS)[batch.level_G]
    return {
        "hospital": [hospital] * num_pairs,
        "patient_id": [patient_id] * num_pairs,
        "cell_id": [f"{patient_id}-{cell + 1:02d}" for cell in batch.cell_N],
        "chromosome": [chromosomes[row].name for row in batch.homolog_NP[:, 0]],
        "band_level": levels[batch.cell_N].tolist(),
        "pair": rendering.pair_NPCL,
        "quality": _quality(batch, rendering),
    }


def _truth(
    batch: Batch, rendering: Rendering, chromosomes: list[_Chromosome], person: Person
) -> dict[str, Any]:
    """Returns columns that only the simulator knows."""
    start_NP = rendering.landmark_NPE[..., 0]
    abnormal = np.any(start_NP >= 0, axis=1)
    slot = start_NP.argmax(axis=1)
    landmark_NE = rendering.landmark_NPE[np.arange(len(slot)), slot]
    columns: dict[str, Any] = {
        "abnormal": abnormal.tolist(),
        "homolog": _where(slot, abnormal),
        # On an upside-down chromosome the start lies behind the stop.
        "start": _where(landmark_NE[:, :2].min(axis=1), abnormal),
        "stop": _where(landmark_NE[:, :2].max(axis=1) + 1, abnormal),
        "variant": _variants(batch, chromosomes),
    }
    event = person.event
    if event is None:
        return columns
    level_N = batch.level_G[batch.cell_N]
    names = [event.iscn(level) for level in BAND_LEVELS]
    bands = [[at.band(level) for at in event.breakpoints] for level in BAND_LEVELS]
    return columns | {
        "kind": [event.kind if here else None for here in abnormal],
        "size_mb": [event.size_mb if here else None for here in abnormal],
        "iscn": [
            names[level] if here else None for level, here in zip(level_N, abnormal, strict=True)
        ],
        "breakpoints": [
            [
                {
                    "position": int(position) if position >= 0 else None,
                    "chromosome": at.chromosome,
                    "band": band,
                    "mb": at.mb,
                }
                for at, band, position in zip(
                    event.breakpoints, bands[level], positions, strict=True
                )
            ]
            if here
            else None
            for level, positions, here in zip(level_N, landmark_NE[:, 2:], abnormal, strict=True)
        ],
    }


def _variants(batch: Batch, chromosomes: list[_Chromosome]) -> list[str | None]:
    """Returns the normal variants in each pair, separated by commas; None for none."""
    found = [one.homolog.variants for one in chromosomes]
    named = np.array([bool(variants) for variants in found])
    marked_N = np.any((batch.homolog_NP >= 0) & named[batch.homolog_NP], axis=1)
    return [
        ",".join(sorted({name for row in rows if row >= 0 for name in found[row]}))
        if marked
        else None
        for rows, marked in zip(batch.homolog_NP, marked_N, strict=True)
    ]


def _where(values: NDArray[np.int64], known: NDArray[np.bool_]) -> list[int | None]:
    return [int(value) if here else None for value, here in zip(values, known, strict=True)]


def _quality(batch: Batch, rendering: Rendering) -> list[dict[str, Any]]:
    checks = (
        (SINGLE_HOMOLOG, batch.homolog_NP[:, 1] < 0),
        (BENT, rendering.straightness_N < BENT_BELOW),
        # Truncated at the last position here; extraction rejects the image.
        (TOO_LONG, rendering.too_long_N),
    )
    return [
        {
            "straightness": float(rendering.straightness_N[n]),
            "width_variation": float(rendering.width_variation_N[n]),
            "flags": [flag for flag, found in checks if found[n]],
        }
        for n in range(len(batch.cell_N))
    ]
