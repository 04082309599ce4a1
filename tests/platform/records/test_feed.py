"""Rates of the feed: which runs are compared, and a measurement on real workers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.cohorts.cohort import write_cohort
from homnet.errors import ConfigError
from homnet.model.network import best_form
from homnet.results import Record, read_result
from homnet_platform.records.feed import FeedConfig, _rates, _shares, feed
from homnet_platform.records.timed_training import Measured

FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)


def _run(step_s: float, still_s: float = 0.0) -> Measured:
    return Measured([step_s] * 3, 0.01, still_s, {}, 4)


def test_streamed_runs_are_compared_with_resident_ones_of_their_round() -> None:
    runs = {
        "resident, 1 workers": [_run(0.1, 0.08), _run(0.2, 0.08)],
        "streamed, 1 workers": [_run(0.125), _run(0.2)],
    }
    (found,) = _shares(runs, (1,)).values()
    assert found["rounds"] == pytest.approx([0.8, 1.0])
    assert found["median"] == pytest.approx(0.9)
    assert _rates(runs, 8) == {
        "resident, 1 workers": pytest.approx(8 / 0.15),
        "batch in memory, 1 workers": pytest.approx(100),
        "streamed, 1 workers": pytest.approx(8 / 0.1625),
    }


@pytest.mark.parametrize("changes", [{"repeats": 0}, {"max_steps": 5}, {"workers": (0, 1)}])
def test_impossible_measurements_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FeedConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_feed_is_measured_and_recorded(tmp_path: Path, table_of: Callable[..., pa.Table]) -> None:
    tables = [table_of("h1", num_patients=20)]
    cohort = write_cohort(tmp_path / "cohort", tables, scale={"h1": 3.0}, provenance={})
    config = FeedConfig(
        cohort=str(cohort.root),
        hospitals=("h1",),
        output=tmp_path / "feed",
        model=FORM,
        workers=(1,),
        batch_size=8,
        warm_up=2,
        max_steps=20,
        repeats=1,
        gpu_bags_per_s=1e5,
        record=Record("a test", tmp_path / "result.json"),
    )
    figures = feed(config)
    assert min(figures["drawing_bags_per_s"].values()) > 0
    assert 0 < figures["assembling"]["share_of_reading"] < 1
    assert set(figures["training_bags_per_s"]) == {
        "resident, 1 workers",
        "streamed, 1 workers",
        "batch in memory, 1 workers",
    }
    assert figures["cpus_that_feed_a_gpu"] == 1e5 / figures["assembling"]["bags_per_s"]
    assert read_result(tmp_path / "result.json")["figures"]["feed"] == figures
