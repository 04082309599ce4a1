"""Pre-training, fine-tuning and evaluation as the jobs call them, and what they refuse."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TEST, VALIDATION, SplitConfig, split_patients
from homnet.errors import CheckpointError, CohortError, ConfigError, DataError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import best_form
from homnet.model.predictor import Predictor
from homnet.model.registry import Registry
from homnet.results import Record
from homnet.training.optimisation import TrainingConfig
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.evaluation import EvaluateConfig, evaluate
from homnet_platform.fine_tuning import FineTuneConfig, fine_tune
from homnet_platform.job import root_cause
from homnet_platform.pretraining import PretrainConfig, pretrain
from homnet_platform.training import ScalingOptions

TableOf = Callable[..., pa.Table]
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
TRAINING = TrainingConfig(batch_size=64, max_epochs=1, bags=BagConfig(num_cells=3))
SPLIT = SplitConfig(validation=0.25, test=0.5)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, table_of: TableOf) -> Path:
    """A cohort of a healthy set and two hospitals, a pre-trained and two fine-tuned models."""
    work = tmp_path_factory.mktemp("work")
    tables = [
        table_of("healthy", num_patients=6, seed=0),
        table_of("h1", num_patients=8, abnormal="3", seed=1),
        table_of("h2", num_patients=8, abnormal="5", seed=2),
    ]
    write_cohort(work / "cohort", tables, scale={}, provenance={})
    pretrain(_pretrain(work))
    fine_tune(_fine_tune(work))
    return work


@pytest.fixture(scope="module")
def evaluated(work: Path) -> Path:
    """What the evaluation of the two fine-tuned models left."""
    return evaluate(_evaluate(work))


def _pretrain(work: Path) -> PretrainConfig:
    return PretrainConfig(
        cohort=str(work / "cohort"),
        output=str(work / "pretrain"),
        hospitals=("healthy",),
        model=FORM,
        training=TRAINING,
        split=SplitConfig(0.2, 0.2),
        scaling=ScalingOptions(num_workers=1),
    )


def _fine_tune(work: Path) -> FineTuneConfig:
    # Every second patient is abnormal: seed 1 puts one of them into each split of each hospital.
    return FineTuneConfig(
        cohort=str(work / "cohort"),
        checkpoint=str(work / "pretrain" / "checkpoint"),
        output=str(work / "tuned"),
        training=replace(TRAINING, labels="cohort"),
        split=SPLIT,
        scaling=ScalingOptions(num_workers=1),
    )


def _evaluate(work: Path, **changes: object) -> EvaluateConfig:
    config = EvaluateConfig(
        cohort=str(work / "cohort"),
        checkpoint=str(work / "tuned"),
        output=str(work / "evaluated"),
        bags=BagConfig(num_cells=3, rounds=2),
        split=SPLIT,
        num_bootstrap=20,
        batch_size=37,
    )
    return replace(config, **changes)


def test_the_whole_line_leaves_scores_and_metrics(evaluated: Path) -> None:
    scores = pd.read_parquet(evaluated / "scores.parquet")
    assert set(scores["hospital"]) == {"h1", "h2"}
    assert set(scores["kind"]) == {"normal", "deletion"}
    assert scores["score"].between(0, 1).all()
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    assert set(evaluation["hospitals"]) == {"h1", "h2"}
    provenance = json.loads((evaluated / "provenance.json").read_text())
    assert len(set(provenance["checkpoints"].values())) == 2


def test_no_patient_is_in_two_splits_anywhere(work: Path, evaluated: Path) -> None:
    """From the files that the jobs left: scored people are those of the split, and disjoint."""
    scores = pd.read_parquet(evaluated / "scores.parquet")
    people = scores.explode("patients").groupby("split")["patients"].agg(set)
    cohort = Cohort.open(work / "cohort").of_hospitals(["h1", "h2"])
    split = split_patients(cohort.patients, SPLIT)
    assert people["validation"] == split[VALIDATION]
    assert people["test"] == split[TEST]
    assert not people["validation"] & people["test"]


def test_scores_equal_those_of_the_predictor_on_the_same_bags(work: Path, evaluated: Path) -> None:
    from homnet.bags.epochs import DeviceBank, draw_epoch

    config = _evaluate(work)
    scores = pd.read_parquet(evaluated / "scores.parquet")
    cohort = Cohort.open(config.cohort).of_hospitals(["h1", "h2"])
    split = split_patients(cohort.patients, SPLIT)
    bank = collect_bank(pairs_dataset(cohort, split[TEST])).of_patients(split[TEST])
    epoch = draw_epoch(bank, config.bags, None, seed=config.seed, epoch=1)
    test = scores[scores["split"] == "test"].reset_index(drop=True)
    for hospital in ("h1", "h2"):
        predictor = Predictor.load(work / "tuned" / hospital / "checkpoint")
        logit_B = predictor.epoch_logits(DeviceBank(bank, "cpu"), epoch)
        mine = (test["hospital"] == hospital).to_numpy()
        expected = predictor.probabilities(logit_B, hospital)[mine]
        assert test["score"][mine].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_known_patients_are_never_scored(work: Path) -> None:
    with pytest.raises(ConfigError, match="were learnt from"):
        evaluate(_evaluate(work, split=replace(SPLIT, seed=7)))
    # Everyone of the right test split, and the validation patients on top.
    with pytest.raises(ConfigError, match="were validated on"):
        evaluate(_evaluate(work, split=SplitConfig(validation=0.125, test=0.625)))


def test_artificial_abnormalities_are_scored_after_pretraining(work: Path) -> None:
    output = evaluate(
        _evaluate(
            work,
            checkpoint=str(work / "pretrain" / "checkpoint"),
            hospitals=("healthy",),
            artificial=True,
            split=SplitConfig(0.2, 0.2),
            output=str(work / "artificial"),
            cells=(1, 3),
            record=Record("a test of the record", work / "result.json"),
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
    figures = json.loads((work / "result.json").read_text())["figures"]
    assert figures["training"]["healthy"]["figures"]["epochs"] == 1


def test_pretraining_refuses_abnormal_people(work: Path, tmp_path: Path) -> None:
    config = replace(_pretrain(work), hospitals=(), output=str(tmp_path / "p"))
    with pytest.raises(ConfigError, match=r"h1, h2 of .* have abnormal pairs"):
        pretrain(config)


def test_pretraining_learns_from_people_with_known_abnormalities(
    work: Path, tmp_path: Path
) -> None:
    config = replace(
        _pretrain(work),
        hospitals=("h1", "h2"),
        training=replace(TRAINING, labels="cohort"),
        split=SplitConfig(0.4, 0.0),
        output=str(tmp_path / "taught"),
    )
    checkpoint = Checkpoint.load(pretrain(config))
    assert checkpoint.provenance["hospitals"] == ["h1", "h2"]
    assert checkpoint.provenance["parent"] is None
    # Who taught it is known, and nobody of them is tested.
    with pytest.raises(ConfigError, match="were learnt from"):
        evaluate(_evaluate(work, checkpoint=str(tmp_path / "taught" / "checkpoint")))
    healthy = replace(config, hospitals=("healthy",), output=str(tmp_path / "healthy"))
    with pytest.raises(ConfigError, match="nobody has an abnormal pair"):
        pretrain(healthy)


def test_a_finished_run_is_not_overwritten(work: Path) -> None:
    with pytest.raises(ConfigError, match="this run is finished"):
        pretrain(_pretrain(work))


def test_fine_tuning_continues_with_the_hospitals_that_are_missing(work: Path) -> None:
    before = (work / "tuned" / "h1" / "checkpoint" / "sha256.json").stat().st_mtime_ns
    registry = str(work / "registry")
    assert set(fine_tune(replace(_fine_tune(work), registry=registry))) == {"h1", "h2"}
    candidates = {entry.hospital: entry for entry in Registry(registry).entries()}
    assert set(candidates) == {"h1", "h2"}
    tuned = Checkpoint.load(work / "tuned" / "h1" / "checkpoint")
    assert candidates["h1"].version == tuned.digest
    assert (work / "tuned" / "h1" / "checkpoint" / "sha256.json").stat().st_mtime_ns == before


def test_another_runs_directory_is_refused(work: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="interrupted run with other settings"):
        pretrain(replace(_pretrain(work), output=str(tmp_path / "p")))


def test_a_hospital_without_a_model_is_named(work: Path) -> None:
    with pytest.raises(CheckpointError, match="healthy"):
        evaluate(_evaluate(work, hospitals=("healthy",)))


def test_cohort_labels_are_not_scored_in_mixed_bags() -> None:
    with pytest.raises(ConfigError, match="mix patients"):
        EvaluateConfig(bags=BagConfig(over="people"))


def test_bad_files_are_named_through_ray(work: Path, tmp_path: Path, table_of: TableOf) -> None:
    cohort = write_cohort(tmp_path / "c", [table_of()], scale={}, provenance={})
    path = cohort.root / cohort.files[0].path
    table = pq.ParquetFile(path).read()
    values = table["chromosome"].to_pylist()
    values[6] = "nonsense"
    pq.write_table(table.set_column(3, table.schema.field(3), pa.array(values)), path)
    with pytest.raises(Exception, match="nonsense") as caught:
        collect_bank(pairs_dataset(cohort))
    cause = root_cause(caught.value)
    assert isinstance(cause, CohortError)
    first_line = str(cause).splitlines()[0]
    assert first_line.endswith("row 6: 'chromosome' is 'nonsense', expected 1..22, X or Y")


def test_only_files_with_wanted_patients_are_read(work: Path) -> None:
    cohort = Cohort.open(work / "cohort")
    bank = collect_bank(pairs_dataset(cohort, ["h1-p0"]))
    assert set(bank.frame["patient_id"]) == {"h1-p0"}
    assert pairs_dataset(cohort, ["h1-p0"]).materialize().num_blocks() == 1


def test_few_abnormal_patients_are_learnt_from_and_all_healthy_ones(
    work: Path, tmp_path: Path
) -> None:
    split = SplitConfig(validation=0.25, test=0.25, seed=2)
    few = replace(
        _fine_tune(work),
        output=str(tmp_path / "few"),
        hospitals=("h1",),
        split=split,
        max_abnormal=1,
    )
    checkpoint = Checkpoint.load(fine_tune(few)["h1"])
    every = split_patients(Cohort.open(work / "cohort").of_hospitals(["h1"]).patients, split)
    learnt = {
        p for p in every["train"] if patient_digests([p])[0] in checkpoint.provenance["learnt_from"]
    }
    # Every second patient of the fixture is abnormal: those with an even number.
    carriers = {p for p in every["train"] if int(p[-1]) % 2 == 0}
    assert len(carriers) > 1
    assert len(learnt & carriers) == 1
    assert learnt - carriers == every["train"] - carriers
    with pytest.raises(DataError, match="max_abnormal asks for 9"):
        fine_tune(replace(few, output=str(tmp_path / "many"), max_abnormal=9))


def test_a_hospital_can_be_left_out_of_its_own_model(work: Path, tmp_path: Path) -> None:
    left_out = replace(_fine_tune(work), output=str(tmp_path / "others"), leave_one_out=True)
    paths = fine_tune(left_out)
    assert set(paths) == {"h1", "h2"}
    cohort = Cohort.open(work / "cohort")
    for hospital, other in (("h1", "h2"), ("h2", "h1")):
        provenance = Checkpoint.load(paths[hospital]).provenance
        assert provenance["hospitals"] == [other]
        split = split_patients(cohort.of_hospitals([other]).patients, left_out.split)
        assert set(provenance["learnt_from"]) >= set(patient_digests(split["train"]))
        own = patient_digests(cohort.of_hospitals([hospital]).patients[hospital])
        assert not set(provenance["learnt_from"]) & set(own)
    with pytest.raises(ConfigError, match="takes no max_abnormal"):
        replace(left_out, max_abnormal=1)
