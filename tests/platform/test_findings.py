"""The reader of findings as the jobs train and measure it, and what they refuse."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from homnet.bags import BagConfig
from homnet.checkpoint import Checkpoint
from homnet.cohort import write_cohort
from homnet.errors import ConfigError
from homnet.finding import KINDS
from homnet.model import best_form
from homnet.reader.learning import ReaderTraining
from homnet.reader.network import ReaderConfig
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig
from homnet.split import SplitConfig
from homnet.training import TrainingConfig
from homnet_platform.findings import (
    EvaluateFindingsConfig,
    LearnFindingsConfig,
    evaluate_findings,
    learn_findings,
)
from homnet_platform.pretraining import PretrainConfig, pretrain
from homnet_platform.training import ScalingOptions

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
SPLIT = SplitConfig(validation=0.3, test=0.4)
TRAINING = ReaderTraining(
    TrainingConfig(
        batch_size=16, max_epochs=1, labels="cohort", bags=BagConfig(num_cells=3), averaging=0.9
    )
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Healthy people with a HomNet trained on them, a teaching cohort with a reader, patients."""
    work = tmp_path_factory.mktemp("findings")
    healthy = HospitalConfig("healthy", abnormal_fraction=0.0)
    sick = HospitalConfig("h1", abnormal_fraction=0.8, mosaic_share=0.0)
    for name, seed, hospital, number, short in (
        ("healthy", 0, healthy, 10, False),
        ("teach", 1, sick, 40, True),
        ("patients", 2, sick, 16, False),
    ):
        people = [
            simulate_person(seed, hospital, n, 2.0, rearranged_types=short) for n in range(number)
        ]
        write_cohort(work / name, [pa.concat_tables(people)], scale={}, provenance={})
    pretrain(
        PretrainConfig(
            cohort=str(work / "healthy"),
            output=str(work / "pretrain"),
            model=FORM,
            training=TrainingConfig(batch_size=64, max_epochs=1, bags=BagConfig(num_cells=3)),
            split=SplitConfig(0.2, 0.2),
            scaling=ScalingOptions(num_workers=1),
        )
    )
    learn_findings(_learn(work))
    return work


def _learn(work: Path) -> LearnFindingsConfig:
    return LearnFindingsConfig(
        cohort=str(work / "teach"),
        checkpoint=str(work / "pretrain" / "checkpoint"),
        output=str(work / "findings"),
        width=16,
        training=TRAINING,
        split=SplitConfig(validation=0.2, test=0.0),
        cpus=1.0,
    )


def _evaluate(work: Path) -> EvaluateFindingsConfig:
    return EvaluateFindingsConfig(
        cohort=str(work / "patients"),
        checkpoint=str(work / "pretrain" / "checkpoint"),
        reader=str(work / "findings" / "checkpoint"),
        output=str(work / "evaluated"),
        split=SPLIT,
        num_bootstrap=50,
        claim="a test",
        result=work / "result.json",
    )


def test_the_whole_line_leaves_a_reader_and_figures(work: Path) -> None:
    reader = Checkpoint.load(work / "findings" / "checkpoint", ReaderConfig.of_json)
    below = Checkpoint.load(work / "pretrain" / "checkpoint")
    assert reader.provenance["parent"] == below.version
    assert set(below.provenance["learnt_from"]) < set(reader.provenance["learnt_from"])
    output = evaluate_findings(_evaluate(work))
    figures = json.loads((output / "findings.json").read_text())
    cases = pd.read_parquet(output / "cases.parquet")
    assert figures["overall"]["num_cases"] == len(cases) > 0
    assert cases["kind"].isin(KINDS).all()
    result = json.loads((work / "result.json").read_text())
    assert result["figures"]["findings"] == figures
    assert result["figures"]["reader"] == reader.version
    assert result["figures"]["training"]["reader"]["figures"]["epochs"] == 1
    said = json.loads((output / "provenance.json").read_text())
    assert said["verdicts"] == {"h1": below.version}


def test_nobody_who_taught_is_judged(work: Path) -> None:
    known = replace(_evaluate(work), cohort=str(work / "teach"))
    with pytest.raises(ConfigError, match="were learnt from by"):
        evaluate_findings(known)


def test_a_finished_run_is_not_overwritten(work: Path) -> None:
    with pytest.raises(ConfigError, match="this run is finished"):
        learn_findings(_learn(work))


def test_a_reader_needs_the_stretched_view(work: Path, tmp_path: Path) -> None:
    below = Checkpoint.load(work / "pretrain" / "checkpoint")
    absolute = replace(FORM, view="absolute", template=False, deviations=False)
    Checkpoint(absolute, absolute.build().state_dict(), provenance=below.provenance).save(
        tmp_path / "absolute"
    )
    config = replace(
        _learn(work), checkpoint=str(tmp_path / "absolute"), output=str(tmp_path / "o")
    )
    with pytest.raises(ConfigError, match="needs a HomNet that compares homologs"):
        learn_findings(config)
    assert not (tmp_path / "o").exists()


def test_a_result_needs_a_claim() -> None:
    with pytest.raises(ConfigError, match="needs both --claim and --result"):
        EvaluateFindingsConfig(claim="something")
