"""An oracle finds what it was told of, and nobody else; it stands above every search."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from homnet.bags.draw import PairBank
from homnet.errors import DataError
from homnet.records.known_events import EVENT_KNOWN, TYPE_UNKNOWN, known_events

TableOf = Callable[..., pa.Table]
TYPES = ("1", "2")


@pytest.fixture(scope="module")
def banks(table_of: TableOf) -> tuple[PairBank, PairBank, PairBank]:
    """Six patients, p0, p2 and p4 with an abnormal type 2; many cells of them; 40 others."""
    tables = (
        table_of("h1", num_patients=6, num_cells=4, chromosomes=TYPES, abnormal="2"),
        table_of("h1", num_patients=6, num_cells=60, chromosomes=TYPES, abnormal="2", seed=1),
        table_of("h1", num_patients=40, num_cells=4, chromosomes=TYPES, seed=2),
    )
    own, cells, others = map(PairBank.from_table, tables)
    return own, cells, others


def _with(bank: PairBank, **columns: object) -> PairBank:
    return replace(bank, frame=bank.frame.assign(**columns))


def test_a_third_that_is_missing_is_found(banks: tuple[PairBank, ...]) -> None:
    found = known_events(*banks, specificity=0.9).set_index("patient_id")
    carriers = ["h1-p0", "h1-p2", "h1-p4"]
    assert (found.loc[carriers, [EVENT_KNOWN, TYPE_UNKNOWN]] == 1.0).all(axis=None)
    assert (found.drop(index=carriers)[[EVENT_KNOWN, TYPE_UNKNOWN]] == 0.0).all(axis=None)


def test_what_is_called_abnormal_and_is_not_is_seldom_found(banks: tuple[PairBank, ...]) -> None:
    """Type 1 of all patients is said to be abnormal: it is like that of everybody else."""
    own, cells, others = banks
    own, cells = (
        _with(bank, abnormal=(bank.frame["chromosome"] == 0).to_numpy(), homolog=1)
        for bank in (own, cells)
    )
    found = known_events(own, cells, others, specificity=0.9)
    assert found[TYPE_UNKNOWN].sum() <= 1


def test_a_mosaic_is_found_by_the_cells_that_show_it(banks: tuple[PairBank, ...]) -> None:
    """Half of the cells of p0 are those of its healthy neighbour p1."""
    own, cells, others = banks
    mixed = []
    for bank in (own, cells):
        frame, pair_NPCL = bank.frame.reset_index(drop=True), bank.pair_NPCL.copy()
        first, second = (
            frame.index[(frame["patient_id"] == name) & (frame["chromosome"] == 1)]
            for name in ("h1-p0", "h1-p1")
        )
        normal = first[: len(first) // 2]
        pair_NPCL[normal] = pair_NPCL[second[: len(normal)]]
        frame.loc[normal, "abnormal"] = False
        mixed.append(replace(bank, frame=frame, pair_NPCL=pair_NPCL))
    own, cells = mixed
    found = known_events(own, cells, others, specificity=0.9).set_index("patient_id")
    assert found.loc[["h1-p0", "h1-p2"], TYPE_UNKNOWN].tolist() == [1.0, 1.0]
    healthy = _with(own, abnormal=own.frame["abnormal"] & (own.frame["patient_id"] != "h1-p0"))
    found = known_events(healthy, cells, others, specificity=0.9).set_index("patient_id")
    assert found.loc[["h1-p0", "h1-p2"], TYPE_UNKNOWN].tolist() == [0.0, 1.0], "it is no carrier"


def test_patients_without_other_cells_are_refused(banks: tuple[PairBank, ...]) -> None:
    own, cells, others = banks
    with pytest.raises(DataError, match="no patient has 20 abnormal cells"):
        known_events(own, own, others, specificity=0.9)
    with pytest.raises(DataError, match="40 healthy other people, 30 of whom are judged: too few"):
        known_events(own, cells, others)
    few = cells.of_patients(["h1-p2", "h1-p4"])
    found = known_events(own, few, others, specificity=0.9).set_index("patient_id")
    assert np.isnan(found.loc["h1-p0", EVENT_KNOWN]), "nobody knows what it has"
    assert found.loc[["h1-p1", "h1-p2"], EVENT_KNOWN].tolist() == [0.0, 1.0]
    nobody = own.of_patients(["h1-p1", "h1-p3"])
    assert (known_events(nobody, cells, others, specificity=0.9)[EVENT_KNOWN] == 0.0).all()


def test_carriers_among_the_others_teach_nothing(banks: tuple[PairBank, ...]) -> None:
    own, cells, others = banks
    frame = others.frame.reset_index(drop=True)
    carriers = {f"h1-p{number}" for number in range(0, 40, 2)}
    marked = frame["patient_id"].isin(carriers) & (frame["chromosome"] == 1)
    mixed = replace(others, frame=frame.assign(abnormal=marked.to_numpy()))
    healthy = others.of_patients(sorted(set(frame["patient_id"]) - carriers))
    found, expected = (known_events(own, cells, one, specificity=0.9) for one in (mixed, healthy))
    pd.testing.assert_frame_equal(found, expected)
