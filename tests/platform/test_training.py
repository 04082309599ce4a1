"""The training loop under Ray Train: workers, resuming, early stopping, fine-tuning."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from homnet import learning
from homnet.bags import BagConfig
from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort, write_cohort
from homnet.errors import ConfigError, DataError
from homnet.learning import METRIC, Learner, Stage, train
from homnet.model import HomNetConfig, best_form
from homnet.predictor import Predictor
from homnet.training import TrainingConfig
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.runtime import require_workers
from homnet_platform.training import ScalingOptions, run_stage

TableOf = Callable[..., pa.Table]
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

# 176 training bags: the last batch of 35 holds one bag, so that one of two workers has none.
TRAINING = TrainingConfig(
    batch_size=35, max_epochs=2, bags=BagConfig(num_cells=3), learning_rate=3e-3, averaging=0.5
)
FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)


@pytest.fixture
def cohort(tmp_path: Path, table_of: TableOf) -> Cohort:
    tables = [table_of("h1", num_patients=6, abnormal="3")]
    return write_cohort(tmp_path / "cohort", tables, scale={"h1": 3.0}, provenance={})


def _stage(name: str, **changes: object) -> Stage:
    return replace(
        Stage(
            name=name,
            model=FORM,
            training=TRAINING,
            train_patients=frozenset(f"h1-p{i}" for i in range(4)),
            validation_patients=frozenset({"h1-p4", "h1-p5"}),
        ),
        **changes,
    )


def _run(cohort: Cohort, tmp_path: Path, stage: Stage, num_workers: int) -> Checkpoint:
    return run_stage(cohort, stage, storage=tmp_path / "runs", scaling=ScalingOptions(num_workers))


def test_one_worker_and_two_train_the_same_model(cohort: Cohort, tmp_path: Path) -> None:
    one = _run(cohort, tmp_path, _stage("one"), 1)
    two = _run(cohort, tmp_path, _stage("two"), 2)
    for first, second in zip(one.metrics["history"], two.metrics["history"], strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], abs=1e-4)
        assert first[METRIC] == pytest.approx(second[METRIC], abs=5e-3)
    for name, value in one.weights.items():
        torch.testing.assert_close(value, two.weights[name], rtol=0, atol=2e-3)


def test_one_process_without_ray_trains_the_same_model(cohort: Cohort, tmp_path: Path) -> None:
    """What ablations and sweeps do in one task is what the platform does on one worker."""
    threads, lines = torch.get_num_threads(), []
    torch.set_num_threads(1)  # as Ray gives a worker of one CPU
    try:
        alone = train(_stage("alone"), collect_bank(pairs_dataset(cohort)), report=lines.append)
    finally:
        torch.set_num_threads(threads)
    worker = _run(cohort, tmp_path, _stage("worker"), 1)
    assert alone.version == worker.version
    assert alone.calibration == worker.calibration
    assert alone.metrics == worker.metrics
    assert [line["epoch"] for line in lines] == [0, 1]


def test_the_same_seed_gives_the_same_bytes(cohort: Cohort, tmp_path: Path) -> None:
    versions = {
        name: _run(cohort, tmp_path, _stage(name, training=replace(TRAINING, seed=seed)), 1).version
        for name, seed in {"a": 1, "b": 1, "c": 2}.items()
    }
    assert versions["a"] == versions["b"] != versions["c"]


def test_a_stopped_run_continues_to_the_same_weights(cohort: Cohort, tmp_path: Path) -> None:
    """Two epochs and two more after a restart equal four in a row, to the bit."""
    four = replace(TRAINING, max_epochs=4)
    straight = _run(cohort, tmp_path, _stage("straight", training=four), 1)
    _run(cohort, tmp_path, _stage("stopped"), 1)
    continued = _run(cohort, tmp_path, _stage("stopped", training=four), 1)
    assert continued.metrics["history"] == straight.metrics["history"]
    assert continued.version == straight.version


def test_early_stopping_ends_the_run_and_the_best_is_kept(cohort: Cohort, tmp_path: Path) -> None:
    # Steps too small to change a ranking: no epoch is better than the first.
    training = replace(TRAINING, max_epochs=9, patience=2, learning_rate=1e-12, averaging=0.0)
    checkpoint = _run(cohort, tmp_path, _stage("stops", training=training), 1)
    history = checkpoint.metrics["history"]
    assert len(history) == 3
    assert checkpoint.metrics[METRIC] == max(line[METRIC] for line in history)
    assert checkpoint.state == {}


def test_fine_tuning_learns_the_cohorts_labels_and_keeps_frozen_parts(
    cohort: Cohort, tmp_path: Path
) -> None:
    parent = _run(cohort, tmp_path, _stage("parent"), 1)
    path = parent.save(tmp_path / "parent")
    tuning = replace(TRAINING, labels="cohort", learning_rate=1e-2)
    tuned = _run(cohort, tmp_path, _stage("tuned", training=tuning, parent=str(path)), 1)
    same = {n for n, value in tuned.weights.items() if torch.equal(value, parent.weights[n])}
    frozen = {n for n in tuned.weights if n.startswith(("cms.", "hom.alignments.0."))}
    assert frozen <= same
    assert "bag.bag.weight" not in same
    assert set(tuned.calibration) == {"h1"}
    assert 0 < tuned.calibration["h1"].prior < 0.2


def test_a_patient_on_both_sides_is_refused() -> None:
    with pytest.raises(DataError, match="h1-p3 is in both training and validation"):
        _stage("leak", validation_patients=frozenset({"h1-p3", "h1-p5"}))


def test_validation_without_both_classes_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    stage = _stage(
        "one-class",
        training=replace(TRAINING, labels="cohort"),
        validation_patients=frozenset({"h1-p5"}),
    )
    with pytest.raises(DataError, match="all of one class"):
        _run(cohort, tmp_path, stage, 1)


def test_more_workers_than_cpus_are_refused_instead_of_waiting(
    cohort: Cohort, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"needs 3 workers of 1 CPUs, and 2 fit on the nodes .*\(2 CPUs and 0 GPUs\)",
    ):
        _run(cohort, tmp_path, _stage("too many"), 3)


def test_the_papers_form_trains_too(cohort: Cohort, tmp_path: Path) -> None:
    form = HomNetConfig(merge_range=64, width=8, pair_width=12, attention="ratio")
    checkpoint = _run(cohort, tmp_path, _stage("paper", model=form), 1)
    assert all(torch.isfinite(value).all() for value in checkpoint.weights.values())


def test_workers_that_no_node_can_hold_are_refused() -> None:
    """On two CPUs one worker of three never starts, nor does one that wants a GPU."""
    require_workers(4, "scoring", cpus=0.5)
    with pytest.raises(ConfigError, match="needs 1 workers of 3 CPUs, and 0 fit"):
        require_workers(1, "scoring", cpus=3)
    with pytest.raises(ConfigError, match="of 1 CPUs and 1 GPUs, and 0 fit"):
        require_workers(1, "scoring", gpus=1)


def test_a_loss_that_is_no_number_is_one_sentence(cohort: Cohort) -> None:
    wild = replace(TRAINING, learning_rate=1e30, averaging=0.0)
    with pytest.raises(DataError, match=r"not all finite; lower training.learning_rate"):
        train(_stage("wild", training=wild), collect_bank(pairs_dataset(cohort)))


def test_validation_stays_on_the_device_of_the_training(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU both must be there; a predictor is on the CPU unless it is told."""
    seen = []

    class Spy(Predictor):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            seen.append(torch.device(options.get("device", "none")))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(learning, "Predictor", Spy)
    learner = Learner(_stage("device"), collect_bank(pairs_dataset(cohort)), device="cpu:0")
    learner.epoch()
    assert seen == [torch.device("cpu:0")]
