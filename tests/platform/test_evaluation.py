"""Evaluation of held-out patients: scores, metrics, and whom it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from homnet.bags.draw import BagConfig, draw_bags, rows_of_file
from homnet.bags.epochs import DeviceBank, draw_epoch
from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.split import TEST, VALIDATION, SplitConfig, split_patients
from homnet.errors import CheckpointError, ConfigError, DataError, StoreError
from homnet.files import digest_of
from homnet.model.predictor import Predictor
from homnet.results import Record
from homnet_platform import evaluation
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.evaluation import EvaluateConfig, _Scorer, evaluate
from homnet_platform.progress import Progress
from homnet_platform.reporting import ReportConfig, report

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def evaluated(lineage: Any) -> Path:
    """What the evaluation of the two fine-tuned models left."""
    return evaluate(lineage.evaluation)


def test_the_whole_line_leaves_scores_and_metrics(evaluated: Path) -> None:
    scores = pd.read_parquet(evaluated / "scores.parquet")
    assert set(scores["hospital"]) == {"h1", "h2"}
    assert set(scores["kind"]) == {"normal", "deletion"}
    assert scores["score"].between(0, 1).all()
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    assert set(evaluation["hospitals"]) == {"h1", "h2"}
    assert evaluation["scores_sha256"] == digest_of(evaluated / "scores.parquet")
    provenance = json.loads((evaluated / "provenance.json").read_text())
    assert len(set(provenance["checkpoints"].values())) == 2


@pytest.mark.parametrize("name", ["scores.parquet", "evaluation.json", "provenance.json"])
def test_no_report_shows_files_of_two_evaluations(
    lineage: Any, evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Wherever an evaluation is killed that replaces another."""
    output = tmp_path / "again"
    shutil.copytree(evaluated, output)
    scored = [pd.read_parquet(evaluated / "scores.parquet").assign(score=0.5)]
    monkeypatch.setattr("homnet_platform.evaluation._score", lambda *_: (scored, {}))

    def killed(write: Callable[..., Any]) -> Callable[..., Any]:
        def writing(path: Path, content: Any) -> None:
            if path.name == name:
                raise KeyboardInterrupt
            write(path, content)

        return writing

    for writer in ("write_whole", "write_json"):
        monkeypatch.setattr(evaluation, writer, killed(getattr(evaluation, writer)))
    with pytest.raises(KeyboardInterrupt):
        evaluate(replace(lineage.evaluation, output=str(output)))
    assert (output / "scores.parquet").is_file()
    with pytest.raises(DataError, match=r"provenance\.json.*run the job"):
        report(ReportConfig(evaluation=output))
    monkeypatch.undo()
    monkeypatch.setattr("homnet_platform.evaluation._score", lambda *_: (scored, {}))
    evaluate(replace(lineage.evaluation, output=str(output)))
    assert set(json.loads((output / "provenance.json").read_text())["checkpoints"]) == {"h1", "h2"}


