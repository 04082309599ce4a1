"""The training loop under Ray Train: workers, resuming, early stopping, fine-tuning."""

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
import torch
from ray.train import WorkerGroupError
from ray.util.state import list_actors

from homnet.bags.draw import BagConfig, PairBank, rows_of_file
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import best_form
from homnet.model.predictor import Predictor
from homnet.training import learning
from homnet.training.learning import METRIC, Learner, train
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet.training.supply import Resident
from homnet_platform import training
from homnet_platform.records.drill import train_workers
from homnet_platform.training import ScalingOptions, _causes, run_stage

TableOf = Callable[..., pa.Table]
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

# 176 training bags: the last batch of 35 holds one bag, so that all workers but one have none.
TRAINING = TrainingConfig(
    batch_size=35, max_epochs=2, bags=BagConfig(num_cells=3), learning_rate=3e-3, averaging=0.5
)
FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)


@pytest.fixture
def cohort(tmp_path: Path, table_of: TableOf) -> Cohort:
    table = table_of("h1", num_patients=6, abnormal="3")
    # Three files of two patients.
    people = [pa.array([f"h1-p{n}", f"h1-p{n + 1}"]) for n in (0, 2, 4)]
    tables = [table.filter(pc.is_in(table["patient_id"], two)) for two in people]
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


STREAMED = 4e-4
"""GiB that hold the validation pairs of the cohort on one worker, and not the training pairs."""


def _run(
    cohort: Cohort, tmp_path: Path, stage: Stage, num_workers: int, pairs_gib: float = 1.0
) -> Checkpoint:
    scaling = ScalingOptions(num_workers, pairs_gib=pairs_gib)
    return run_stage(cohort, stage, storage=tmp_path / "runs", scaling=scaling).checkpoint


def _bank(cohort: Cohort) -> PairBank:
    tables = [rows_of_file(cohort, number) for number in range(len(cohort.files))]
    return PairBank.from_table(pa.concat_tables(tables))


def _alone(cohort: Cohort, stage: Stage) -> Checkpoint:
    """The stage in this process on one thread, as Ray gives a worker of one CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train(stage, _bank(cohort))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_several_workers_train_the_same_model(cohort: Cohort, tmp_path: Path) -> None:
    """Their bags are streamed; that pairs which stay with them give the same, test_trials says."""
    training = replace(TRAINING, window_pairs=180, checkpoint_steps=2)
    # With a search the epochs of so small a model are alike, and any may be the best.
    stage = _stage("several", training=training, model=replace(FORM, search_positions=0))
    one = _alone(cohort, stage)
    scaling = ScalingOptions(3, cpus_per_worker=0.5, pairs_gib=STREAMED / 3)
    trained = run_stage(cohort, stage, storage=tmp_path / "runs", scaling=scaling)
    assert trained.figures["bags_per_s"] > 0
    assert 0 < trained.figures["wait_share"] < 1
    several = trained.checkpoint
    for first, second in zip(one.metrics["history"], several.metrics["history"], strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], abs=1e-4)
        assert first[METRIC] == pytest.approx(second[METRIC], abs=5e-3)
    for name, value in one.weights.items():
        torch.testing.assert_close(value, several.weights[name], rtol=0, atol=2e-3)


@pytest.mark.slow
def test_a_killed_worker_costs_at_most_what_follows_the_last_checkpoint(
    cohort: Cohort, tmp_path: Path
) -> None:
    """SIGKILL inside an epoch: the run goes on by itself and ends with the bits of a run without
    Ray, which is how ablations and sweeps train. A run that is started again does so, too
    (tests/jobs/test_buckets.py)."""
    training = replace(TRAINING, max_epochs=3, checkpoint_steps=1, window_pairs=180)
    stage = _stage("killed", training=training)
    killed = []

    def kill_once() -> None:
        while not list((tmp_path / "runs" / "killed").glob("checkpoint_*")):
            time.sleep(0.05)
        for pid in train_workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill_once)
    killer.start()
    survived = _run(cohort, tmp_path, stage, 1, STREAMED)
    killer.join()
    assert killed
    straight = _alone(cohort, stage)
    assert survived.version == straight.version
    assert survived.metrics == straight.metrics
    assert survived.calibration == straight.calibration


def test_storage_that_cannot_be_written_is_one_sentence(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the directory should be")
    with pytest.raises(CheckpointError, match=r"runs: checkpoints cannot be written \(.*give"):
        _run(cohort, tmp_path, _stage("unwritable"), 1)


def test_a_full_disk_is_one_sentence_and_names_the_way_on(tmp_path: Path) -> None:
    def fill() -> None:
        with _causes(tmp_path):
            full = OSError(errno.ENOSPC, "No space left on device")
            raise WorkerGroupError("workers failed", {0: full})

    with pytest.raises(CheckpointError, match=r"No space left on device.*last good checkpoint"):
        fill()


def test_validation_pairs_that_do_not_fit_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    scaling = ScalingOptions(num_workers=1, pairs_gib=1e-4)
    with pytest.raises(ConfigError, match=r"validation pairs need 0.0003\d* GiB .* split.valid"):
        run_stage(cohort, _stage("large"), storage=tmp_path / "runs", scaling=scaling)


def test_the_same_seed_gives_the_same_bytes(cohort: Cohort) -> None:
    versions = {
        name: _alone(cohort, _stage(name, training=replace(TRAINING, seed=seed))).version
        for name, seed in {"a": 1, "b": 1, "c": 2}.items()
    }
    assert versions["a"] == versions["b"] != versions["c"]


def test_early_stopping_ends_the_run_and_the_best_is_kept(cohort: Cohort) -> None:
    # Steps too small to change a ranking: no epoch is better than the first.
    training = replace(TRAINING, max_epochs=9, patience=2, learning_rate=1e-12, averaging=0.0)
    checkpoint = _alone(cohort, _stage("stops", training=training))
    history = checkpoint.metrics["history"]
    assert len(history) == 3
    assert checkpoint.metrics[METRIC] == max(line[METRIC] for line in history)
    assert checkpoint.state == {}


def _running() -> list[str]:
    """Actors of a training and of Ray Data that are alive, and CPUs that a task holds."""
    address = ray.get_runtime_context().gcs_address
    actors = list_actors(address, filters=[("state", "=", "ALIVE")], limit=1000)
    names = ("TrainController", "RayTrainWorker", "SplitCoordinator", "DatasetManager")
    held = ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0)
    return [actor.class_name for actor in actors if actor.class_name in names] + (
        [f"{held:g} CPUs"] if held else []
    )


@pytest.mark.slow
def test_an_early_stop_in_mid_stream_leaves_nothing_running(cohort: Cohort, tmp_path: Path) -> None:
    training = replace(
        TRAINING, max_epochs=100, patience=1, learning_rate=1e-12, averaging=0.0, window_pairs=90
    )
    checkpoint = _run(cohort, tmp_path, _stage("stops", training=training), 2, STREAMED / 2)
    assert len(checkpoint.metrics["history"]) == 2
    deadline = time.monotonic() + 60
    while running := _running():
        assert time.monotonic() < deadline, running
        time.sleep(0.2)


def test_fine_tuning_learns_the_cohorts_labels_and_keeps_frozen_parts(
    cohort: Cohort, tmp_path: Path
) -> None:
    parent = _alone(cohort, _stage("parent"))
    path = parent.save(tmp_path / "parent")
    tuning = replace(TRAINING, labels="cohort", learning_rate=1e-2)
    tuned = _alone(cohort, _stage("tuned", training=tuning, parent=str(path)))
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
        match=r"needs 3 workers of 1 CPUs, and 2 fit on the nodes .*\(3 CPUs and 0 GPUs\) beside 1",
    ):
        _run(cohort, tmp_path, _stage("too many"), 3)


def test_impossible_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match="resources names GPU; set use_gpu instead"):
        ScalingOptions(resources={"GPU": 1})
    with pytest.raises(ConfigError, match="workers get no GPU"):
        ScalingOptions(accelerator_type="A100")


def _asked(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scaling: ScalingOptions
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What is required of the cluster, and what Ray Train and its workers are asked for."""
    seen: list[dict[str, Any]] = []

    class Trainer:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            seen.append(options)

        def fit(self) -> Any:
            raise DataError("enough")

    def required(num_workers: int, *_: Any, **options: Any) -> None:
        seen.append({"num_workers": num_workers, **options})

    monkeypatch.setattr(training, "TorchTrainer", Trainer)
    monkeypatch.setattr(training, "require_workers", required)
    with pytest.raises(DataError, match="enough"):
        run_stage(cohort, _stage("asked"), storage=tmp_path / "runs", scaling=scaling)
    needs, asked = seen
    return needs, vars(asked["scaling_config"]), asked["train_loop_config"]


