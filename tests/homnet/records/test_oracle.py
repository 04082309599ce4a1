"""An oracle sees what it was told of, does not see what is not there, and stands beside a model."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from homnet.bags.draw import PairBank
from homnet.errors import DataError
from homnet.records.oracle import (
    OracleConfig,
    beside_model,
    oracle_markdown,
    summarise,
    visible_events,
)

TableOf = Callable[..., pa.Table]
CONFIG = OracleConfig(num_pairs=3, num_folds=2, bags_per_person=4)


@pytest.fixture(scope="module")
def bank(table_of: TableOf) -> PairBank:
    table = table_of("h1", num_patients=6, num_cells=12, chromosomes=("1", "2"), abnormal="2")
    return PairBank.from_table(table)


@pytest.fixture(scope="module")
def events(bank: PairBank) -> pd.DataFrame:
    return visible_events(bank, CONFIG)


def _with_size(events: pd.DataFrame) -> pd.DataFrame:
    return events.assign(size_mb=[7.0, 50.0, 50.0])


def test_a_third_that_is_missing_is_seen(events: pd.DataFrame) -> None:
    assert list(events["patient"]) == ["h1-p0", "h1-p2", "h1-p4"]
    assert set(events["chromosome"]) == {"2"}
    assert set(events["kind"]) == {"deletion"}
    assert (events["num_cells"] == 12).all()
    assert (events[["pair_auc", "bag_auc"]] > 0.99).all(axis=None)


def test_what_is_called_abnormal_and_is_not_cannot_be_seen(bank: PairBank) -> None:
    frame = bank.frame.copy()
    # The normal type 1 of the same people is said to be abnormal.
    frame["abnormal"] = (frame["chromosome"] == 0) & frame["patient_id"].isin(["h1-p0", "h1-p2"])
    frame["homolog"] = 1
    found = visible_events(replace(bank, frame=frame), CONFIG)
    assert len(found) == 2
    assert found["bag_auc"].between(0.1, 0.9).all()


def test_few_cells_are_refused(bank: PairBank) -> None:
    with pytest.raises(DataError, match="nobody has 40 abnormal cells of one type"):
        visible_events(bank, replace(CONFIG, num_folds=4, num_pairs=10))


def test_a_model_stands_beside_it(events: pd.DataFrame) -> None:
    def rows(patient: str, abnormal: bool, scores: list[float], split: str) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "hospital": "h1",
                "patients": [[patient]] * len(scores),
                "chromosome": "2",
                "abnormal": abnormal,
                "kind": "deletion" if abnormal else "normal",
                "score": scores,
                "split": split,
            }
        )

    scores = pd.concat(
        [
            rows("h1-p0", True, [0.9, 0.3], "test"),
            rows("h1-p1", False, [0.1, 0.5], "test"),
            rows("h1-p2", True, [0.9], "test"),
            rows("h1-p4", True, [0.9], "validation"),
        ],
        ignore_index=True,
    )
    both = beside_model(_with_size(events), scores)
    assert dict(zip(both["patient"], both["model_auc"], strict=True)) == {
        "h1-p0": 0.75,
        "h1-p2": 1.0,
    }
    figures = summarise(both)
    by_name = {row["name"]: row for row in figures["rows"]}
    assert list(by_name) == ["5 to 10 Mb", "40 to 80 Mb", "h1", "deletion", "all"]
    assert by_name["all"]["model_auc"] == pytest.approx(0.875)
    assert by_name["5 to 10 Mb"]["num_events"] == 1
    table = oracle_markdown(figures)
    assert "| Abnormalities | Oracle, pairs | Oracle, bags | HomNet, bags |" in table
    assert "| 5 to 10 Mb | 1.000 | 1.000 | 0.750 | 1 | 1 |" in table
    with pytest.raises(DataError, match="none of these people"):
        beside_model(events, scores.assign(hospital="h2"))


def test_a_table_without_a_model(events: pd.DataFrame) -> None:
    table = oracle_markdown(summarise(_with_size(events)))
    assert "HomNet" not in table
    assert np.isfinite(summarise(_with_size(events))["rows"][-1]["bag_auc"])
