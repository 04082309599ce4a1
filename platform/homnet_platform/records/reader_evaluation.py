"""Compares a reader's findings on artificial abnormalities of held-out people with the truth.

For known abnormalities see :mod:`homnet_platform.patients.measurement`.
"""

from dataclasses import dataclass

from homnet.bags.assessment import PatientType
from homnet.bags.draw import BagConfig
from homnet.bags.epochs import draw_epoch
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.files import replacing
from homnet.locations import Location, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.reader.measures import cases_of, findings_tables, measure
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader
from homnet.records.artificial_patients import ArtificialPatients
from homnet.report.markdown import tables_text
from homnet.results import Record, read_result, write_json
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.runs import refuse_known
from homnet_platform.runtime import local_or_cluster


@dataclass(frozen=True)
class EvaluateFindingsConfig:
    """Inputs and settings of the comparison."""

    cohort: str = "cohorts/pki3"
    """Cohort directory; only its normal pairs are used."""
    checkpoint: str = "runs/pki3/checkpoint"
    """Checkpoint of the HomNet below the reader, which provides the verdict and the threshold."""
    reader: str = "runs/pki3-reader/checkpoint"
    """Checkpoint of the reader."""
    output: str = "runs/findings-evaluation"
    """Directory for findings.json and cases.parquet."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to use; all by default."""
    events: EventConfig = EventConfig()
    """Artificial abnormalities."""
    bags: BagConfig = BagConfig(rounds=10, over="people")
    """How bags are drawn; each is evaluated as a patient with one type."""
    split: SplitConfig = SplitConfig()
    """Must be the split that both were trained with; training people are refused."""
    seed: int = 0
    """Seed of the bags, events and bootstrap."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    record: Record = Record()
    """The result of record."""


def evaluate_findings(config: EvaluateFindingsConfig) -> Location:
    """Evaluates artificial abnormalities of the test people; returns the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    output = to_location(config.output)
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
            refuse_known(path, one.provenance, test, use)
    predictor, reader = Predictor.load(config.checkpoint), CalibratedReader.load(config.reader)
    with local_or_cluster():
        bank = collect_bank(pairs_dataset(cohort, test)).normal()
    if config.bags.over == "people":
        bank = bank.in_parts_of_their_own()
    epoch = draw_epoch(bank, config.bags, config.events, seed=config.seed, epoch=1)
    patients = ArtificialPatients.of(bank, epoch)
    assessment = patients.assessment
    logit_B = predictor.flat_logits(assessment.bags)
    detected = {
        who
        for logit, who in zip(logit_B, assessment.types, strict=True)
        if predictor.probabilities(logit, who.hospital) >= predictor.of(who.hospital).threshold
    }
    cases = cases_of(reader(assessment), patients.truth, detected)
    cases["people"] = [
        patients.people[PatientType(*who)]
        for who in cases[list(PatientType._fields)].itertuples(index=False, name=None)
    ]
    figures = measure(cases, seed=config.seed, num_bootstrap=config.num_bootstrap)
    with replacing(output / "cases.parquet") as temporary:
        cases.to_parquet(temporary, index=False)
    write_json(output / "findings.json", figures)
    runs = {"HomNet": to_location(config.checkpoint), "reader": to_location(config.reader)}
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
