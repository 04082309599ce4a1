"""The reader of findings: training it on a checkpoint of pre-training, and measuring what it says.

It is measured here on artificial abnormalities of held-out people; on patients with known ones it
is measured with their verdicts (:mod:`homnet_platform.patients.measurement`).

Readers are small, so one is trained by one Ray task; the same command continues a run that was
interrupted.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import ray
import torch

from homnet.bags.assessment import PatientType
from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import draw_epoch
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.model.checkpoint import Checkpoint
from homnet.model.joint import JointModel, score_jointly
from homnet.model.network import HomNetConfig
from homnet.model.predictor import Predictor
from homnet.reader.artificial import ArtificialPatients
from homnet.reader.learning import ReaderStage, learn, require_start
from homnet.reader.lessons import ReaderTraining
from homnet.reader.measures import cases_of, findings_tables, measure
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import FindingsReader
from homnet.reader.truth import with_segments
from homnet.report.markdown import tables_text
from homnet.results import Record, read_result, write_json
from homnet_platform.data import all_rows, collect_bank, pairs_dataset
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import Run, provenance, refuse_known
from homnet_platform.runtime import local_or_cluster, require_workers


@dataclass(frozen=True)
class LearnFindingsConfig:
    """Training of a reader on a pre-trained HomNet."""

    cohort: str = "cohorts/rearranged"
    """Cohort that teaches: simulated people with all kinds of abnormalities and their truth
    (jobs/simulate.py --rearranged-types), or normal pairs for artificial ones
    (--training.optimiser.labels artificial). Never one whose patients are to be judged."""
    checkpoint: str = "runs/pretrain/checkpoint"
    """The HomNet below; it stays as it is."""
    start: str | None = None
    """Checkpoint of a reader on this HomNet to go on from, best with people whom neither knows."""
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
    """What a reader says of artificial abnormalities of held-out people, against what was done."""

    cohort: str = "cohorts/images"
    """Cohort directory; its normal pairs are used."""
    checkpoint: str = "runs/images/checkpoint"
    """The HomNet below the reader, whose verdict and threshold count."""
    reader: str = "runs/images-findings/checkpoint"
    """Checkpoint of the reader."""
    output: str = "runs/findings-evaluation"
    """Directory for findings.json and cases.parquet."""
    hospitals: tuple[str, ...] = ()
    """Hospitals whose pairs are used; all by default."""
    events: EventConfig = EventConfig()
    """Artificial abnormalities."""
    bags: BagConfig = BagConfig(rounds=10, over="people")
    """How bags are drawn; each is judged as a patient of one type."""
    split: SplitConfig = SplitConfig()
    """Must be the split of the training of both; whoever was learnt from is refused."""
    seed: int = 0
    """Of bags, events and bootstrap."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    record: Record = Record()
    """The result of record."""


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
    form = ReaderConfig(model=cast(HomNetConfig, parent.config), width=config.width)
    if config.hospitals:
        cohort = cohort.of_hospitals(config.hospitals)
    split = split_patients(cohort.patients, config.split)
    origin = provenance(cohort.fingerprint, cohort.hospitals, config, split, parent)
    if config.start is not None:
        path = Path(config.start)
        start = Checkpoint.load(path, ReaderConfig.of_json)
        require_start(path, start, form, parent)
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
        parent=str(Path(config.checkpoint).resolve()),
        width=config.width,
        training=config.training,
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
        start=None if config.start is None else str(Path(config.start).resolve()),
        provenance=origin,
    )
    started = time.perf_counter()
    with local_or_cluster():
        gpus = float(config.use_gpu)
        require_workers(1, "the reader's training", cpus=config.cpus, gpus=gpus)
        wanted = split[TRAIN] | split[VALIDATION]
        bank = PairBank.from_table(with_segments(all_rows(pairs_dataset(cohort, wanted))))
        settings = config.training.optimiser
        bags = settings.bags
        num_bags = len(bank) * settings.max_epochs * bags.rounds // bags.num_cells
        task = ray.remote(num_cpus=config.cpus, num_gpus=gpus, max_retries=config.max_failures)(
            _learn
        )
        with progress_bar("findings", num_bags, " bags") as progress:
            checkpoint = ray.get(
                task.remote(stage, ray.put(bank), run.output / "last", config, progress)
            )
    history = checkpoint.metrics["history"]
    run.record(
        "training of a reader of findings, since its last start",
        {
            "seconds": round(time.perf_counter() - started, 1),
            "pairs": len(bank),
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
    """Reads artificial abnormalities of the test people, measures, and gives the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    if config.hospitals:
        cohort = cohort.of_hospitals(config.hospitals)
    test = split_patients(cohort.patients, config.split)[TEST]
    below = Checkpoint.load(config.checkpoint)
    above = Checkpoint.load(config.reader, ReaderConfig.of_json)
    if above.provenance["parent"] != below.version:
        raise ConfigError(
            f"{config.reader} stands on another HomNet than {config.checkpoint}; give the one that "
            "it was trained with"
        )
    for path, one in ((config.checkpoint, below), (config.reader, above)):
        for use in ("learnt_from", "validated_on"):
            refuse_known(Path(path), one.provenance, test, use)
    predictor, reader = Predictor.load(config.checkpoint), FindingsReader.load(config.reader)
    with local_or_cluster():
        bank = collect_bank(pairs_dataset(cohort, test)).normal()
    epoch = draw_epoch(bank, config.bags, config.events, seed=config.seed, epoch=1)
    patients = ArtificialPatients.of(bank, epoch)
    assessment = patients.assessment
    evidence = score_jointly(
        [JointModel(predictor)], assessment.bags, np.zeros(len(assessment.bags), np.int64)
    )
    probability_G = np.zeros(len(assessment.types))
    detected = set()
    for g, who in enumerate(assessment.types):
        probability_G[g] = predictor.probabilities(evidence.logit_B[g], who.hospital)
        if probability_G[g] >= predictor.of(who.hospital).threshold:
            detected.add(who)
    cases = cases_of(reader(assessment, probability_G), patients.truth, detected)
    cases["people"] = [
        patients.people[PatientType(*who)]
        for who in cases[list(PatientType._fields)].itertuples(index=False, name=None)
    ]
    figures = measure(cases, seed=config.seed, num_bootstrap=config.num_bootstrap)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    cases.to_parquet(output / "cases.parquet", index=False)
    write_json(output / "findings.json", figures)
    runs = {"HomNet": Path(config.checkpoint), "reader": Path(config.reader)}
    took = {name: path.parent / "run.json" for name, path in runs.items()}
    config.record.write(
        {
            "findings": figures,
            "versions": {"HomNet": below.version, "reader": above.version},
            "training": {name: read_result(run) for name, run in took.items() if run.is_file()},
        },
        recipe="findings, artificial abnormalities",
        seed=config.seed,
    )
    print(tables_text(findings_tables(figures)))
    print(f"findings: {output}")
    return output
