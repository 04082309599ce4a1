"""Markers of a page are filled from results, and nothing else of it changes."""

from pathlib import Path
from typing import Any

import pytest

from homnet.errors import DataError
from homnet.records.rendering import render_page, result_tables
from homnet.results import write_result


def _share(count: int, total: int) -> dict[str, Any]:
    return {"value": count / total, "low": 0.25, "high": 0.75, "count": count, "total": total}


def _scope(found: int, normal: int) -> dict[str, Any]:
    return {
        "sensitivity": _share(found, 8),
        "cleared": _share(normal, 60),
        "specificity_of_assessed": _share(normal, 50),
        "abstained": {"abnormal": {"count": 1}, "normal": {"count": 10}},
    }


def _auc(value: float) -> dict[str, Any]:
    return {"value": value, "low": 0.5, "high": 1.0}


def _evaluation(value: float) -> dict[str, Any]:
    metrics = {"auc": _auc(value), "sensitivity": _auc(0.5)}
    scope = {
        "metrics": metrics,
        "num_bags": 9,
        "num_abnormal_bags": 4,
        "kinds": {"wrong_pair": {"auc": _auc(0.75), "sensitivity": _auc(0.25), "num_bags": 3}},
    }
    return {"specificity": 0.99, "hospitals": {"h1": scope}, "overall": scope}


def _write(root: Path, name: str, figures: dict[str, Any], claim: str = "What came.") -> None:
    path = root / "results" / name
    write_result(path, claim=claim, figures=figures, recipe="r", seed=5)


def test_a_table_its_source_and_the_text_around_it(tmp_path: Path) -> None:
    training = {"h1": {"figures": {"seconds": 150.0}}}
    _write(tmp_path, "a.json", {"evaluation": _evaluation(0.875), "training": training})
    page = "before\n<!-- table: results/a.json short -->\nold\n<!-- end -->\nafter\n"
    wanted = render_page(page, tmp_path)
    assert wanted.startswith("before\n<!-- table: results/a.json short -->\n| Abnormality |")
    assert "| all | 0.875 (0.50 to 1.00) | 0.500 (0.50 to 1.00) | 4 |" in wanted
    assert "| wrong pair | 0.750 (0.50 to 1.00) | 0.250 (0.50 to 1.00) | 3 |" in wanted
    assert "*What came: `results/a.json`, " in wanted
    assert ", seed 5, " in wanted
    assert "; training took 2 minutes.*" in wanted
    assert wanted.endswith("<!-- end -->\nafter\n")
    assert "old" not in wanted
    assert render_page(wanted, tmp_path) == wanted


def test_evaluations_that_belong_together(tmp_path: Path) -> None:
    for name, value in (("a.json", 0.75), ("b.json", 0.875)):
        _write(tmp_path, name, {"evaluation": _evaluation(value)})
    page = "<!-- rows: one = results/a.json; two = results/b.json -->\n<!-- end -->\n"
    lines = render_page(page, tmp_path).splitlines()
    assert lines[3] == "| one | 0.750 (0.50 to 1.00) |"
    assert lines[4] == "| two | 0.875 (0.50 to 1.00) |"
    assert lines[6].startswith("*AUC, in brackets")
    assert "`results/a.json`, `results/b.json`; " in lines[6]


def test_numbers_inside_of_a_sentence(tmp_path: Path) -> None:
    _write(tmp_path, "a.json", {"bags a day": {"h 1": 1234, "share": 0.61234, "rows": [1, 7]}})
    page = (
        "It reads <!-- value: results/a.json bags a day/h 1 -->?<!-- end --> bags, "
        "<!-- value: results/a.json bags a day/share .1f --><!-- end --> or "
        "<!-- value: results/a.json bags a day/share -->?<!-- end --> of "
        "<!-- value: results/a.json bags a day/rows/1 -->?<!-- end -->.\n"
    )
    text = render_page(page, tmp_path)
    assert "-->1,234<!-- end --> bags, " in text
    assert "-->0.6<!-- end --> or " in text
    assert "-->0.612<!-- end --> of " in text
    assert "-->7<!-- end -->." in text
    for wrong in ("rows/2", "rows/x", "share/x"):
        with pytest.raises(DataError, match=f"no number 'bags a day/{wrong}'"):
            render_page(page.replace("rows/1", wrong), tmp_path)
    with pytest.raises(DataError, match=r"no number 'bags a day/h 2'"):
        render_page(page.replace("h 1", "h 2"), tmp_path)


def test_verdicts_in_short() -> None:
    hospitals = {"h1": _scope(2, 50), "h2": _scope(3, 49)}
    figures = {"overall": _scope(5, 49), "hospitals": hospitals}
    lines = result_tables(figures, short=True).splitlines()
    assert (
        lines[2] == "| h1 | 2 of 8 | 0.250 (0.25 to 0.75) | 0 of 50 | 1.000 (0.25 to 0.75) | 11 |"
    )
    assert lines[4].startswith("| all hospitals | 5 of 8 | 0.625 (0.25 to 0.75) | 1 of 50 |")


def test_an_ablation_stands_beside_the_paper_only_after_fine_tuning() -> None:
    row = {"variant": "HomNet", "hospital": "h1", "auc": _auc(0.75), "f1": _auc(0.5)}
    figures = {"rows": [row], "seeds": [0]}
    assert "paper" not in result_tables({"ablation": figures})
    assert "paper, Hos#1" in result_tables({"ablation": {**figures, "fine_tuned": True}})


def test_what_simulating_took() -> None:
    figures = {
        "pairs": 2000,
        "people": 30,
        "seconds": 41.4,
        "peak_memory_gib": 2.0625,
        "bytes_on_disk": 17_400_000,
    }
    assert result_tables(figures).splitlines()[2] == "| 2,000 | 30 | 41 | 2.06 | 17 |"


def test_results_without_a_table_are_refused() -> None:
    with pytest.raises(DataError, match=r"no table for figures \['seconds'\]"):
        result_tables({"seconds": 3})
    with pytest.raises(DataError, match="no short table"):
        result_tables({"drill": {}}, short=True)
