"""What a run tells people: TensorBoard events and MLflow metrics, over interruptions."""

import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from homnet.errors import ConfigError, StoreError
from homnet.locations import Location, files_in, to_location
from homnet.training.optimisation import TrainingConfig
from homnet_platform.tracking import Tracker, TrackingOptions


def _events(directory: Location) -> list[tuple[str, int, float]]:
    """Scalars of all event files below a directory: tag, step, value."""
    found = []
    for name in files_in(directory, recursive=True):
        content = (directory / name).read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            content = content[12 + size + 4 :]
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return found


def test_a_disk_that_is_full_for_a_moment_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = threading.active_count()
    tracker = Tracker(TrackingOptions(), tmp_path, "h1", settings=TrainingConfig())
    # A thread that dies of the disk would leave a queue that fills up, and then blocks.
    assert threading.active_count() == threads
    line = {"loss": 0.5, "auc": 0.9}
    flushed = RecordWriter.flush
    failed = list[str]()

    def flush(writer: RecordWriter) -> None:
        if not failed:
            failed.append("once")
            raise OSError(28, "No space left on device")
        flushed(writer)

    monkeypatch.setattr(RecordWriter, "flush", flush)

    for epoch in range(3):
        tracker.log({"epoch": epoch, **line})
    tracker.close()
    assert failed
    assert {step for _, step, _ in _events(tmp_path)} >= {1, 2}


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_metrics_of_every_epoch_are_events(
    tmp_path: Path, place: str, bucket: Callable[[str], str]
) -> None:
    folder = tmp_path if place == "disk" else to_location(bucket("run"))
    for first in (0, 2):
        tracker = Tracker(
            TrackingOptions(), folder, "run", settings=TrainingConfig(), first_epoch=first
        )
        for epoch in (first, first + 1):
            tracker.log({"epoch": epoch, "train_loss": 0.5 + epoch})
        tracker.close()
    assert _events(folder / "tensorboard" / "run") == [
        ("train_loss", epoch, 0.5 + epoch) for epoch in range(4)
    ]


def test_a_store_that_stumbles_ends_no_training(
    bucket: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = to_location(bucket("run"))
    tracker = Tracker(TrackingOptions(), folder, "run", settings=TrainingConfig())

    def away(place: Location, content: bytes) -> None:
        raise StoreError(f"{place}: no answer")

    with monkeypatch.context() as patched:
        patched.setattr("homnet_platform.tracking.write_whole", away)
        tracker.log({"epoch": 0, "train_loss": 0.5})
    assert "events of epoch 1 could not be written" in caplog.text
    assert "no answer); the training goes on" in caplog.text
    tracker.log({"epoch": 1, "train_loss": 0.25})
    tracker.close()
    assert len(_events(folder / "tensorboard" / "run")) == 2, "the next copy has both"


def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path) -> None:
    tracker = Tracker(TrackingOptions(tensorboard=False), tmp_path, "r", settings=TrainingConfig())
    tracker.log({"epoch": 0, "train_loss": 1.0})
    tracker.close()
    assert not list(tmp_path.iterdir())


def test_mlflow_gets_one_run_over_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    options = TrackingOptions(tensorboard=False, mlflow_uri=uri)
    for epoch in (0, 1):
        tracker = Tracker(
            options, tmp_path, "run", settings=TrainingConfig(seed=7), first_epoch=epoch
        )
        tracker.log({"epoch": epoch, "validation_auc": 0.8 + epoch / 10})
        tracker.close()
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("homnet")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["seed"] == "7"
    history = client.get_metric_history(run.info.run_id, "validation_auc")
    assert [(m.step, m.value) for m in history] == [(0, 0.8), (1, 0.9)]


def test_an_mlflow_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    options = TrackingOptions(mlflow_uri="nonsense://x")
    with pytest.raises(ConfigError, match="nonsense://x: MLflow does not answer"):
        Tracker(options, tmp_path, "run", settings=TrainingConfig())
