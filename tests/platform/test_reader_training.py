"""The reader as the job trains it, its part in verdicts, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import SplitConfig
from homnet.errors import ConfigError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import best_form
from homnet.reader.lessons import ReaderTraining
from homnet.reader.network import ReaderConfig
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig
from homnet.training.optimisation import TrainingConfig
from homnet_platform import reader_training
from homnet_platform.patients.calibration import CalibrateConfig, calibrate
from homnet_platform.patients.diagnosis import DiagnoseConfig, diagnose
from homnet_platform.patients.measurement import MeasureConfig, measure
from homnet_platform.reader_training import LearnReaderConfig, learn_reader

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
SPLIT = SplitConfig(validation=0.3, test=0.4)
TRAINING = ReaderTraining(
    TrainingConfig(
        batch_size=16, max_epochs=1, labels="cohort", bags=BagConfig(num_cells=3), averaging=0.9
    )
)


def test_a_gpu_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.ones", Mock(side_effect=RuntimeError("no kernel image")))
    with pytest.raises(ConfigError, match=r"device 'cuda' cannot be used \(no kernel image\)"):
        reader_training._learn(Mock(), Mock(), Mock(), LearnReaderConfig(use_gpu=True), Mock())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, lineage: Any) -> Path:
    """The lineage's HomNet, a teaching cohort with a reader, and patients."""
    work = tmp_path_factory.mktemp("findings")
    shutil.copytree(lineage.pretrained, work / "pretrain" / "checkpoint")
    hospital = HospitalConfig("h1", abnormal_fraction=0.8, mosaic_share=0.0)
    for name, seed, number, short in (("teach", 1, 40, True), ("patients", 2, 16, False)):
        people = [
            simulate_person(seed, hospital, n, 2.0, rearranged_types=short) for n in range(number)
        ]
        write_cohort(work / name, [pa.concat_tables(people)], scale={"h1": 3.0}, provenance={})
    learn_reader(_learn(work))
    calibrate(
        CalibrateConfig(
            cohort=str(work / "patients"),
            checkpoint=str(work / "pretrain" / "checkpoint"),
            output=str(work / "calibrate"),
            split=SPLIT,
            min_patients=1,
        )
    )
    return work


def _diagnose(work: Path, cohort: str) -> DiagnoseConfig:
    return DiagnoseConfig(
        cohort=str(work / cohort),
        checkpoint=str(work / "calibrate"),
        findings=str(work / "findings" / "checkpoint"),
        output=str(work / f"diagnosis-of-{cohort}"),
        patients="test",
        split=SPLIT,
        pages="none",
    )


def _learn(work: Path) -> LearnReaderConfig:
    return LearnReaderConfig(
        cohort=str(work / "teach"),
        checkpoint=str(work / "pretrain" / "checkpoint"),
        output=str(work / "findings"),
        width=16,
        training=TRAINING,
        split=SplitConfig(validation=0.2, test=0.0),
        cpus=1.0,
    )


def test_a_reader_stands_on_its_homnet_and_is_measured_where_verdicts_are(work: Path) -> None:
    reader = Checkpoint.load(work / "findings" / "checkpoint", ReaderConfig.of_json)
    below = Checkpoint.load(work / "pretrain" / "checkpoint")
    assert reader.provenance["parent"] == below.version
    assert set(below.provenance["learnt_from"]) < set(reader.provenance["learnt_from"])
    diagnosis = diagnose(_diagnose(work, "patients"))
    figures = measure(
        MeasureConfig(diagnosis=diagnosis, cohort=str(work / "patients"), num_bootstrap=50)
    )
    assert figures["reader"] == reader.version
    # The abnormal types of the test patients that could be looked at, found or not.
    key = ["patient_id", "chromosome"]
    truth = Cohort.open(work / "patients").read(columns=[*key, "abnormal"]).to_pandas()
    types = pd.read_parquet(diagnosis / "types.parquet")
    looked_at = types.loc[types["probability"].notna(), key]
    abnormal = truth.loc[truth["abnormal"], key].drop_duplicates().merge(looked_at)
    assert figures["findings"]["overall"]["num_cases"] == len(abnormal) > 0
    page = (diagnosis / "measured" / "index.html").read_text()
    assert "What the reader says of detected types" in page


def test_nobody_who_taught_is_measured(work: Path) -> None:
    diagnosis = diagnose(replace(_diagnose(work, "teach"), patients="all"))
    with pytest.raises(ConfigError, match="learnt from by the models"):
        measure(MeasureConfig(diagnosis=diagnosis, cohort=str(work / "teach")))


def test_a_reader_goes_on_with_other_people(work: Path) -> None:
    first = work / "findings" / "checkpoint"
    config = replace(_learn(work), start=str(first), output=str(work / "again"))
    with pytest.raises(ConfigError, match="were learnt from by"):
        learn_reader(replace(config, split=SplitConfig(0.2, 0.0, seed=1)))
    with pytest.raises(ConfigError, match="is of another width"):
        learn_reader(replace(config, width=32))
    # A mistake leaves nothing behind that would be in the way of the right command.
    learn_reader(replace(config, cohort=str(work / "patients")))
    reader = Checkpoint.load(work / "again" / "checkpoint", ReaderConfig.of_json)
    before = Checkpoint.load(first, ReaderConfig.of_json)
    assert reader.provenance["start"] == before.version != reader.version
    for use in ("learnt_from", "validated_on"):
        assert set(before.provenance[use]) < set(reader.provenance[use])
    assert str(work) not in str(reader.provenance)


def test_a_finished_run_is_not_overwritten(work: Path) -> None:
    with pytest.raises(ConfigError, match="this run is finished"):
        learn_reader(_learn(work))


def test_a_reader_needs_the_stretched_view(work: Path, tmp_path: Path) -> None:
    below = Checkpoint.load(work / "pretrain" / "checkpoint")
    absolute = replace(FORM, view="absolute", template=False, search_positions=0)
    Checkpoint(absolute, absolute.build().state_dict(), provenance=below.provenance).save(
        tmp_path / "absolute"
    )
    config = replace(
        _learn(work), checkpoint=str(tmp_path / "absolute"), output=str(tmp_path / "o")
    )
    with pytest.raises(ConfigError, match="needs a HomNet that compares homologs"):
        learn_reader(config)
    assert not (tmp_path / "o").exists()
