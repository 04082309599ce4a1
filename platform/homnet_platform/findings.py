"""The reader of findings: training it on a checkpoint of pre-training, and measuring what it says.

Readers are small, so one is trained by one Ray task; the same command continues a run that was
interrupted.
"""

import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch
from numpy.typing import NDArray
from scipy.special import expit

from homnet.assessment import Assessment, PatientType, assess
from homnet.bags import PairBank
from homnet.checkpoint import Calibration, Checkpoint
from homnet.cohort import Cohort
from homnet.errors import ConfigError, DataError
from homnet.joint import JointModel, score_jointly
from homnet.learning import calibrations
from homnet.model import HomNetConfig
from homnet.predictor import Predictor, calibrate
from homnet.reader.learning import ReaderStage, ReaderTraining, learn
from homnet.reader.measures import cases_of, measure, normal_types, summary_markdown
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import FindingsReader
from homnet.reader.truth import SEGMENT_COLUMNS, with_segments
from homnet.results import (
    describe_machine,
    package_versions,
    read_result,
    require_both,
    write_json,
    write_result,
)
from homnet.split import TEST, TRAIN, VALIDATION, SplitConfig, split_patients
from homnet_platform.data import all_rows, hospitals_with_abnormal_pairs, pairs_dataset
from homnet_platform.evaluation import models_of, refuse_split
from homnet_platform.pretraining import claim_output, portable, provenance, publish
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runtime import local_or_cluster, require_workers

_TRUTH: Final = (
    "hospital",
    "patient_id",
    "chromosome",
    "cell_id",
    "abnormal",
    "kind",
    "size_mb",
    "homolog",
)


@dataclass(frozen=True)
class LearnFindingsConfig:
    """Training of a reader on a pre-trained HomNet."""

    cohort: str = "cohorts/rearranged"
    """Cohort that teaches: simulated people with all kinds of abnormalities and their truth
    (jobs/simulate.py --rearranged-types), or normal pairs for artificial ones
    (--training.optimiser.labels artificial). Never one whose patients are to be judged."""
    checkpoint: str = "runs/pretrain/checkpoint"
    """The HomNet below; it stays as it is."""
    output: str = "runs/findings"
    """Directory for the reader's checkpoint and the run's own files."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to learn from; all by default."""
    width: int = 32
    """Channels of the reader."""
    training: ReaderTraining = ReaderTraining()
    """How it is optimised."""
    split: SplitConfig = SplitConfig(validation=0.05, test=0.0)
    """Patients for validation and calibration; the rest is learnt from."""
    cpus: float = 2.0
    """CPUs of the task that trains, and its threads."""
    use_gpu: bool = False
    """Whether it gets a GPU."""
    max_failures: int = 2
    """How often it is started again from its last epoch."""

    def __post_init__(self) -> None:
        if self.cpus <= 0:
            raise ConfigError(f"cpus must be above zero, got {self.cpus:g}")


@dataclass(frozen=True)
class EvaluateFindingsConfig:
    """What a reader says of held-out patients, against the truth of their cohort."""

    cohort: str = "cohorts/simulated"
    """Cohort directory, with truth."""
    checkpoint: str = "runs/pretrain/checkpoint"
    """HomNet whose verdict counts, or the output of fine-tuning: then each hospital has its own."""
    reader: str = "runs/findings/checkpoint"
    """Checkpoint of the reader."""
    output: str = "runs/findings-evaluation"
    """Directory for findings.json, cases.parquet and provenance.json."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to judge; by default those with abnormal pairs."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients for thresholds of the verdict, and for the figures."""
    seed: int = 0
    """Of the bootstrap."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    claim: str = ""
    """What the figures show, in one sentence; with it a result of record is written."""
    result: Path | None = None
    """File of the result of record, for example results/findings.json."""

    def __post_init__(self) -> None:
        require_both(self.claim, self.result)


def facts(config: LearnFindingsConfig) -> Mapping[str, object]:
    """Size of the reader, for a dry run."""
    form = HomNetConfig(view="stretched")
    reader = ReaderConfig(model=form, width=config.width).build()
    return {"parameters that are learnt": f"{sum(t.numel() for t in reader.learnt().values()):,}"}


def learn_findings(config: LearnFindingsConfig) -> Path:
    """Trains a reader, and gives the directory of its checkpoint.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    parent = Checkpoint.load(config.checkpoint)
    ReaderConfig(model=cast(HomNetConfig, parent.config), width=config.width)
    if config.hospitals:
        cohort = cohort.of_hospitals(config.hospitals)
    output = Path(config.output)
    claim_output(output, config, cohort=cohort.fingerprint, parent=parent.version)
    split = split_patients(cohort.patients, config.split)
    stage = ReaderStage(
        parent=str(Path(config.checkpoint).resolve()),
        width=config.width,
        training=config.training,
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
        provenance=provenance(cohort.fingerprint, cohort.hospitals, config, split, parent),
    )
    started = time.perf_counter()
    with local_or_cluster():
        gpus = float(config.use_gpu)
        require_workers(1, "the reader's training", cpus=config.cpus, gpus=gpus)
        wanted = split[TRAIN] | split[VALIDATION]
        bank = PairBank.from_table(with_segments(all_rows(pairs_dataset(cohort, wanted))))
        num_bags = len(bank) * config.training.optimiser.max_epochs
        num_bags //= config.training.optimiser.bags.num_cells
        task = ray.remote(num_cpus=config.cpus, num_gpus=gpus, max_retries=config.max_failures)(
            _learn
        )
        with progress_bar("findings", num_bags, " bags") as progress:
            checkpoint = ray.get(
                task.remote(stage, ray.put(bank), output / "last", config, progress)
            )
    history = checkpoint.metrics["history"]
    write_result(
        output / "run.json",
        claim="training of a reader of findings, since its last start",
        figures={
            "seconds": round(time.perf_counter() - started, 1),
            "pairs": len(bank),
            "epochs": len(history),
            "last": history[-1],
        },
        command=shlex.join(["python", *sys.argv]),
        recipe="findings",
        seed=config.training.optimiser.seed,
    )
    return publish(checkpoint, output)


