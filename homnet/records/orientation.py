"""Measures how often chromosomes that lie upside down are found, in bags of five cells.

Chromosomes are turned in memory. The other chromosomes of a bag stay as they were stored, of which
a few lie upside down too: those that a discriminant of other people's chromosomes calls so are
counted as such.

Shape suffixes: N chromosomes, B bags, K cells, P homologs, C chromatids, L positions, U points
along a chromosome.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from homnet.bags.draw import BagConfig, Bags, PairBank, draw_bags, rows_of_file
from homnet.cohorts.cohort import Cohort
from homnet.imaging.orientation import Orientation, profiles, turn
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.report.markdown import markdown_table
from homnet.results import Record
from homnet.seeding import generator

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_FOLDS: Final = 8
_RIDGE: Final = 0.05
_CLEAR: Final = 0.7
"""Absolute discriminant from which on it is clear how a chromosome was stored; the others count as
stored upright."""
_SHARES: Final = {
    "decided": "Decided",
    "right_of_decided": "Right",
    "right_of_clear": "Right where it is clear",
    "stored_upside_down": "Stored upside down",
}
"""Headings of the shares."""


@dataclass(frozen=True)
class OrientationConfig:
    """What is measured."""

    cohort: str = "cohorts/pki3"
    """Cohort whose chromosomes are stored as they came (jobs/ingest.py --turn never)."""
    seed: int = 0
    """Seed of bags and choices."""
    record: Record = Record()
    """The result of record."""


def stored_upright(bank: PairBank) -> Floats:
    """Discriminant of homologs (N, 2), learnt from other people's; below 0 for upside down.

    In standard deviations of its type.
    """
    profile_NU = profiles(bank.pair_NPCL.reshape(-1, *bank.pair_NPCL.shape[2:]))
    type_N = np.repeat(bank.frame["chromosome"].to_numpy(), 2)
    people = np.repeat(bank.frame["patient_id"].to_numpy(), 2)
    half = profile_NU.shape[1] // 2
    centred = profile_NU - profile_NU.mean(axis=1, keepdims=True)
    centred /= centred.std(axis=1, keepdims=True)
    odd = (centred - centred[:, ::-1])[:, :half]
    fold_N = np.unique(people, return_inverse=True)[1] % _FOLDS
    score_N = np.zeros(len(odd))
    for chromosome in np.unique(type_N):
        for fold in range(_FOLDS):
            learnt = (type_N == chromosome) & (fold_N != fold)
            judged = (type_N == chromosome) & (fold_N == fold)
            within = np.cov(odd[learnt].T) + _RIDGE * np.eye(half)
            weight = np.linalg.solve(within, odd[learnt].mean(axis=0))
            score_N[judged] = odd[judged] @ weight / (odd[learnt] @ weight).std()
    return score_N.reshape(-1, 2)


def measure(config: OrientationConfig) -> dict[str, Any]:
    """The figures of :func:`by_type` of all normal pairs, as ``by_type``.

    Raises:
        CohortError: there is no cohort, or a file is damaged.
    """
    cohort = Cohort.open(config.cohort)
    tables = (rows_of_file(cohort, number) for number in range(len(cohort.files)))
    bank = PairBank.from_table(pa.concat_tables(tables)).normal()
    bags = draw_bags(bank, BagConfig(over="people"), seed=config.seed)
    return {"by_type": by_type(bank, bags, stored_upright(bank), config.seed)}


def by_type(bank: PairBank, bags: Bags, stored_NP: Floats, seed: int) -> dict[str, Any]:
    """How often the orientation is decided, and decided right, by type.

    One homolog of each bag is turned, drawn at random. Half of the figures are of turned
    chromosomes, half of the others of the same bags.

    Args:
        bank: normal pairs.
        bags: bags of them; those that are not full are left out. Each is as one patient.
        stored_NP: discriminant of each homolog of the bank, from :func:`stored_upright`.
        seed: seed of the choice.
    """
    bags = bags.take(bags.mask_BK.all(axis=1))
    pair_BKPCL = bank.pair_NPCL[bags.row_BK]
    shape = pair_BKPCL.shape[:3]
    per_bag = shape[1] * shape[2]
    stored_N = stored_NP[bags.row_BK].reshape(-1)
    down_N, clear_N = stored_N <= -_CLEAR, np.abs(stored_N) >= _CLEAR
    chosen_N = np.zeros(len(down_N), np.bool_)
    picked = generator(seed, "turned").integers(0, per_bag, shape[0])
    chosen_N[np.arange(shape[0]) * per_bag + picked] = True
    type_N = np.repeat(bags.chromosome_B, per_bag)
    sequence_NCL = pair_BKPCL.reshape(-1, *pair_BKPCL.shape[3:])
    sequence_NCL[chosen_N] = turn(sequence_NCL[chosen_N])
    found = Orientation.of(sequence_NCL, type_N, np.repeat(np.arange(shape[0]), per_bag))
    truth_N = down_N ^ chosen_N
    decided_N = ~found.uncertain_N
    right_N = decided_N & (found.upside_down_N == truth_N)

    def share(value_N: Bools, of_N: Bools) -> float:
        """Mean of the share among turned and the share among other chromosomes."""
        parts = [value_N[of_N & chosen_N], value_N[of_N & ~chosen_N]]
        return float(np.mean([part.mean() for part in parts if len(part)] or 0.0))

    def shares(of_N: Bools) -> dict[str, float]:
        return {
            "decided": share(decided_N, of_N),
            "right_of_decided": share(right_N, of_N & decided_N),
            "right_of_clear": share(right_N, of_N & decided_N & clear_N),
            "stored_upside_down": float(down_N[of_N].mean()),
        }

    figures: dict[str, Any] = {
        name: shares(type_N == number)
        for number, name in enumerate(CHROMOSOMES)
        if (type_N == number).any()
    }
    everything = np.ones(len(type_N), np.bool_)
    figures["all"] = {
        **shares(everything),
        "clear": float(clear_N.mean()),
        "num_chromosomes": len(type_N),
        "num_turned": int(chosen_N.sum()),
    }
    return figures


def orientation_markdown(figures: Mapping[str, Any]) -> str:
    """The shares of each type as a Markdown table."""
    rows = [
        [name, *(f"{one[key]:.3f}" for key in _SHARES)] for name, one in figures["by_type"].items()
    ]
    return markdown_table(["Type", *_SHARES.values()], rows)
