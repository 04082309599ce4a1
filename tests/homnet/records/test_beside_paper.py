"""The paper's figures beside ours: each where it belongs, and nothing where there is none."""

from typing import Any

import pytest

from homnet.records import paper
from homnet.records.beside_paper import (
    HOMNET,
    PAPER_FORM,
    ablation_beside_paper,
    comparison_markdown,
    of_paper,
)


def _estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def _row(key: str, name: str, hospital: str, value: float, less: str = "") -> dict[str, Any]:
    row = {key: name, "hospital": hospital, "auc": _estimate(value), "f1": _estimate(value / 2)}
    if less:
        row |= {f"auc_{less}": _estimate(0.1), f"f1_{less}": _estimate(0.0)}
    return row


def _run(name: str, curve: list[float], seed: int = 0) -> dict[str, Any]:
    return {"method": name, "seed": seed, "curve": curve, "bags": 123_456, "cpu_seconds": 1170.0}


@pytest.fixture
def figures() -> dict[str, Any]:
    lines = [
        {"tried": {"features": "profile", "width": 32}, "validation_auc": 0.75},
        {"tried": {"features": "raw", "width": 128}, "validation_auc": 0.625},
        {"tried": {"features": "raw", "width": 32}, "diverged": True},
    ]
    return {
        "rows": [
            _row("method", name, hospital, 0.8, "" if name == HOMNET else "behind")
            for name in ("Length ratio", "AE", PAPER_FORM, HOMNET)
            for hospital in ("north", "south")
        ],
        "trials": {
            "Length ratio": {"chosen": 0, "lines": [{"tried": {}, "validation_auc": 0.5}]},
            "AE": {"chosen": 0, "lines": lines},
        },
        "failed": [{"name": "ViT", "run": "trial 1", "reason": "out of memory"}],
        "people": {"train": 50, "validation": 16, "test": 80},
        "seeds": [0, 1, 2],
        "seeds_of": {"Length ratio": [0], "AE": [0], PAPER_FORM: [0], HOMNET: [0, 1, 2]},
        "runs": [
            _run("Length ratio", [0.8]),
            _run("AE", [0.5, 0.8, 0.8, 0.7, 0.8, 0.803]),
            _run(PAPER_FORM, [0.5, 0.5, 0.6, 0.7]),
            _run(HOMNET, [0.6, 0.7, 0.9, 0.9]),
            _run(HOMNET, [0.6, 0.7, 0.7, 0.9], seed=1),
        ],
        "minutes": 20.0,
        "trial_minutes": 5.0,
        "batch_size": 64,
        "num_cells": 5,
        "patience": 10,
        "num_trials": 4,
        "num_tunings": 2,
        "fine_tuned": True,
        "work_s": 600.0,
        "wall_s": 300.0,
        "num_reused": 0,
        "peak_memory_gib": 3.5,
    }


def test_methods_stand_beside_the_paper(figures: dict[str, Any]) -> None:
    table = comparison_markdown(figures)
    lines = table.splitlines()
    assert lines[0] == "| Method | AUC, north | paper, Hos#1 | AUC, south | paper, Hos#2 |"
    ours = "0.800 (0.70 to 0.90)"
    assert lines[2] == f"| Length ratio | {ours} | n/a | {ours} | n/a |"
    assert lines[3] == f"| AE | {ours} | 0.603 | {ours} | 0.637 |"
    for line, name in zip(lines[4:6], (PAPER_FORM, HOMNET), strict=True):
        assert line == f"| {name} | {ours} | 0.916 | {ours} | 0.957 |"
    leads = table[table.index("| HomNet minus |") :].split("\n\n")[0]
    assert "| AE | 0.100 (0.00 to 0.20) |" in leads
    assert "| HomNet |" not in leads
    assert "Chosen: AE features profile, width 32." in table
    assert "Best validation AUC by features: AE 0.750 (profile) and 0.625 (raw)." in table
    assert "10 minutes of work in 5 minutes, at most 3.5 GiB" in table
    assert "Not in the table, as they failed: ViT." in table
    assert "Means over 3 seeds for HomNet and what comes within 0.03" in table
    assert "20 minutes of one core for each training, 5 for each trial, on all people" in table
    assert (
        f"AE 0.803, +0.003 (123,456 bags, 19.5 min); {PAPER_FORM} 0.700, +0.100 (123,456 bags, "
        f"19.5 min); HomNet 0.900, +0.000 (123,456 bags, 19.5 min). Had not converged: {PAPER_FORM}"
        ". A rise" in table
    )
    flat = {**figures, "runs": [_run(HOMNET, [0.5, 0.55, 0.55, 0.55])]}
    assert "Had learnt nothing: HomNet." in comparison_markdown(flat)
    fine = {**figures, "runs": [_run(HOMNET, [0.5, 0.75, 0.75, 0.75])]}
    assert "All had converged." in comparison_markdown(fine)
    assert "100 epochs over all people" in comparison_markdown({**figures, "minutes": 0.0})
    # What was taken from an earlier call has no wall time here.
    assert "of work, at most" in comparison_markdown({**figures, "num_reused": 3})


def test_trainings_that_collapsed_are_named(figures: dict[str, Any]) -> None:
    assert "collapsed" not in comparison_markdown(figures)
    lost = [
        {"tried": {"width": 32}, "trial": 0, "validation_auc": 0.521},
        {"tried": {"width": 128}, "trial": 1, "diverged": True},
    ]
    run = {**_run("AE", [0.5, 0.6]), "collapsed": lost}
    assert (
        "Not taken: AE with width 32 (0.521, in its trial 0.750); AE with width 128 (diverged, in "
        "its trial 0.625)." in comparison_markdown({**figures, "runs": [run]})
    )


def test_artificial_abnormalities_have_one_column(figures: dict[str, Any]) -> None:
    lines = comparison_markdown({**figures, "fine_tuned": False}).splitlines()
    assert lines[0] == "| Method | AUC, north | paper, Pki-3 | AUC, south |"
    assert "| 0.497 |" in lines[3]


def test_variants_stand_beside_the_paper() -> None:
    rows = [
        _row("variant", HOMNET, "north", 0.9),
        _row("variant", "range 8", "north", 0.7, "less_full"),
    ]
    table = ablation_beside_paper({"rows": rows, "seeds": [0], "failed": []})
    assert "| range 8 | 0.700 (0.60 to 0.80) | 0.904 |" in table
    assert "| HomNet | 0.900 (0.80 to 1.00) | 0.916 |" in table
    assert "failed" not in table


def test_what_the_paper_has_not() -> None:
    assert of_paper("Length ratio", 0, "auc") is None
    assert of_paper("ViT", 4, "auc") is None  # a fifth hospital
    assert of_paper("ViT", 3, "f1") == paper.TABLE_2["ViT"][3][1] / 100
    assert of_paper("ViT", 0, "f1", fine_tuned=False) == paper.TABLE_3["ViT"][1] / 100