def _learn(
    stage: ReaderStage,
    bank: PairBank,
    kept: Path,
    config: LearnFindingsConfig,
    progress: Progress,
) -> Checkpoint:
    torch.set_num_threads(max(1, math.floor(config.cpus)))

    def report(line: Mapping[str, float]) -> None:
        progress.advance(0, **{n: v for n, v in line.items() if n.startswith("validation")})

    return learn(
        stage,
        bank,
        device="cuda" if config.use_gpu else "cpu",
        kept=kept,
        report=report,
        advance=progress.advance,
    )


def evaluate_findings(config: EvaluateFindingsConfig) -> Path:
    """Reads validation and test patients, measures, and gives the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    diseased = hospitals_with_abnormal_pairs(cohort)
    models = models_of(Path(config.checkpoint), config.hospitals or diseased, config.hospitals)
    cohort = cohort.of_hospitals(models)
    split = split_patients(cohort.patients, config.split)
    predictors = {path: Predictor.load(path) for path in set(models.values())}
    origins = {path: Checkpoint.load(path).provenance for path in predictors}
    origins[Path(config.reader)] = Checkpoint.load(config.reader, ReaderConfig.of_json).provenance
    refuse_split(split, origins)
    reader = FindingsReader.load(config.reader)
    verdicts = {hospital: predictors[path] for hospital, path in models.items()}
    with local_or_cluster():
        rows = with_segments(all_rows(pairs_dataset(cohort, split[VALIDATION] | split[TEST])))
    parts = {
        name: rows.filter(pc.is_in(rows["patient_id"], pa.array(sorted(split[name]))))
        for name in (VALIDATION, TEST)
    }
    judged = {name: _Judged.of(part, verdicts) for name, part in parts.items()}
    calibrated = judged[VALIDATION].calibrations(tuple(verdicts))
    test = judged[TEST]
    findings = reader(test.assessment, test.probabilities(calibrated))
    thresholds = {hospital: c.threshold for hospital, c in calibrated.items()}
    cases = cases_of(findings, test.truth, thresholds)
    if cases.empty:
        raise DataError("the test patients have no abnormality with truth; nothing can be measured")
    figures = measure(cases, seed=config.seed, num_bootstrap=config.num_bootstrap)
    figures["normal_types"] = normal_types(findings, test.truth, thresholds)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    cases.to_parquet(output / "cases.parquet", index=False)
    write_json(output / "findings.json", figures)
    versions = {hospital: predictor.version for hospital, predictor in verdicts.items()}
    said = {"reader": reader.version, "verdicts": versions, "thresholds": thresholds}
    write_json(
        output / "provenance.json",
        {
            "cohort": cohort.fingerprint,
            **said,
            "config": portable(config),
            "packages": package_versions(),
            "machine": describe_machine(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    if config.result is not None:
        run = Path(config.reader).parent / "run.json"
        write_result(
            config.result,
            claim=config.claim,
            figures={
                "findings": figures,
                **said,
                "training": {"reader": read_result(run)} if run.is_file() else {},
            },
            command=shlex.join(["python", *sys.argv]),
            recipe="findings",
            seed=config.seed,
        )
    print(summary_markdown(figures))
    print(f"findings: {output}")
    return output


@dataclass(frozen=True)
class _Judged:
    """Patients of one split with the verdicts of their hospitals' models."""

    assessment: Assessment
    logit_G: NDArray[np.float64]
    """Uncalibrated logits of the types."""
    truth: pd.DataFrame
    """What the cohort says of each pair."""

    @classmethod
    def of(cls, table: pa.Table, verdicts: Mapping[str, Predictor]) -> "_Judged":
        assessment = assess(table)
        models = {h: JointModel(predictor) for h, predictor in verdicts.items()}
        number = {hospital: n for n, hospital in enumerate(models)}
        hospital_G = np.array([number[who.hospital] for who in assessment.types], np.int64)
        evidence = score_jointly(
            list(models.values()), assessment.bags, hospital_G[assessment.type_B]
        )
        return cls(
            assessment,
            assessment.of_types(evidence.logit_B),
            table.select([*_TRUTH, *SEGMENT_COLUMNS]).to_pandas(),
        )

    def calibrations(self, hospitals: Sequence[str]) -> dict[str, Calibration]:
        """Temperature and threshold of each hospital, from these patients.

        A hospital whose patients here are all normal or all abnormal takes those of all together.
        """
        abnormal = set(
            self.truth[self.truth["abnormal"]][list(PatientType._fields)].itertuples(
                index=False, name=None
            )
        )
        label_G = np.array([tuple(who) in abnormal for who in self.assessment.types])
        hospital_G = np.array([who.hospital for who in self.assessment.types], object)
        if label_G.all() or not label_G.any():
            raise DataError(
                "the types of the validation patients are all of one class, so the verdict has no "
                "threshold; give more validation patients or another split seed"
            )
        own = calibrations(self.logit_G, label_G, hospital_G)
        together = calibrate(self.logit_G, label_G)
        return {hospital: own.get(hospital, together) for hospital in hospitals}

    def probabilities(self, calibrations: Mapping[str, Calibration]) -> NDArray[np.float64]:
        """Calibrated probabilities of the types."""
        temperature_G = [calibrations[who.hospital].temperature for who in self.assessment.types]
        return np.asarray(expit(self.logit_G / np.array(temperature_G)))
