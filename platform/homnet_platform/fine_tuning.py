"""Fine-tuning: one model per hospital, from one pre-trained checkpoint (paper, section 4.1)."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from homnet.bags import BagConfig
from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort
from homnet.learning import Stage
from homnet.registry import Registry
from homnet.results import read_json
from homnet.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.training import TrainingConfig
from homnet_platform.data import hospitals_with_abnormal_pairs
from homnet_platform.pretraining import (
    claim_of,
    claim_output,
    provenance,
    publish,
)
from homnet_platform.runtime import local_or_cluster
from homnet_platform.training import ScalingOptions, run_stage


@dataclass(frozen=True)
class FineTuneConfig:
    """Fine-tuning on each hospital's own labels."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    checkpoint: str = "runs/pretrain/checkpoint"
    """Pre-trained checkpoint; CMSBlock and the first alignment stay frozen."""
    output: str = "runs/fine_tune"
    """Directory that gets one directory per hospital."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to fine-tune on; by default all that have abnormal pairs."""
    training: TrainingConfig = TrainingConfig(
        learning_rate=1e-5, labels="cohort", bags=BagConfig(rounds=4), validation_rounds=4
    )
    """How the models are optimised (paper: Adam, 1e-5)."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients for test (paper: train to test 1:4) and, out of the training part, for early
    stopping and thresholds."""
    scaling: ScalingOptions = ScalingOptions()
    """Workers."""
    registry: str = ""
    """Registry that gets every model as a candidate of its hospital, if one is named."""


def fine_tune(config: FineTuneConfig) -> dict[str, Path]:
    """Trains one model per hospital; gives the checkpoints by hospital.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    parent = Checkpoint.load(config.checkpoint)
    hospitals = config.hospitals or hospitals_with_abnormal_pairs(cohort)
    published = {}
    with local_or_cluster():
        for hospital in hospitals:
            output = Path(config.output) / hospital
            own = cohort.of_hospitals([hospital])
            split = split_patients(own.patients, config.split)
            settings = dataclasses.replace(config, hospitals=(hospital,))
            content = {"cohort": own.fingerprint, "parent": parent.version}
            done = output / "checkpoint"
            if done.exists() and read_json(output / "config.json") == claim_of(settings, **content):
                print(f"{hospital}: finished before, {done}")
                published[hospital] = done
                _register(config, hospital, Checkpoint.load(done))
                continue
            claim_output(output, settings, **content)
            stage = Stage(
                name=f"fine-tuning {hospital}",
                model=parent.config,
                training=config.training,
                train_patients=split[TRAIN],
                validation_patients=split[VALIDATION],
                parent=str(Path(config.checkpoint).resolve()),
                provenance=provenance(own.fingerprint, [hospital], config, split, parent),
            )
            checkpoint = run_stage(own, stage, storage=output / "ray", scaling=config.scaling)
            published[hospital] = publish(checkpoint, output)
            _register(config, hospital, checkpoint)
    return published


def _register(config: FineTuneConfig, hospital: str, checkpoint: Checkpoint) -> None:
    if config.registry:
        version = Registry(config.registry).publish(checkpoint, hospital)
        print(f"{hospital}: candidate {version[:12]} in {config.registry}")
