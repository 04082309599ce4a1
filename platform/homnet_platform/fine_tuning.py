"""Fine-tuning: one model per hospital, from one pre-trained checkpoint (paper, section 4.1).

Or one per hospital on the labels of all others, for laboratories without labels.

Hospitals have a few hundred bags each. With one worker, every hospital is one Ray task and all run
in parallel; with several workers, Ray Train trains one hospital after the other.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, in_split_order, split_patients
from homnet.errors import ConfigError, DataError
from homnet.files import is_published
from homnet.locations import Location, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.registry import Registry
from homnet.model.scoring import prepare_device
from homnet.model.shipped import place_of
from homnet.training.learning import train
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import pairs_dataset, require_validation, stored_bank
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import Run, provenance
from homnet_platform.runtime import local_or_cluster, require_workers
from homnet_platform.tracking import Tracker, TrackingOptions
from homnet_platform.training import ScalingOptions, run_stage


@dataclass(frozen=True)
class FineTuneConfig:
    """Fine-tuning on each hospital's own labels."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    checkpoint: str = "runs/pretrain/checkpoint"
    """Pre-trained checkpoint, or ``shipped`` for the model that comes with the package. CMSBlock
    and the first alignment stay frozen."""
    output: str = "runs/fine_tune"
    """Output directory, with one subdirectory per hospital."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to fine-tune on; by default all that have abnormal pairs."""
    training: TrainingConfig = TrainingConfig(
        learning_rate=1e-5, labels="cohort", bags=BagConfig(rounds=4), validation_rounds=4
    )
    """Optimisation (paper: Adam, 1e-5)."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients for test (paper: train to test 1:4) and, taken from the training part, for early
    stopping and thresholds."""
    max_abnormal: int | None = None
    """Maximum number of abnormal training patients per hospital, for a few-shot curve; None for
    all. Larger numbers include the patients of smaller ones. All healthy and all validation
    patients are still used."""
    leave_one_out: bool = False
    """Train the model of each hospital on the labels of all other hospitals only."""
    scaling: ScalingOptions = ScalingOptions(num_workers=1)
    """Workers per hospital; with one, hospitals are trained in parallel."""
    tracking: TrackingOptions = TrackingOptions()
    """Where metrics go during training."""
    registry: str = ""
    """Registry to add every model to as a candidate of its hospital; empty for none."""

    def __post_init__(self) -> None:
        if self.max_abnormal is not None and self.max_abnormal < 1:
            raise ConfigError(f"max_abnormal must be at least 1, got {self.max_abnormal}")
        if self.leave_one_out and self.max_abnormal is not None:
            raise ConfigError("leave_one_out takes no max_abnormal: it uses no own labels")


