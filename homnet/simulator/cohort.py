"""Rows of a cohort for simulated people.

A person's rows depend on the seed, the hospital and the person's number, and on nothing else, so
they come out the same in whatever order and on however many machines people are simulated.
"""

import hashlib
from typing import Any, Final

import numpy as np
import pyarrow as pa

from homnet.chromosomes import BAND_LEVELS, CHROMOSOMES
from homnet.pairs import SINGLE_HOMOLOG, pair_table
from homnet.seeding import generator
from homnet.simulator.laboratory import HospitalConfig
from homnet.simulator.population import Person, draw_person
from homnet.simulator.rendering import Batch, Rendering, render, tabulate

BENT: Final = "bent"
"""Quality flag of a chromosome whose chord is under 0.9 of its arc, as extraction sets it."""
TOO_LONG: Final = "too_long"
"""Quality flag of a chromosome that was cut off at the last position."""

_BENT_BELOW: Final = 0.9
_GOLDEN: Final = 0.6180339887498949


def simulate_person(
    seed: int, hospital: HospitalConfig, number: int, mean_cells: float
) -> pa.Table:
    """Simulates all pairs of all cells of one person.

    Args:
        seed: the cohort's seed.
        hospital: where the person is seen.
        number: which of the hospital's people, from 0.
        mean_cells: mean number of cells per person, at least 1.

    Returns:
        Rows as of :data:`homnet.pairs.SCHEMA`, in the order of types, then cells.
    """
    draw = generator(seed, "person", hospital.name, number)
    person = draw_person(draw, hospital, abnormal=_is_abnormal(seed, hospital, number))
    num_cells = 1 + int(draw.poisson(mean_cells - 1))
    batch = _batch(draw, hospital, person, num_cells)
    rendering = render(batch, hospital.laboratory, draw)
    return _table(batch, rendering, person, hospital.name, _pseudonym(seed, hospital.name, number))


def _is_abnormal(seed: int, hospital: HospitalConfig, number: int) -> bool:
    """Steps of the golden ratio keep the share of abnormal people even in small hospitals."""
    first = generator(seed, "abnormal", hospital.name).random()
    return bool((first + number * _GOLDEN) % 1.0 < hospital.abnormal_fraction)


def _pseudonym(seed: int, hospital: str, number: int) -> str:
    text = f"{seed}/{hospital}/{number}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _batch(
    draw: np.random.Generator, hospital: HospitalConfig, person: Person, num_cells: int
) -> Batch:
    """Deals the homologs of a person out to cells and slots.

    The slots of a pair are exchanged at random in every cell: the place of the abnormal homolog
    must tell nothing.
    """
    homologs = [(name, i, h) for name in CHROMOSOMES for i, h in enumerate(person.genome[name])]
    rows = {(name, i): row for row, (name, i, _) in enumerate(homologs)}
    event = np.full((len(homologs), 2), np.nan, np.float32)
    for trace in person.traces:
        event[rows[trace.chromosome, trace.homolog]] = trace.start, trace.stop
    slots = np.array([[rows.get((name, i), -1) for i in range(2)] for name in CHROMOSOMES])
    dealt = np.broadcast_to(slots[:, None], (len(CHROMOSOMES), num_cells, 2)).copy()
    dealt[draw.random(dealt.shape) < hospital.laboratory.missing_rate] = -1
    dealt = draw.permuted(dealt, axis=-1)
    # A homolog without partner stands in slot 0.
    alone = dealt[..., 0] < 0
    dealt[alone] = dealt[alone][:, ::-1]
    cell = np.broadcast_to(np.arange(num_cells), dealt.shape[:2])
    seen = dealt[..., 0] >= 0
    shares = np.array(hospital.laboratory.band_levels)
    return Batch(
        homologs=tabulate([homolog for *_, homolog in homologs]),
        homolog_NP=dealt[seen],
        cell_N=cell[seen],
        level_G=draw.choice(len(BAND_LEVELS), num_cells, p=shares / shares.sum()),
        event_H2=event,
    )


def _table(
    batch: Batch, rendering: Rendering, person: Person, hospital: str, patient_id: str
) -> pa.Table:
    types = np.array([name for name in CHROMOSOMES for _ in person.genome[name]])
    num_pairs = len(batch.cell_N)
    start_NP = rendering.event_NP2[..., 0]
    abnormal = np.any(start_NP >= 0, axis=1)
    slot = start_NP.argmax(axis=1)
    event_N2 = rendering.event_NP2[np.arange(num_pairs), slot]
    levels = np.array(BAND_LEVELS)[batch.level_G]
    return pair_table(
        hospital=[hospital] * num_pairs,
        patient_id=[patient_id] * num_pairs,
        cell_id=[f"{patient_id}-{cell + 1:02d}" for cell in batch.cell_N],
        chromosome=types[batch.homolog_NP[:, 0]].tolist(),
        band_level=levels[batch.cell_N].tolist(),
        pair=rendering.pair_NPCL,
        abnormal=abnormal.tolist(),
        kind=[person.kind if here else None for here in abnormal],
        homolog=_where(slot, abnormal),
        start=_where(event_N2[:, 0], abnormal),
        stop=_where(event_N2[:, 1], abnormal),
        quality=_quality(batch, rendering),
    )


def _where(values: np.ndarray, known: np.ndarray) -> list[int | None]:
    return [int(value) if here else None for value, here in zip(values, known, strict=True)]


def _quality(batch: Batch, rendering: Rendering) -> list[dict[str, Any]]:
    checks = (
        (SINGLE_HOMOLOG, batch.homolog_NP[:, 1] < 0),
        (BENT, rendering.straightness_N < _BENT_BELOW),
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
