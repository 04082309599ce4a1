"""What a run tells people while it trains: TensorBoard events, and MLflow where it is wanted."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tensorboardX import SummaryWriter

from homnet.errors import ConfigError

_RUN_ID: Final = "mlflow-run"


@dataclass(frozen=True)
class TrackingOptions:
    """Where the metrics of every epoch go, beside the history in the checkpoint."""

    tensorboard: bool = True
    """Whether TensorBoard events are written, below the run's directory."""
    mlflow_uri: str = ""
    """Tracking server of MLflow, if metrics go there too (needs ``homnet[mlflow]``)."""
    mlflow_experiment: str = "homnet"
    """Experiment of MLflow."""


class Tracker:
    """Metrics of one run, epoch by epoch; a continued run goes on where it stopped."""

    def __init__(
        self,
        options: TrackingOptions,
        directory: Path,
        name: str,
        *,
        settings: Any,
        first_epoch: int = 0,
    ) -> None:
        """Opens what is wanted.

        Args:
            options: where to.
            directory: of the run; on a cluster one that its first worker can write.
            name: of the run.
            settings: dataclass that says how the run is trained.
            first_epoch: epoch that comes next; later ones of an interrupted run are taken back.

        Raises:
            ConfigError: MLflow is wanted and not installed, or does not answer.
        """
        self._writer = (
            # Files are named by second: the suffix keeps a quick restart from overwriting one.
            SummaryWriter(
                str(directory / "tensorboard" / name),
                purge_step=first_epoch,
                filename_suffix=f".from-{first_epoch}",
            )
            if options.tensorboard
            else None
        )
        self._mlflow = _Mlflow(options, directory, name, settings) if options.mlflow_uri else None

    def log(self, line: Mapping[str, float]) -> None:
        """Takes the metrics of one epoch; ``epoch`` is its number."""
        step = int(line["epoch"])
        values = {name: float(value) for name, value in line.items() if name != "epoch"}
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
        if self._mlflow is not None:
            self._mlflow.log(values, step)

    def close(self) -> None:
        """Ends the run."""
        if self._writer is not None:
            self._writer.close()
        if self._mlflow is not None:
            self._mlflow.close()


class _Mlflow:
    """One run of MLflow, found again by the id that is kept in the run's directory."""

    def __init__(self, options: TrackingOptions, directory: Path, name: str, settings: Any) -> None:
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
                f"{options.mlflow_uri}: MLflow does not answer ({str(error).splitlines()[0]}); "
                "correct tracking.mlflow_uri, or leave it out"
            ) from None
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(self._run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)