def fine_tune(config: FineTuneConfig) -> dict[str, Location]:
    """Trains one model per hospital; returns the checkpoint locations by hospital.

    The same command resumes an interrupted job.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    registry = Registry(config.registry) if config.registry else None
    cohort = Cohort.open(config.cohort)
    place = place_of(config.checkpoint)
    parent = Checkpoint.load(place)
    labelled = config.hospitals
    if config.leave_one_out or not labelled:
        labelled = cohort.hospitals_with_abnormal_pairs()
    hospitals = config.hospitals or labelled
    if not hospitals:
        raise DataError(f"{cohort.root}: no hospital has abnormal pairs to fine-tune on")
    teachers = {hospital: _teachers(hospital, labelled, config) for hospital in hospitals}
    runs, stages = {}, {}
    for hospital in hospitals:
        own = cohort.of_hospitals(teachers[hospital])
        run = runs[hospital] = Run.of(
            to_location(config.output) / hospital,
            dataclasses.replace(config, hospitals=(hospital,)),
            cohort=own.fingerprint,
            parent=parent.version,
        )
        if run.finished:
            print(f"{hospital}: finished before, {run.checkpoint}")
            continue
        run.claim()
        split = split_patients(own.patients, config.split)
        if config.max_abnormal is not None:
            split = _few_shot(own, split, config.max_abnormal, config.split.seed)
        stages[hospital] = Stage(
            name=f"fine-tuning {hospital}",
            model=parent.config,
            training=config.training,
            train_patients=split[TRAIN],
            validation_patients=split[VALIDATION],
            parent=str(place),
            provenance=provenance(own.fingerprint, own.scale, config, split, parent),
        )
    if stages:
        everybody = sorted({name for hospital in stages for name in teachers[hospital]})
        with local_or_cluster():
            if config.scaling.num_workers == 1:
                _side_by_side(cohort.of_hospitals(everybody), stages, runs, config)
            else:
                for hospital, stage in stages.items():
                    trained = run_stage(
                        cohort.of_hospitals(teachers[hospital]),
                        stage,
                        storage=runs[hospital].output / "ray",
                        scaling=config.scaling,
                        tracking=config.tracking,
                    )
                    runs[hospital].publish(trained.checkpoint)
    for hospital, run in runs.items():
        if registry is not None:
            version = registry.publish(Checkpoint.load(run.checkpoint), hospital)
            print(f"{hospital}: candidate {version[:12]} in {config.registry}")
    return {hospital: run.checkpoint for hospital, run in runs.items()}


def _teachers(hospital: str, labelled: Sequence[str], config: FineTuneConfig) -> list[str]:
    """The hospitals whose labels a hospital's model is trained on.

    Raises:
        DataError: there is no other.
    """
    if not config.leave_one_out:
        return [hospital]
    others = [name for name in labelled if name != hospital]
    if not others:
        raise DataError(
            f"{config.cohort}: no hospital other than {hospital} has abnormal pairs to train on"
        )
    return others


def _few_shot(
    cohort: Cohort, split: Mapping[str, frozenset[str]], max_abnormal: int, seed: int
) -> dict[str, frozenset[str]]:
    """The split with at most ``max_abnormal`` abnormal training patients.

    Raises:
        DataError: the training part has fewer.
    """
    table = cohort.read(columns=["patient_id", "abnormal"])
    marked = table.filter(table["abnormal"])["patient_id"].unique().to_pylist()
    carriers = in_split_order(split[TRAIN].intersection(marked), seed)
    if len(carriers) < max_abnormal:
        raise DataError(
            f"{', '.join(cohort.hospitals)}: {len(carriers)} abnormal training patients, but "
            f"max_abnormal asks for {max_abnormal}; give the split fewer test patients"
        )
    return {**split, TRAIN: split[TRAIN].difference(carriers[max_abnormal:])}


def _side_by_side(
    cohort: Cohort, stages: Mapping[str, Stage], runs: Mapping[str, Run], config: FineTuneConfig
) -> None:
    """Trains every hospital as a task; finished ones are kept if another fails."""
    scaling = config.scaling
    gpus = float(scaling.use_gpu)
    require_workers(
        1,
        "fine-tuning",
        cpus=scaling.cpus_per_worker,
        gpus=gpus,
        resources=scaling.resources_per_worker,
        labels=scaling.label_selector,
        wait_s=scaling.wait_s,
    )
    people = {p for s in stages.values() for p in s.train_patients | s.validation_patients}
    shared = stored_bank(pairs_dataset(cohort, people))
    # A hospital that cannot be validated fails here, before any training.
    ray.get(require_validation.remote(shared, list(stages.values())))
    task = ray.remote(
        num_cpus=scaling.cpus_per_worker,
        num_gpus=gpus,
        resources=scaling.resources_per_worker,
        label_selector=dict(scaling.label_selector),
        max_retries=scaling.max_failures,
    )(_train_hospital)
    num_epochs = len(stages) * config.training.max_epochs
    with progress_bar("fine-tuning", num_epochs, " epochs") as progress:
        waiting = {
            task.remote(stage, shared, config, runs[hospital].output, progress): hospital
            for hospital, stage in stages.items()
        }
        failed = None
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            hospital = waiting.pop(done)
            try:
                runs[hospital].publish(ray.get(done))
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed


def _train_hospital(
    stage: Stage, bank: PairBank, config: FineTuneConfig, output: Location, progress: Progress
) -> Checkpoint:
    torch.set_num_threads(max(1, math.floor(config.scaling.cpus_per_worker)))
    kept = output / "last"
    first = len(Checkpoint.load(kept).metrics["history"]) if is_published(kept) else 0
    tracker = Tracker(
        config.tracking, output, stage.name, settings=stage.training, first_epoch=first
    )

    def report(line: dict[str, float]) -> None:
        tracker.log(line)
        progress.advance(1, **{output.name: line["validation_auc"]})

    device = torch.device("cuda" if config.scaling.use_gpu else "cpu")
    prepare_device(device.type)
    progress.advance(first)
    checkpoint = train(stage, bank, device=device, kept=kept, report=report)
    # The bar also counts the epochs that early stopping skips.
    progress.advance(stage.training.max_epochs - len(checkpoint.metrics["history"]))
    tracker.close()
    return checkpoint