def test_an_output_that_cannot_be_written_is_noticed_before_the_work(
    lineage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("homnet_platform.evaluation._score")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/out: cannot be written"):
        evaluate(replace(lineage.evaluation, output=str(tmp_path / "file" / "out")))


def test_no_patient_is_in_two_splits_anywhere(lineage: Any, evaluated: Path) -> None:
    """From the files that the jobs left: scored people are those of the split, and disjoint."""
    scores = pd.read_parquet(evaluated / "scores.parquet")
    people = scores.explode("patients").groupby("split")["patients"].agg(set)
    patients = lineage.cohort.of_hospitals(["h1", "h2"]).patients
    split = split_patients(patients, lineage.evaluation.split)
    assert people["validation"] == split[VALIDATION]
    assert people["test"] == split[TEST]
    assert not people["validation"] & people["test"]


def test_scores_equal_those_of_the_predictor_on_the_same_bags(
    lineage: Any, evaluated: Path
) -> None:
    config: EvaluateConfig = lineage.evaluation
    scores = pd.read_parquet(evaluated / "scores.parquet")
    cohort = lineage.cohort.of_hospitals(["h1", "h2"])
    split = split_patients(cohort.patients, config.split)
    bank = collect_bank(pairs_dataset(cohort, split[TEST])).of_patients(split[TEST])
    epoch = draw_epoch(bank, config.bags, None, seed=config.seed, epoch=1)
    test = scores[scores["split"] == "test"].reset_index(drop=True)
    for hospital in ("h1", "h2"):
        predictor = Predictor.load(lineage.tuned / hospital / "checkpoint")
        logit_B = predictor.loaded_logits(DeviceBank(bank, "cpu").load(epoch))
        mine = (test["hospital"] == hospital).to_numpy()
        expected = predictor.probabilities(logit_B, hospital)[mine]
        assert test["score"][mine].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_known_patients_are_never_scored(lineage: Any) -> None:
    config: EvaluateConfig = lineage.evaluation
    with pytest.raises(ConfigError, match="were learnt from"):
        evaluate(replace(config, split=replace(config.split, seed=7)))
    # Everyone of the right test split, and the validation patients on top.
    with pytest.raises(ConfigError, match="were validated on"):
        evaluate(replace(config, split=SplitConfig(validation=0.125, test=0.625)))


@pytest.mark.slow
def test_artificial_abnormalities_are_scored_after_pretraining(
    lineage: Any, tmp_path: Path
) -> None:
    output = evaluate(
        replace(
            lineage.evaluation,
            checkpoint=str(lineage.pretrained),
            hospitals=("healthy",),
            artificial=True,
            split=lineage.pretraining.split,
            output=str(tmp_path / "artificial"),
            cells=(1, 3),
            record=Record("a test of the record", tmp_path / "result.json"),
        )
    )
    scores = pd.read_parquet(output / "scores.parquet")
    assert {"normal", "sham", "inversion", "deletion"} <= set(scores["kind"])
    assert not scores["abnormal"][scores["kind"] == "sham"].any()
    assert scores["event_fraction"][scores["kind"] == "inversion"].between(0.1, 0.35).all()
    fraction, size_mb = scores["event_fraction"], scores["size_mb"]
    assert size_mb.isna()[scores["kind"].isin(["wrong_pair", "robertsonian", "normal"])].all()
    assert (size_mb[fraction.notna()] / fraction[fraction.notna()]).between(45, 250).all()
    by_cells = json.loads((output / "evaluation.json").read_text())["by_cells"]
    assert set(by_cells) == {"1", "3"}
    assert by_cells["3"]["num_pairs"] / by_cells["3"]["num_bags"] == 3
    figures = json.loads((tmp_path / "result.json").read_text())["figures"]
    assert figures["training"]["healthy"]["figures"]["epochs"] == 1


def test_a_hospital_without_a_model_is_named(lineage: Any) -> None:
    with pytest.raises(CheckpointError, match="healthy"):
        evaluate(replace(lineage.evaluation, hospitals=("healthy",)))


def test_cohort_labels_are_not_scored_in_mixed_bags() -> None:
    with pytest.raises(ConfigError, match="mix patients"):
        EvaluateConfig(bags=BagConfig(over="people"))


def test_a_gpu_that_cannot_be_used_is_named_at_the_first_files(
    table_of: Callable[..., pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray hides what the constructor of an actor raises."""
    cohort = write_cohort(tmp_path / "c", [table_of("h1")], scale={"h1": 3.0}, provenance={})
    monkeypatch.setattr("torch.ones", Mock(side_effect=RuntimeError("no kernel image")))
    config = EvaluateConfig(use_gpu=True)
    scorer = _Scorer(cohort, {}, {"h1": tmp_path}, config, cast(Progress, None))
    with pytest.raises(ConfigError, match=r"device 'cuda' cannot be used \(no kernel image\)"):
        scorer({"files": [[0]]})


def test_bags_over_people_mix_those_of_all_files(
    table_of: Callable[..., pa.Table], tmp_path: Path
) -> None:
    """Two of four held-out people are in each of two files, with one cell each."""
    table = table_of("h1", num_patients=6, num_cells=1)
    first = pc.is_in(table["patient_id"], pa.array(["h1-p0", "h1-p1", "h1-p2"]))
    files = [table.filter(first), table.filter(pc.invert(first))]
    cohort = write_cohort(tmp_path / "cohort", files, scale={"h1": 3.0}, provenance={})
    config = EvaluateConfig(artificial=True, bags=BagConfig(num_cells=4, over="people"))
    people = frozenset({"h1-p0", "h1-p2", "h1-p3", "h1-p5"})
    scorer = _Scorer(cohort, {}, {}, config, cast(Progress, None))
    whole = pa.concat_tables([rows_of_file(cohort, number) for number in (0, 1)])
    bank = scorer._bank(whole, people)
    bags = draw_bags(bank, config.bags, seed=0)
    assert bags.mask_BK.all()
    assert all(set(of_bag) == people for of_bag in bags.describe(bank)["patients"])
