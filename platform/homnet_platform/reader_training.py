"""Training of a reader on a pre-trained checkpoint.

Readers are small, so one Ray task trains one. The same command resumes an interrupted run.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import ray
import torch

from homnet.bags.draw import PairBank
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.locations import Location, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig, best_form
from homnet.model.scoring import prepare_device
from homnet.model.shipped import place_of
from homnet.reader.learning import ReaderStage, learn, require_start
from homnet.reader.lessons import ReaderTraining
from homnet.reader.network import ReaderConfig
from homnet.reader.truth import with_segments
from homnet_platform.data import pairs_dataset, require_validation, stored_bank
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import Run, provenance, refuse_known
from homnet_platform.runtime import local_or_cluster, require_workers


@dataclass(frozen=True)
class LearnReaderConfig:
    """Training of a reader on a pre-trained HomNet."""

    cohort: str = "cohorts/rearranged"
    """Training cohort: simulated people with all kinds of abnormalities and their truth
    (jobs/simulate.py --rearranged-types), or normal pairs for artificial ones
    (--training.optimiser.labels artificial). Never a cohort to be diagnosed."""
    checkpoint: str = "runs/pretrain/checkpoint"
    """The HomNet below the reader; kept unchanged."""
    start: str | None = None
    """Reader checkpoint on this HomNet to start from; best with people new to both."""
    output: str = "runs/findings"
    """Directory for the reader's checkpoint and the run's state."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to train on; all by default."""
    width: int = 32
    """Channels of the reader."""
    training: ReaderTraining = ReaderTraining()
    """Optimisation."""
    split: SplitConfig = SplitConfig(validation=0.05, test=0.0)
    """Patients for validation and calibration; the rest is for training."""
    cpus: float = 2.0
    """Number of CPUs and threads of the training task."""
    use_gpu: bool = False
    """Whether the task gets a GPU."""

    def __post_init__(self) -> None:
        if self.cpus <= 0:
            raise ConfigError(f"cpus must be above zero, got {self.cpus:g}")


def facts(config: LearnReaderConfig) -> Mapping[str, object]:
    """Size of the reader, for a dry run."""
    reader = ReaderConfig(model=best_form(), width=config.width).build()
    trained = sum(p.numel() for p in reader.parameters() if p.requires_grad)
    return {"trainable parameters": f"{trained:,}"}


def learn_reader(config: LearnReaderConfig) -> Location:
    """Trains a reader and returns the location of its checkpoint.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    below = place_of(config.checkpoint)
    parent = Checkpoint.load(below)
    form = ReaderConfig(model=cast(HomNetConfig, parent.config), width=config.width)
    if config.hospitals:
        cohort = cohort.of_hospitals(config.hospitals)
    split = split_patients(cohort.patients, config.split)
    origin = provenance(cohort.fingerprint, cohort.scale, config, split, parent)
    if config.start is not None:
        path = to_location(config.start)
        start = Checkpoint.load(path, ReaderConfig.of_json)
        require_start(path, start, form, parent)
        start.require_scale(cohort.scale, str(path))
        refuse_known(path, start.provenance, split[VALIDATION], "learnt_from")
        origin["start"] = start.version
        for use in ("learnt_from", "validated_on"):
            origin[use] = sorted({*origin[use], *start.provenance.get(use, ())})
    run = Run.of(
        config.output,
        config,
        cohort=cohort.fingerprint,
        parent=parent.version,
        start=origin.get("start"),
    )
    run.claim()
    stage = ReaderStage(
        parent=str(below),
        width=config.width,
        training=config.training,
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
        start=None if config.start is None else str(to_location(config.start).resolve()),
        provenance=origin,
    )
    started = time.perf_counter()
    with local_or_cluster():
        gpus = float(config.use_gpu)
        require_workers(1, "the reader's training", cpus=config.cpus, gpus=gpus)
        wanted = split[TRAIN] | split[VALIDATION]
        bank = stored_bank(
            pairs_dataset(cohort, wanted).map_batches(
                cast(Any, with_segments), batch_size=None, batch_format="pyarrow"
            )
        )
        num_pairs = ray.get(require_validation.remote(bank, []))
        settings = config.training.optimiser
        bags = settings.bags
        num_bags = num_pairs * settings.max_epochs * bags.rounds // bags.num_cells
        task = ray.remote(num_cpus=config.cpus, num_gpus=gpus, max_retries=2)(_learn)
        with progress_bar("findings", num_bags, " bags") as progress:
            checkpoint = ray.get(task.remote(stage, bank, run.output / "last", config, progress))
    history = checkpoint.metrics["history"]
    run.record(
        "training of a reader, since its last start",
        {
            "seconds": round(time.perf_counter() - started, 1),
            "pairs": num_pairs,
            "epochs": len(history),
            "last": history[-1],
        },
        recipe="findings",
        seed=config.training.optimiser.seed,
    )
    return run.publish(checkpoint)


def _learn(
    stage: ReaderStage,
    bank: PairBank,
    kept: Location,
    config: LearnReaderConfig,
    progress: Progress,
) -> Checkpoint:
    torch.set_num_threads(max(1, math.floor(config.cpus)))
    device = "cuda" if config.use_gpu else "cpu"
    prepare_device(device)

    def report(line: Mapping[str, float]) -> None:
        progress.advance(0, **{n: v for n, v in line.items() if n.startswith("validation")})

    return learn(
        stage,
        bank,
        device=device,
        kept=kept,
        report=report,
        advance=progress.advance,
    )
