"""Tables of measured verdicts, from new figures and from the records of before."""

import json
from pathlib import Path

import pytest

from homnet.patients.metrics import share
from homnet.report.cohort_page import _cleared, cohort_markdown, verdicts_markdown

RESULTS = Path(__file__).parents[3] / "results"
RECORDS = sorted(RESULTS.glob("diagnose-hospitals*.json"))


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
