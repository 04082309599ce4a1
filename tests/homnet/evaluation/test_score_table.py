"""The table of scores: what is read is checked, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from homnet.errors import DataError
from homnet.evaluation.score_table import SCORE_COLUMNS, check_scores, read_scores


def make_scores() -> pd.DataFrame:
    """One bag for each of eight people; every second one is abnormal."""
    return pd.DataFrame(
        {
            "bag": number,
            "hospital": "north",
            "patients": [f"{split}-{number}"],
            "chromosome": "9",
            "num_pairs": 5,
            "band_level": 550,
            "kind": "ring" if number % 2 else "normal",
            "abnormal": bool(number % 2),
            "event_fraction": 0.2 if number % 2 else None,
            "size_mb": None,
            "score": number / 10,
            "split": split,
        }
        for number, split in enumerate(["validation"] * 4 + ["test"] * 4)
    )


def test_what_is_read_has_types_and_a_fresh_index(tmp_path: Path) -> None:
    made = make_scores()
    made.index = made.index + 5
    made.to_parquet(tmp_path / "scores.parquet")
    read = read_scores(tmp_path / "scores.parquet")
    assert list(read.index) == list(range(8))
    assert set(SCORE_COLUMNS) <= set(read.columns)
    assert read["score"].dtype == float
    assert read["abnormal"].dtype == bool
    assert read["size_mb"].isna().all()
    assert [list(bag) for bag in read["patients"]] == made["patients"].tolist()
    pd.testing.assert_frame_equal(check_scores(pa.Table.from_pandas(make_scores())), read)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with pytest.raises(DataError, match="there are no scores here"):
        read_scores(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_scores(path)


def change(frame: pd.DataFrame, column: str, value: object, row: int = 3) -> pd.DataFrame:
    frame[column] = frame[column].astype(object)
    frame.at[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="score"), "no column 'score'"),
        (lambda f: f.iloc[:0], "has no rows"),
        (lambda f: change(f, "score", np.nan), r"Row 3 .*score 'nan' is empty"),
        (lambda f: change(f, "score", 1.2), r"Row 3 .*score '1.2' is not a probability"),
        (lambda f: change(f, "score", "high"), r"Row 3 .*score 'high' is not a probability"),
        (lambda f: change(f, "split", "train"), r"Row 3 .*split 'train' is none of"),
        (lambda f: change(f, "chromosome", "23"), r"Row 3 .*chromosome '23'"),
        (lambda f: change(f, "patients", []), r"Row 3 .*patients '\[\]' names nobody"),
        (lambda f: change(f, "abnormal", "no"), r"Row 3 .*abnormal 'no' is neither"),
        (lambda f: change(f, "kind", None), r"Row 3 .*kind .* is empty"),
        (lambda f: f.assign(abnormal=True), r"Row 0 .*kind 'normal' is the kind of a normal bag"),
        (
            lambda f: change(f, "patients", [f["patients"].iloc[-1][0]], row=0),
            "1 people have bags in both the validation and the test split, first 'test-7'",
        ),
    ],
)
def test_bad_scores_are_refused_with_one_sentence(spoil, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        check_scores(spoil(make_scores()))
