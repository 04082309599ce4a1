"""The page of a diagnosed cohort, and its tables in Markdown."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from homnet.patients.metrics import share
from homnet.patients.verdict import PatientVerdict
from homnet.report.cohort_page import (
    Case,
    _cleared,
    cohort_markdown,
    render_cohort,
    verdicts_markdown,
)

RESULTS = Path(__file__).parents[3] / "results"
RECORDS = sorted(RESULTS.glob("diagnose-hospitals*.json"))
SHARE = {"value": 0.8, "low": 0.6, "high": 0.9, "count": 8, "total": 10}
NONE = {"value": None, "low": None, "high": None, "count": 0, "total": 0}
SCOPE = {
    "num_abnormal": 10,
    "num_normal": 90,
    **dict.fromkeys(("sensitivity", "sensitivity_of_assessed", "auc", "right_type"), SHARE),
    **dict.fromkeys(("cleared", "specificity_of_assessed"), SHARE),
    **dict.fromkeys(("calibration_error", "calibration_error_by_chance"), SHARE),
    "abstained": {
        "abnormal": {"count": 1},
        "normal": {"count": 2},
        "reasons": {"too_few_cells": 3},
    },
}
PART = {"sensitivity": SHARE, "right_type": SHARE, "abstained": 1, "cleared": SHARE}
PART |= {"sensitivity_of_assessed": SHARE, "specificity_of_assessed": SHARE}
RATE = {"over_threshold": SHARE, "at_one_percent_of_others": NONE}


@pytest.fixture
def figures() -> dict[str, object]:
    return {
        "hospitals": {"north": SCOPE},
        "overall": SCOPE,
        "kinds": {"ring": PART},
        "sizes_mb": {"5 to 10 Mb": PART},
        "mosaics": {},
        "band_levels": {"400": PART},
        "cells": {},
        "variants": {
            "others": RATE,
            "variants": RATE,
            "families": {"inv(9)": RATE},
            "ratio": 2.0,
        },
        "reliability": [{"probability": 0.5, "abnormal": SHARE}],
        "specificity": 0.97,
        "calibrations": {},
        "reader": None,
    }


def test_the_tables_hold_the_numbers_and_name_what_is_missing(figures: dict[str, object]) -> None:
    text = cohort_markdown(figures)
    assert "| north | 10, 90 | 1, 2 | 0.800 (0.60 to 0.90) |" in text
    assert "| too few cells | 3 |" in text
    assert "| inv(9) | 0.8000 (0.6000 to 0.9000), 8 of 10 | n/a |" in text
    assert cohort_markdown(figures, ["By kind"]).startswith("By kind\n\n|")
    assert "north" not in cohort_markdown(figures, ["By kind"])


def test_sets_of_verdicts_are_a_line_each(figures: dict[str, object]) -> None:
    lines = verdicts_markdown({"first": figures, "second": figures}).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["", "---", "first", "second"]
    assert lines[2].endswith("| n/a |")
    nobody = {**figures, "hospitals": {"north": {**SCOPE, "sensitivity": NONE}}}
    assert "| nobody | n/a |" in verdicts_markdown({"nobody": nobody})


def test_a_failure_is_drawn_with_its_truth(
    figures: dict[str, object], table: pa.Table, verdict: PatientVerdict
) -> None:
    finding = verdict.types[0].finding
    assert finding is not None
    patient = {
        "hospital": "hospital-1",
        "patient_id": "p<1>",
        "true_abnormal": True,
        "true_iscn": "del(5)(p14)",
        "true_kind": "deletion",
        "true_size_mb": 22.0,
        "true_share": 0.5,
        "score": 1.0,
        "threshold": 4.0,
        "decision": "no_abnormality_found",
    }
    of_type = table.filter(pa.compute.equal(table["chromosome"], "5"))
    case = Case("overlooked", patient, finding, of_type, 3.0)
    page = render_cohort(figures, [case], {"models": {}})
    assert "overlooked: hospital-1, p&lt;1&gt;, chromosome 5" in page
    assert "del(5)(p14), 22 Mb, in 50% of the cells" in page
    assert page.count("<svg") >= 1
    unnamed = Case("overlooked", {**patient, "true_iscn": np.nan}, finding, of_type, 3.0)
    assert "deletion, 22 Mb" in render_cohort(figures, [unnamed], {"models": {}})


def test_old_records_that_counted_abstentions_as_cleared_are_put_right() -> None:
    # Nine of ten healthy patients raised no alarm, but two of the nine were not assessed.
    silent = share(9, 10)
    scope = {"specificity": silent, "abstained": {"normal": share(2, 10)}}
    assert _cleared(scope) == (share(7, 10), share(7, 8))
    # Of parts it is only known how many abnormal and healthy patients were left out together.
    assert _cleared({"specificity": silent, "abstained": 2}) == (None, None)
    assert _cleared({"specificity": silent, "abstained": 0}) == (silent, silent)
    new = {"cleared": share(1, 2), "specificity_of_assessed": share(1, 1)}
    assert _cleared(new) == (share(1, 2), share(1, 1))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_every_record_renders(record: Path) -> None:
    figures = json.loads(record.read_text())["figures"]
    assert "By hospital" in cohort_markdown(figures)
    assert record.stem in verdicts_markdown({record.stem: figures})
