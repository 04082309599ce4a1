"""A search without abnormal chromosomes finds patients, and stands beside verdicts on the same."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from homnet.bags.draw import PairBank
from homnet.errors import ConfigError, DataError
from homnet.model.search import FAMILIES
from homnet.patients.tables import truth_of_patients, truth_of_types
from homnet.records.patient_search import (
    KNOWN_VARIANTS,
    SEARCH,
    PatientSearchConfig,
    beside_verdicts,
    patient_scores,
    patient_search_markdown,
    search_types,
)

TableOf = Callable[..., pa.Table]
CONFIG = PatientSearchConfig(num_positions=32)


@pytest.fixture(scope="module")
def table(table_of: TableOf) -> pa.Table:
    """Ten people, every second of whom has an abnormal chromosome 3 in all cells."""
    return table_of("h1", num_patients=10, chromosomes=("1", "3", "8"), abnormal="3")


@pytest.fixture(scope="module")
def types(table: pa.Table) -> pd.DataFrame:
    return search_types(PairBank.from_table(table), CONFIG)


@pytest.fixture(scope="module")
def found(types: pd.DataFrame) -> pd.DataFrame:
    return patient_scores(types)


def _rows(joined: pd.DataFrame, name: str) -> pd.DataFrame:
    return joined[["hospital", "patient_id"]].assign(score=joined[name])


def test_what_no_normal_pair_looks_like_is_found(table: pa.Table, found: pd.DataFrame) -> None:
    truth = truth_of_patients(truth_of_types(table))
    joined = truth.merge(found, on=["hospital", "patient_id"], validate="1:1")
    assert len(joined) == 10
    abnormal = joined["true_abnormal"]
    assert joined[SEARCH][abnormal].min() > joined[SEARCH][~abnormal].max()
    assert (joined[SEARCH] == joined[KNOWN_VARIANTS]).all()


def test_nobody_is_compared_with_pairs_of_their_own_half(
    table: pa.Table, types: pd.DataFrame
) -> None:
    bank = PairBank.from_table(table)
    frame = bank.frame.copy()
    frame.loc[frame["patient_id"] == "h1-p1", "abnormal"] = True
    changed = search_types(replace(bank, frame=frame), CONFIG)
    columns = list(FAMILIES)
    same = np.isclose(types[columns], changed[columns], rtol=0, atol=1e-9).all(axis=1)
    (half,) = set(types["half"][types["patient_id"] == "h1-p1"])
    assert same[types["half"] == half].all()
    assert not same[types["half"] != half].any()


def test_types_with_a_harmless_variant_can_be_left_out(types: pd.DataFrame) -> None:
    found = patient_scores(types.assign(variant=types["chromosome"] == 2)).set_index("patient_id")
    assert found.loc["h1-p0", SEARCH] > 5 > found.loc["h1-p0", KNOWN_VARIANTS]


def test_more_cells_and_other_bands_are_no_sign_by_themselves() -> None:
    """The type and the number of cells explain all scores but one."""
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(
        [
            {"patient_id": f"p{person}", "chromosome": kind, "num_cells": cells}
            for person, cells in enumerate(generator.integers(5, 25, size=200))
            for kind in (0, 1)
        ]
    ).assign(hospital="h1", half=0, abnormal=False, variant=False)
    noise = generator.normal(size=len(rows))
    inversion = noise + rows["num_cells"] * (rows["chromosome"] * 3 - 2)
    inversion[rows["patient_id"] == "p7"] += 8
    found = patient_scores(rows.assign(**{FAMILIES[0]: inversion, FAMILIES[1]: 0.0}))
    assert found.set_index("patient_id")[SEARCH].idxmax() == "p7"
    assert found[SEARCH].median() < 2


def test_methods_are_compared_at_one_specificity(table: pa.Table, found: pd.DataFrame) -> None:
    truth = truth_of_patients(truth_of_types(table))
    joined = truth.merge(found, on=["hospital", "patient_id"])
    # One method has the carriers p0 and p2 above everybody healthy; p9 was not assessed.
    score = joined["patient_id"].isin(["h1-p0", "h1-p2"]).astype(float)
    score[joined["patient_id"] == "h1-p9"] = np.nan
    diagnoses = {"two": _rows(joined.assign(two=score), "two")}
    figures = beside_verdicts(found, diagnoses, truth, specificity=0.99)
    assert json.loads(json.dumps(figures)) == figures
    assert (figures["num_patients"], figures["num_healthy"]) == (9, 4)
    (overall, *others) = figures["rows"]
    assert overall["sensitivity"][SEARCH]["value"] == 1.0
    assert overall["sensitivity"]["two"]["count"] == 2
    assert {row["name"] for row in others} == {"deletion", "h1"}
    text = patient_search_markdown(figures)
    assert "| all | 1.00 (0.48 to 1.00) | 1.00 (0.48 to 1.00) | 0.40 (0.05 to 0.85) | 5 |" in text

    # One of five healthy patients, p1, is above all carriers.
    score = (
        1.0 - joined["patient_id"].str[-1].astype(int) % 2 + 2 * (joined["patient_id"] == "h1-p1")
    )
    alarm = {"alarm": _rows(joined.assign(alarm=score), "alarm")}
    for specificity, sensitivity in ((0.99, 0.0), (0.8, 1.0)):
        (row, *_) = beside_verdicts(found, alarm, truth, specificity)["rows"]
        assert row["sensitivity"]["alarm"]["value"] == sensitivity
    with pytest.raises(DataError, match="no abnormal or no healthy"):
        beside_verdicts(found, {"none": diagnoses["two"].iloc[:0]}, truth, 0.99)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_positions": 48}, "give 32, 64 or 128"),
        ({"num_positions": 16}, "give 32, 64 or 128"),
        ({"specificity": 1.0}, "give a share"),
        ({"diagnoses": ("runs/diagnose",)}, "name=directory"),
        ({"diagnoses": ("one=a", "one=b")}, "names the method 'one' twice"),
        ({"diagnoses": ("search=a",)}, "names the method 'search' twice"),
        ({"diagnoses": ("true_kind=a",)}, "begins with true_"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PatientSearchConfig(**changes)  # type: ignore[arg-type]


def test_one_person_has_nobody_to_be_compared_with(table_of: TableOf) -> None:
    bank = PairBank.from_table(table_of("h1", num_patients=1, chromosomes=("1",)))
    with pytest.raises(DataError, match="give more people"):
        search_types(bank, CONFIG)
