"""What a reader says of artificial abnormalities, and on whom it is not measured."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import BagConfig
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TEST, TRAIN, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import best_form
from homnet.reader.network import ReaderConfig
from homnet.results import Record, read_result, write_result
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig
from homnet_platform.records.reader_evaluation import EvaluateFindingsConfig, evaluate_findings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten healthy people, and a HomNet and a reader said to be trained on some of them."""
    work = tmp_path_factory.mktemp("evaluation")
    hospital = HospitalConfig("healthy", abnormal_fraction=0.0)
    people = pa.concat_tables(simulate_person(0, hospital, number, 2.0) for number in range(10))
    cohort = write_cohort(work / "healthy", [people], scale={"healthy": 3.0}, provenance={})
    learnt_from = sorted(split_patients(cohort.patients, SplitConfig(0.2, 0.2))[TRAIN])
    known = {"learnt_from": patient_digests(learnt_from), "validated_on": []}
    torch.manual_seed(0)
    below = Checkpoint(FORM, FORM.build().state_dict(), provenance=known)
    below.save(work / "pretrain" / "checkpoint")
    form = ReaderConfig(model=FORM, width=16)
    reader = form.build()
    reader.take_homnet(below.weights)
    Checkpoint(
        form,
        reader.state_dict(),
        metrics={"calibration": {"kind": 1.0, "segment": 1.0, "cell": 1.0}},
        provenance={**known, "parent": below.version},
    ).save(work / "findings" / "checkpoint")
    write_result(
        work / "findings" / "run.json",
        claim="a test",
        figures={"epochs": 1},
        recipe="",
        seed=0,
    )
    return work


def _evaluate(work: Path, **changes: object) -> EvaluateFindingsConfig:
    config = EvaluateFindingsConfig(
        cohort=str(work / "healthy"),
        checkpoint=str(work / "pretrain" / "checkpoint"),
        reader=str(work / "findings" / "checkpoint"),
        output=str(work / "evaluated"),
        bags=BagConfig(num_cells=3, over="people"),
        split=SplitConfig(0.2, 0.2),
        num_bootstrap=50,
    )
    return replace(config, **changes)


def test_artificial_abnormalities_of_held_out_people_are_read(work: Path) -> None:
    output = evaluate_findings(
        _evaluate(
            work,
            record=Record("a test", work / "result.json"),
            events=EventConfig(abnormal_share=0.9),
        )
    )
    figures = json.loads((output / "findings.json").read_text())
    cases = pd.read_parquet(output / "cases.parquet")
    assert figures["overall"]["num_cases"] == len(cases) > 0
    test = split_patients(Cohort.open(work / "healthy").patients, SplitConfig(0.2, 0.2))[TEST]
    assert set(cases["people"].explode()) == test
    result = read_result(work / "result.json")
    assert result["figures"]["findings"] == figures
    assert result["figures"]["training"]["reader"]["figures"]["epochs"] == 1


def test_readers_are_not_measured_on_whom_they_know_or_with_another_homnet(
    work: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="learnt from by"):
        evaluate_findings(_evaluate(work, split=SplitConfig(0.2, 0.2, seed=5)))
    below = Checkpoint.load(work / "pretrain" / "checkpoint")
    weights = {name: weight + 1 for name, weight in below.weights.items()}
    replace(below, weights=weights).save(tmp_path / "other")
    with pytest.raises(ConfigError, match="stands on another HomNet"):
        evaluate_findings(_evaluate(work, checkpoint=str(tmp_path / "other")))
