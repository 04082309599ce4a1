"""A step is timed, and two workers are predicted from one: figures by hand, and one real run."""

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import write_cohort
from homnet.errors import ConfigError
from homnet.model.network import best_form
from homnet.records.benchmark.data_parallel import FullRun, GpuOptions
from homnet.records.training_tables import throughput_markdown
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.records.throughput import ThroughputConfig, figures_of
from homnet_platform.records.timed_training import Measured, _StepClock, timed_training

FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
CONFIG = ThroughputConfig(
    model=FORM,
    batch_size=20,
    workers=(1, 8),
    run=FullRun(merge_ranges=(32, 64)),
    gpu=GpuOptions("G9", peak_flop_per_s=1e12, share_of_peak=0.5),
    price_per_gpu_hour=3.0,
)
BAGS = {"person": 46.0, "patient": 69.0}


def _measured(step_s: float, **changes: object) -> Measured:
    one = Measured([step_s, step_s, step_s], 0.01, {4: 0.002, 1000: 0.003}, 1000)
    return replace(one, **changes)  # type: ignore[arg-type]


def _runs(two_workers_s: float) -> dict[tuple[int, int], list[Measured]]:
    return {
        (1, 10): [_measured(0.3, all_reduce_s={})],
        (1, 20): [_measured(0.5, all_reduce_s={})],
        (2, 10): [_measured(0.3)],
        (2, 20): [_measured(two_workers_s)],
    }


@cache
def _figures(two_workers_s: float = 0.4, config: ThroughputConfig = CONFIG) -> dict[str, Any]:
    """Figures by the seconds of a step of two workers; counting operators takes seconds."""
    return figures_of(_runs(two_workers_s), config, BAGS)


def test_two_workers_are_predicted_from_one() -> None:
    figures = _figures()
    assert (figures["bag_s"], figures["fixed_s"]) == pytest.approx((0.02, 0.1))
    # Half a batch on one worker, and one all-reduce.
    measured = figures["measured"][-1]
    assert measured["predicted_step_s"] == pytest.approx(0.3 + 0.003, rel=0.01)
    assert not measured["fitted"]
    assert measured["bags_per_s"] == pytest.approx(50)
    assert measured["input_share"] == pytest.approx(0.025)
    assert figures["speedup"] == pytest.approx(0.5 / 0.4)
    assert figures["predicted_speedup"] == pytest.approx(0.5 / 0.303, rel=0.01)
    assert figures["all_reduce_bytes_per_worker"] == 1000


def test_what_was_measured_on_two_workers_does_not_move_the_prediction() -> None:
    fast, slow = (_figures(seconds) for seconds in (0.2, 0.9))
    assert fast["computed"] == slow["computed"]
    assert fast["measured"][-1]["predicted_step_s"] == slow["measured"][-1]["predicted_step_s"]


def test_only_a_priced_gpu_has_a_cost() -> None:
    figures = _figures()
    cpu, _, one, eight = figures["computed"]
    assert cpu["machine"] == "CPU as measured"
    assert cpu["cost"] is None
    hours = [sum(stage[end] for stage in one["hours"].values()) for end in (0, 1)]
    assert one["cost"] == pytest.approx([3 * total for total in hours])
    assert hours[0] < hours[1]
    assert eight["hours"]["sweep"][1] < one["hours"]["sweep"][1]
    free = _figures(config=replace(CONFIG, price_per_gpu_hour=None))
    assert all(row["cost"] is None for row in free["computed"])
    nothing = _figures(config=replace(CONFIG, gpu=GpuOptions()))
    assert {row["machine"] for row in nothing["computed"]} == {"CPU as measured"}


def test_the_table_says_what_was_assumed() -> None:
    figures = _figures() | {"object_store_peak_bytes": 7_000_000}
    table = throughput_markdown(figures)
    assert "| 2 | 20 | 50 | 400 (400 to 400) | 30" in table
    assert "| G9 | 8 |" in table
    assert (
        "Nothing was measured on G9. Assumed: 1 TFLOP/s by its data sheet, of which 50 %" in table
    )
    assert "3 for an hour of one GPU" in table
    assert "2 workers are 1.25 times as fast as one with 20 bags a step" in table
    without = _figures(config=replace(CONFIG, gpu=GpuOptions()))
    assert "Assumed" not in throughput_markdown(without | {"object_store_peak_bytes": 0})


def test_a_clock_leaves_out_epochs_and_short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1.0, 2.0, 4.0, 5.0, 105.0, 108.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = _StepClock(torch.device("cpu"), 16)
    for bags in (16, 16, 16, 3):
        clock(bags)
    clock.begin_epoch()
    clock(16)
    clock(16)
    assert clock.seconds == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_workers": 1}, "num_workers must be at least 2"),
        ({"batch_size": 3}, "half a batch"),
        ({"repeats": 0}, "at least 1"),
        ({"num_people": 9}, "num_people at least 10"),
    ],
)
def test_impossible_measurements_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_two_real_workers_are_timed(tmp_path: Path, table_of: Callable[..., pa.Table]) -> None:
    cohort = write_cohort(
        tmp_path / "cohort", [table_of("h1", num_patients=6)], scale={"h1": 3.0}, provenance={}
    )
    stage = Stage(
        name="timed",
        model=FORM,
        training=TrainingConfig(batch_size=16, max_epochs=1, bags=BagConfig(num_cells=3)),
        train_patients=frozenset(f"h1-p{i}" for i in range(4)),
        validation_patients=frozenset({"h1-p4", "h1-p5"}),
    )
    handler = signal.getsignal(signal.SIGINT)
    one = timed_training(
        cohort, stage, num_workers=2, use_gpu=False, storage=tmp_path / "ray", warm_up=3
    )
    # 4 people, 22 types, 4 cells: 176 bags, 11 steps, of which 10 have one before.
    assert len(one.step_s) == 7
    assert min(one.step_s) > 0
    assert one.input_s > 0
    parameters = one.gradient_bytes // 4
    assert set(one.all_reduce_s) == {4, one.gradient_bytes}
    assert min(one.all_reduce_s.values()) > 0
    assert 1000 < parameters < 100_000
    # A handler of Ray Train's would keep the run's actors alive.
    assert signal.getsignal(signal.SIGINT) is handler
