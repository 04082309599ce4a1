"""The table of scores, written by evaluation and read by metrics: one row per bag.

=============== ==================== ==========================================================
column          type                 meaning
=============== ==================== ==========================================================
bag             int                  number of the bag
hospital        string               hospital of the bag
patients        list of strings      people whose pairs are in the bag; several if pooled
chromosome      string               type, ``"1"``..``"22"``, ``"X"``, ``"Y"``
num_pairs       int                  number of pairs in the bag (K)
band_level      int                  median over its pairs
kind            string               ``"normal"``, ``"sham"`` or the kind of the abnormality
abnormal        bool                 label; a normal variant has a kind and is not abnormal
event_fraction  float or null        size of the event as a share of the chromosome
size_mb         float or null        size of the event, megabases
score           float                probability of an abnormality, 0..1
split           string               ``"validation"`` or ``"test"``
=============== ==================== ==========================================================
"""

from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from homnet.errors import DataError, first_line
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import NORMAL, SHAM
from homnet.locations import Location, in_memory, to_location

SCORE_COLUMNS: Final = (
    "bag",
    "hospital",
    "patients",
    "chromosome",
    "num_pairs",
    "band_level",
    "kind",
    "abnormal",
    "event_fraction",
    "size_mb",
    "score",
    "split",
)
_SIZES: Final = ("event_fraction", "size_mb")
"""Columns that may be empty."""
SPLITS: Final = ("validation", "test")


def read_scores(path: str | Location) -> pd.DataFrame:
    """Reads and checks a Parquet file of scores.

    Raises:
        DataError: the file is missing or damaged, or see :func:`check_scores`.
    """
    try:
        table = pq.ParquetFile(in_memory(to_location(path))).read()
    except FileNotFoundError:
        raise DataError(f"{path}: there are no scores here; run jobs/evaluate.py first.") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = first_line(error)
        raise DataError(
            f"{path}: not a readable Parquet file ({reason}); run jobs/evaluate.py again."
        ) from None
    return check_scores(table)


def check_scores(scores: pd.DataFrame | pa.Table) -> pd.DataFrame:
    """Checks a table of scores and returns it as a data frame with a new index.

    Raises:
        DataError: a column is missing, a value is invalid, or a person is in both splits.
    """
    frame = scores.to_pandas() if isinstance(scores, pa.Table) else scores
    frame = frame.reset_index(drop=True)
    missing = [name for name in SCORE_COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(
            f"The scores have no column '{missing[0]}' (they have {', '.join(map(str, frame))}); "
            "evaluate the model again."
        )
    if frame.empty:
        raise DataError("The table of scores has no rows; evaluate the model on some bags first.")
    for name in SCORE_COLUMNS:
        if name not in _SIZES:
            _refuse(frame, name, frame[name].isna(), "is empty")
    score = pd.to_numeric(frame["score"], errors="coerce")
    _refuse(frame, "score", ~score.between(0, 1), "is not a probability between 0 and 1")
    _refuse(frame, "split", ~frame["split"].isin(SPLITS), f"is none of {', '.join(SPLITS)}")
    _refuse(frame, "chromosome", ~frame["chromosome"].isin(CHROMOSOMES), "is not 1..22, X or Y")
    _refuse(frame, "patients", frame["patients"].map(len) == 0, "names nobody")
    _refuse(frame, "abnormal", ~frame["abnormal"].isin([False, True]), "is neither true nor false")
    abnormal = frame["abnormal"].astype(bool)
    contradictory = frame["kind"].isin([NORMAL, SHAM]) & abnormal
    _refuse(frame, "kind", contradictory, "is the kind of a normal bag, but the bag is abnormal")
    sizes = {name: pd.to_numeric(frame[name], errors="coerce") for name in _SIZES}
    frame = frame.assign(score=score.astype(float), abnormal=abnormal, **sizes)
    people = {
        split: {name for bag in frame["patients"][frame["split"] == split] for name in bag}
        for split in SPLITS
    }
    shared = sorted(people["validation"] & people["test"])
    if shared:
        raise DataError(
            f"{len(shared)} people have bags in both the validation and the test split, "
            f"first '{shared[0]}'; split by patient and evaluate again."
        )
    return frame


def _refuse(frame: pd.DataFrame, column: str, bad: "pd.Series[bool]", reason: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise DataError(
            f"Row {row} of the scores (bag {frame['bag'][row]}): {column} "
            f"'{frame[column][row]}' {reason}; evaluate the model again."
        )
