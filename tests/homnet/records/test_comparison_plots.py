"""Curves of trainings: drawn where there are any."""

from pathlib import Path

from homnet.records.comparison_plots import draw_curves


def test_curves_are_drawn_of_trainings_in_epochs(tmp_path: Path) -> None:
    whole = {"method": "AE", "seed": 0, "curve": [0.5, 0.7], "bags": 9, "cpu_seconds": 60.0}
    draw_curves({"seeds": [0], "runs": [{**whole, "curve": [0.5]}]}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    draw_curves({"seeds": [0], "runs": [whole]}, tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 10_000
