"""Demonstration on simulated people: simulate, pre-train, fine-tune, evaluate, report."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from homnet.bags.draw import BagConfig
from homnet.cohorts.split import SplitConfig
from homnet.errors import ConfigError
from homnet.model.network import best_form
from homnet.training.optimisation import TrainingConfig
from homnet_platform.evaluation import EvaluateConfig, evaluate
from homnet_platform.fine_tuning import FineTuneConfig, fine_tune
from homnet_platform.pretraining import PretrainConfig, pretrain
from homnet_platform.reporting import ReportConfig, report
from homnet_platform.runtime import local_or_cluster
from homnet_platform.simulate import SimulateConfig, simulate
from homnet_platform.training import ScalingOptions

C = TypeVar("C")
R = TypeVar("R")
_MARK: Final = ".homnet-demo"
"""Marker file in the demo directory; its text says whether the demo finished."""
_FINISHED: Final = "finished\n"


@dataclass(frozen=True)
class DemoConfig:
    """The demonstration."""

    work: Path = Path("runs/demo")
    """Directory of the cohort and the models; emptied first."""
    output: Path = Path("report")
    """Directory of the report."""
    num_epochs: int = 16
    """Epochs of pre-training."""
    num_workers: int = 2
    """Train workers."""
    seed: int = 0
    """Of everything."""


def is_finished(work: Path) -> bool:
    """Whether a directory holds a finished demonstration."""
    mark = work / _MARK
    return mark.is_file() and mark.read_text() == _FINISHED


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
    scaling = ScalingOptions(num_workers=config.num_workers)
    split = SplitConfig(validation=0.1, test=0.8, seed=config.seed)
    with local_or_cluster():
        _stage(
            "1/5 simulate healthy people and four hospitals",
            simulate,
            SimulateConfig(
                output=work / "cohort",
                seed=config.seed,
                num_healthy=90,
                healthy_cells=5,
                patient_cells=6,
                abnormal_fraction=1.0,
            ),
        )
        pretrained = _stage(
            "2/5 pre-train on artificial abnormalities",
            pretrain,
            PretrainConfig(
                cohort=str(work / "cohort"),
                output=str(work / "pretrain"),
                hospitals=("healthy-1",),
                model=best_form(),
                training=TrainingConfig(
                    batch_size=128,
                    max_epochs=config.num_epochs,
                    schedule="cosine",
                    weight_decay=0.01,
                    averaging=0.99,
                    seed=config.seed,
                ),
                scaling=scaling,
            ),
        )
        tuned = _stage(
            "3/5 fine-tune for each hospital",
            fine_tune,
            FineTuneConfig(
                cohort=str(work / "cohort"),
                checkpoint=str(pretrained),
                output=str(work / "fine_tune"),
                training=TrainingConfig(
                    learning_rate=1e-5,
                    batch_size=128,
                    max_epochs=4,
                    labels="cohort",
                    bags=BagConfig(rounds=2),
                    seed=config.seed,
                ),
                split=split,
                scaling=scaling,
            ),
        )
        _stage(
            "4/5 evaluate on held-out patients",
            evaluate,
            EvaluateConfig(
                cohort=str(work / "cohort"),
                checkpoint=str(work / "fine_tune"),
                output=str(work / "evaluate"),
                bags=BagConfig(rounds=2),
                split=split,
                seed=config.seed,
                num_bootstrap=500,
            ),
        )
    page = _stage(
        "5/5 report",
        report,
        ReportConfig(
            evaluation=work / "evaluate",
            output=config.output,
            cohort=work / "cohort",
            checkpoints=(pretrained, *tuned.values()),
            title="HomNet demonstration on simulated people",
        ),
    )
    (work / _MARK).write_text(_FINISHED)
    return page


def _stage(title: str, run: Callable[[C], R], config: C) -> R:
    print(f"\n== {title}", flush=True)
    started = time.perf_counter()
    result = run(config)
    print(f"   {time.perf_counter() - started:.0f} s", flush=True)
    return result
