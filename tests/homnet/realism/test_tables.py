"""The tables of a comparison, with what is undefined named as such."""

from homnet.realism.scorecard import Row
from homnet.realism.tables import realism_markdown, scorecard_rows

SIMULATED = [Row("length", 11.0, (9.0, 13.0)), Row("sd", 1.3), Row("share", 0.5)]
REAL = [Row("length", 10.0, (8.0, 12.0)), Row("sd", 1.0), Row("share", float("nan"))]


def test_undefined_figures_become_none():
    rows = scorecard_rows(SIMULATED, REAL)
    assert [row["agrees"] for row in rows] == [True, False, False]
    assert rows[2]["real"] is None
    assert rows[0]["real_quartiles"] == [8.0, 12.0]
    assert rows[1]["real_quartiles"] is None


def test_tables_without_real_chromosomes():
    interval = {"value": 0.7, "low": 0.6, "high": 0.8}
    hospital = {
        "pairs": interval,
        "bags": {"value": None, "low": None, "high": None},
        "log_ratio_sd": 0.08,
        "threshold": 0.21,
        "num_abnormal_pairs": 9,
        "num_abnormal_bags": 0,
    }
    text = realism_markdown({"length_only": {"hospitals": {"h": hospital}, "sizes": {}}})
    assert "| h | 0.700 (0.600 to 0.800) | n/a | 0.080 | 0.210 | 9 | 0 |" in text
    assert "Scorecard" not in text