def test_workers_get_what_they_are_asked_for(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as Ray's own settings: this machine has one node, no label and no GPU."""
    scaling = ScalingOptions(
        use_gpu=True,
        accelerator_type="A100",
        label_selector={"zone": "a"},
        resources={"rack": 0.5},
        placement="STRICT_SPREAD",
    )
    required, asked, _ = _asked(cohort, tmp_path, monkeypatch, scaling)
    assert required["labels"] == {"zone": "a"}
    # A node with such a GPU has one of this resource.
    assert required["resources"] == {"rack": 0.5, "accelerator_type:A100": 0.001}
    assert asked["accelerator_type"] == "A100"
    assert asked["label_selector"] == {"zone": "a"}
    assert asked["placement_strategy"] == "STRICT_SPREAD"
    assert asked["resources_per_worker"] == {"CPU": 1.0, "GPU": 1, "rack": 0.5}


@pytest.mark.parametrize(
    ("min_workers", "fewest", "asked_for", "resident"), [(0, 3, 3, True), (2, 2, (2, 3), False)]
)
def test_a_run_goes_on_with_the_fewest_workers_it_was_given(
    cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    min_workers: int,
    fewest: int,
    asked_for: int | tuple[int, int],
    resident: bool,
) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")  # a run sets it for good
    # All pairs fit three workers and not two.
    scaling = ScalingOptions(3, min_workers=min_workers, pairs_gib=4e-4)
    required, asked, run = _asked(cohort, tmp_path, monkeypatch, scaling)
    assert required["num_workers"] == fewest
    assert asked["num_workers"] == asked_for
    assert run["resident"] == resident


def test_a_loss_that_is_no_number_is_one_sentence(cohort: Cohort) -> None:
    wild = replace(TRAINING, learning_rate=1e30, averaging=0.0)
    with pytest.raises(DataError, match=r"not all finite; lower training.learning_rate"):
        train(_stage("wild", training=wild), _bank(cohort))


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
    stage = _stage("device")
    learner = Learner(stage, Resident.of(stage, _bank(cohort), "cpu:0"), device="cpu:0")
    learner.epoch()
    assert seen == [torch.device("cpu:0")]
