"""Demonstration on simulated people, from nothing to verdicts on patients and a report.

Five minutes of pre-training teach little, so only its beginning is shown; what is fine-tuned for
the hospitals is the model that comes with the package.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from homnet.cohorts.split import SplitConfig
from homnet.errors import ConfigError
from homnet.model.network import best_form
from homnet.model.shipped import SHIPPED, reader_beside
from homnet.training.optimisation import TrainingConfig
from homnet_platform.evaluation import EvaluateConfig, evaluate
from homnet_platform.fine_tuning import FineTuneConfig, fine_tune
from homnet_platform.patients.calibration import CalibrateConfig, calibrate
from homnet_platform.patients.diagnosis import DiagnoseConfig, diagnose
from homnet_platform.patients.measurement import MeasureConfig, measure
from homnet_platform.pretraining import PretrainConfig, pretrain
from homnet_platform.reporting import ReportConfig, report
from homnet_platform.runtime import local_or_cluster
from homnet_platform.simulate import SimulateConfig, simulate
from homnet_platform.training import ScalingOptions

C = TypeVar("C")
R = TypeVar("R")
_MARK: Final = ".homnet-demo"
"""Marker file of a demonstration's directory."""


@dataclass(frozen=True)
class DemoConfig:
    """The demonstration."""

    work: Path = Path("runs/demo")
    """Directory of the cohort and the models; emptied first."""
    output: Path = Path("report")
    """Directory of the report."""
    num_epochs: int = 4
    """Epochs of pre-training."""
    num_patients: int = 40
    """Patients of each of the four hospitals."""
    num_workers: int = 2
    """Train workers."""
    seed: int = 0
    """Of everything."""


def demonstrate(config: DemoConfig) -> Path:
    """Runs all stages on one local Ray and returns the path of the report.

    Raises:
        ConfigError: the directory holds something other than a demonstration.
    """
    work = config.work
    if work.exists() and any(work.iterdir()) and not (work / _MARK).exists():
        raise ConfigError(
            f"{work}: holds something other than a demonstration; choose another --work"
        )
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / _MARK).touch()
    split = SplitConfig(validation=0.45, test=0.45, seed=config.seed)
    cohort = str(work / "cohort")
    with local_or_cluster():
        _stage(
            "1/7 simulate healthy people and four hospitals",
            simulate,
            SimulateConfig(
                output=work / "cohort",
                seed=config.seed,
                num_healthy=40,
                healthy_cells=5,
                num_patients=(config.num_patients,) * 4,
                patient_cells=6,
                abnormal_fraction=0.4,
            ),
        )
        pretrained = _stage(
            "2/7 pre-train a model of its own for a minute: how it begins",
            pretrain,
            PretrainConfig(
                cohort=cohort,
                output=str(work / "pretrain"),
                hospitals=("healthy-1",),
                model=best_form(),
                training=TrainingConfig(
                    batch_size=128,
                    max_epochs=config.num_epochs,
                    schedule="cosine",
                    weight_decay=0.01,
                    averaging=0.98,
                    seed=config.seed,
                ),
                split=SplitConfig(seed=config.seed),
                scaling=ScalingOptions(num_workers=config.num_workers),
            ),
        )
        tuned = _stage(
            "3/7 fine-tune the shipped model for each hospital",
            fine_tune,
            FineTuneConfig(
                cohort=cohort,
                checkpoint=SHIPPED,
                output=str(work / "fine_tune"),
                training=TrainingConfig(
                    learning_rate=1e-5,
                    batch_size=128,
                    max_epochs=1,
                    labels="cohort",
                    seed=config.seed,
                ),
                split=split,
            ),
        )
        _stage(
            "4/7 calibrate verdicts on validation patients",
            calibrate,
            CalibrateConfig(
                cohort=cohort,
                checkpoint=str(work / "fine_tune"),
                findings=str(reader_beside(SHIPPED)),
                output=str(work / "calibrate"),
                split=split,
            ),
        )
        _stage(
            "5/7 diagnose held-out patients",
            diagnose,
            DiagnoseConfig(
                cohort=cohort,
                checkpoint=str(work / "calibrate"),
                output=str(work / "diagnose"),
                patients="test",
                split=split,
            ),
        )
        measure(MeasureConfig(diagnosis=work / "diagnose", cohort=cohort, seed=config.seed))
        _stage(
            "6/7 evaluate bags of the same patients",
            evaluate,
            EvaluateConfig(
                cohort=cohort,
                checkpoint=str(work / "fine_tune"),
                output=str(work / "evaluate"),
                split=split,
                seed=config.seed,
                num_bootstrap=200,
            ),
        )
    _stage(
        "7/7 report",
        report,
        ReportConfig(
            evaluation=work / "evaluate",
            diagnosis=work / "diagnose",
            output=config.output,
            cohort=work / "cohort",
            checkpoints=(pretrained, *tuned.values()),
            title="HomNet demonstration on simulated people",
            seed=config.seed,
        ),
    )
    return config.output / "index.html"


def _stage(title: str, run: Callable[[C], R], config: C) -> R:
    print(f"\n== {title}", flush=True)
    started = time.perf_counter()
    result = run(config)
    print(f"   {time.perf_counter() - started:.0f} s", flush=True)
    return result
