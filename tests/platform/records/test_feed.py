"""Rates of the feed are measured and recorded."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.cohorts.cohort import write_cohort
from homnet.errors import ConfigError
from homnet.results import Record, read_result
from homnet_platform.records import feed as module
from homnet_platform.records.feed import FeedConfig, feed


def test_impossible_measurements_are_refused() -> None:
    with pytest.raises(ConfigError, match="repeats must be at least 1, got 0"):
        FeedConfig(repeats=0)


def test_a_feed_is_measured_and_recorded(
    tmp_path: Path, table_of: Callable[..., pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small cohort is counted in this process: no task of Ray is needed.
    monkeypatch.setattr(module, "local_or_cluster", nullcontext)
    tables = [table_of("h1", num_patients=20)]
    cohort = write_cohort(tmp_path / "cohort", tables, scale={"h1": 3.0}, provenance={})
    config = FeedConfig(
        cohort=str(cohort.root),
        hospitals=("h1",),
        output=tmp_path / "feed",
        repeats=1,
        gpu_bags_per_s=1e5,
        record=Record("a test", tmp_path / "result.json"),
    )
    figures = feed(config)
    assert min(figures["drawing_bags_per_s"].values()) > 0
    assert 0 < figures["assembling"]["share_of_reading"] < 1
    assert figures["cpus_that_feed_a_gpu"] == 1e5 / figures["assembling"]["bags_per_s"]
    assert read_result(tmp_path / "result.json")["figures"]["feed"] == figures
