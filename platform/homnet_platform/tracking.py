"""Metrics during training: TensorBoard events, and optionally MLflow."""

import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from homnet.errors import ConfigError, first_line
from homnet.files import write_whole
from homnet.locations import Location, RemotePath

_LOG: Final = logging.getLogger(__name__)
_RUN_ID: Final = "mlflow-run"


@dataclass(frozen=True)
class TrackingOptions:
    """Outputs for the metrics of every epoch, beside the history in the checkpoint."""

    tensorboard: bool = True
    """Whether to write TensorBoard events in the run's directory."""
    mlflow_uri: str = ""
    """MLflow tracking server (needs ``homnet[mlflow]``); empty for none."""
    mlflow_experiment: str = "homnet"
    """MLflow experiment."""


class Tracker:
    """Logs the metrics of one run; a resumed run continues its earlier log.

    What cannot be written once the run has begun is said in a warning: a training does not end for
    its metrics.
    """

    def __init__(
        self,
        options: TrackingOptions,
        directory: Location,
        name: str,
        *,
        settings: Any,
        first_epoch: int = 0,
    ) -> None:
        """Opens the outputs in the directory of the run, which this worker must be able to write.

        What an interrupted run logged of ``first_epoch``, the next, and later ones is discarded.
        ``settings`` is the dataclass of the training's.

        Raises:
            ConfigError: MLflow is configured but not installed, or does not answer.
        """
        self._events = directory / "tensorboard" / name
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """What the writer writes locally; a store cannot append, and gets it again each epoch."""
        self._writer = None
        if options.tensorboard:
            if isinstance(self._events, RemotePath):
                self._folder = tempfile.TemporaryDirectory()
            place = Path(str(self._events) if self._folder is None else self._folder.name)
            place.mkdir(parents=True, exist_ok=True)
            # Not the SummaryWriter, whose thread dies of a full disk, unseen: then its queue fills
            # up, and the training waits for ever. File names have a resolution of one second; the
            # suffix makes a quick restart unique.
            self._writer = EventsWriter(str(place / "events"), f".from-{first_epoch}")
            # What was logged of this epoch and later ones counts no more.
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(
                Event(wall_time=time.time(), step=first_epoch, session_log=start)
            )
        self._mlflow = _Mlflow(options, directory, name, settings) if options.mlflow_uri else None

    def log(self, line: Mapping[str, float]) -> None:
        """Logs the metrics of one epoch; ``line["epoch"]`` is its number."""
        step = int(line["epoch"])
        values = {name: float(value) for name, value in line.items() if name != "epoch"}
        if self._writer is not None:
            with _warned(f"events of epoch {step + 1}"):
                for name, value in values.items():
                    shown = scalar(name, value)
                    self._writer.write_event(Event(wall_time=time.time(), step=step, summary=shown))
                self._writer.flush()
                self._store()
        if self._mlflow is not None:
            with _warned(f"MLflow's metrics of epoch {step + 1}"):
                self._mlflow.log(values, step)

    def _store(self) -> None:
        """Copies the events to the store, if they are kept there."""
        if self._folder is not None:
            for file in Path(self._folder.name).iterdir():
                write_whole(self._events / file.name, file.read_bytes())

    def close(self) -> None:
        """Closes the outputs."""
        if self._writer is not None:
            with _warned("the last events"):
                self._writer.close()
                self._store()
        if self._folder is not None:
            self._folder.cleanup()
        if self._mlflow is not None:
            with _warned("the end of MLflow's run"):
                self._mlflow.close()


@contextmanager
def _warned(what: str) -> Iterator[None]:
    """Makes a warning of any error: outputs are foreign code on foreign machines."""
    try:
        yield
    except Exception as error:
        _LOG.warning("%s could not be written (%s); the training goes on", what, first_line(error))


class _Mlflow:
    """One MLflow run, resumed by the id in the run's directory."""

    def __init__(
        self, options: TrackingOptions, directory: Location, name: str, settings: Any
    ) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise ConfigError(
                "tracking.mlflow_uri is set, but MLflow is not installed; install homnet[mlflow]"
            ) from None
        kept = directory / _RUN_ID / name
        try:
            self._client = MlflowClient(options.mlflow_uri)
            if kept.is_file():
                self._run = kept.read_text()
                self._client.get_run(self._run)
                return
            experiment = self._client.get_experiment_by_name(options.mlflow_experiment)
            of = (
                self._client.create_experiment(options.mlflow_experiment)
                if experiment is None
                else experiment.experiment_id
            )
            self._run = self._client.create_run(of, run_name=name).info.run_id
            for key, value in dataclasses.asdict(settings).items():
                self._client.log_param(self._run, key, str(value)[:500])
        except MlflowException as error:
            raise ConfigError(
                f"{options.mlflow_uri}: MLflow does not answer ({first_line(error)}); "
                "correct tracking.mlflow_uri, or leave it out"
            ) from None
        write_whole(kept, self._run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)
