"""Sweeps: pre-trainings shared, poor trials stopped, nobody of the test seen, continued."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import best_form
from homnet.model.registry import Registry
from homnet.training.learning import METRIC, train
from homnet.training.optimisation import TrainingConfig
from homnet_platform.data import Participants, collect_shared
from homnet_platform.evaluation import EvaluateConfig, evaluate
from homnet_platform.trials import pretraining_stage
from homnet_platform.tuning import TuneConfig, sweep

TableOf = Callable[..., pa.Table]
SHARES = SplitConfig(validation=0.25, test=0.5)  # one of each class in each part of "h1" and "h2"


@pytest.fixture
def config(tmp_path: Path, table_of: TableOf) -> TuneConfig:
    tables = [
        table_of("healthy-1", num_patients=8),
        table_of("h1", num_patients=8, abnormal="3", seed=1),
        table_of("h2", num_patients=8, abnormal="5", seed=2),
    ]
    write_cohort(tmp_path / "cohort", tables, scale={}, provenance={})
    training = TrainingConfig(
        batch_size=64, max_epochs=3, bags=BagConfig(num_cells=3), learning_rate=3e-3
    )
    return TuneConfig(
        cohort=str(tmp_path / "cohort"),
        output=str(tmp_path / "tune"),
        merge_ranges=(64, 128),
        pretraining_rates=(1e-6, 3e-3),
        fine_tuning_rates=(1e-3,),
        num_finalists=2,
        model=replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64),
        training=training,
        fine_tuning=replace(training, labels="cohort", learning_rate=1e-3),
        split=SHARES,
        hospital_split=SHARES,
        reduction_factor=2,
        registry=str(tmp_path / "registry"),
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep(config: TuneConfig, tmp_path: Path) -> None:
    figures = sweep(config)
    tuned = len(figures["fine_tuning"])
    assert figures["trials"] == 4 + tuned
    assert figures["epochs"] < figures["epochs_without_stopping"] == 3 * figures["trials"]
    whole = figures["epochs_without_stopping"]
    assert figures["pruned_share"] == pytest.approx(1 - figures["epochs"] / whole)
    kept = {(one["merge_range"], one["pretraining_rate"]) for one in figures["fine_tuning"]}
    best = sorted(figures["pretraining"], key=lambda one: -one[METRIC])[:2]
    assert kept == {(one["merge_range"], one["pretraining_rate"]) for one in best} | {(64, 3e-3)}
    # The settings that the winner is compared with are never stopped.
    for search in (figures["pretraining"], figures["fine_tuning"]):
        (standard,) = [p for p in search if (p["merge_range"], p["pretraining_rate"]) == (64, 3e-3)]
        assert standard["epochs"] == 3
    assert figures["default"] == standard[METRIC] <= figures["winner"][METRIC]
    for one in figures["fine_tuning"]:
        hospitals = [one[f"{METRIC} h1"], one[f"{METRIC} h2"]]
        assert one[METRIC] == pytest.approx(sum(hospitals) / 2)
    trials = pd.read_csv(tmp_path / "tune" / "trials.csv")
    assert len(trials) == tuned
    assert (tmp_path / "tune" / "sweep.png").stat().st_size > 5000

    registry = Registry(config.registry)
    for hospital in ("h1", "h2"):
        winner = Checkpoint.load(tmp_path / "tune" / "winner" / hospital / "checkpoint")
        promoted = registry.promoted(hospital)
        assert promoted is not None
        assert promoted.version == winner.digest
        assert set(winner.calibration) == {hospital}

    # The winner says whom it knows, so that it can be tested on the others.
    evaluation = EvaluateConfig(
        cohort=config.cohort,
        checkpoint=str(tmp_path / "tune" / "winner"),
        output=str(tmp_path / "evaluated"),
        bags=BagConfig(num_cells=3),
        split=SHARES,
        num_bootstrap=20,
    )
    assert set(json.loads((evaluate(evaluation) / "evaluation.json").read_text())["hospitals"])
    with pytest.raises(ConfigError, match="learnt from"):
        evaluate(replace(evaluation, split=replace(SHARES, seed=7)))

    # The same command again repeats no trial, and leaves decisions of others alone.
    registry.roll_back("h1")
    before = sorted((tmp_path / "tune" / "ray").rglob("model.safetensors"))
    times = [path.stat().st_mtime_ns for path in before]
    again = sweep(config)
    assert again["fine_tuning"] == figures["fine_tuning"]
    assert [path.stat().st_mtime_ns for path in before] == times
    assert registry.promoted("h1") is None
    with pytest.raises(ConfigError, match="other settings"):
        sweep(replace(config, merge_ranges=(64,)))


def _shared(config: TuneConfig) -> Participants:
    return collect_shared(
        Cohort.open(config.cohort),
        healthy=("healthy-1",),
        hospitals=("h1", "h2"),
        split=SHARES,
        hospital_split=SHARES,
        parts=(TRAIN, VALIDATION),
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_nobody_of_the_test_is_read(config: TuneConfig) -> None:
    cohort, shared = Cohort.open(config.cohort), _shared(config)
    read = set(shared.bank.frame["patient_id"])
    for hospital in ("healthy-1", "h1", "h2"):
        split = split_patients(cohort.of_hospitals([hospital]).patients, SHARES)
        assert not read & split[TEST]
        assert split[TRAIN] | split[VALIDATION] <= read
    assert len(patient_digests(read)) == 12


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_two_people_of_one_name_are_refused(tmp_path: Path, table_of: TableOf) -> None:
    first = table_of("h1", num_patients=4)
    other = table_of("h1", num_patients=4, seed=3)
    second = other.set_column(
        0, other.schema.field(0), pa.array(["h2"] * len(other), other.schema.field(0).type)
    )
    cohort = write_cohort(tmp_path / "c", [first, second], scale={}, provenance={})
    with pytest.raises(DataError, match="is in another hospital"):
        collect_shared(
            cohort,
            healthy=("h1",),
            hospitals=("h2",),
            split=SHARES,
            hospital_split=SHARES,
            parts=(TRAIN,),
        )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_rates_that_diverge_lose_and_do_not_stop_the_sweep(config: TuneConfig) -> None:
    one = replace(config.training, max_epochs=1)
    wild = replace(
        config,
        merge_ranges=(64,),
        pretraining_rates=(1e30, 1e-3),
        training=replace(one, averaging=0.0, learning_rate=1e-3),
        fine_tuning=replace(one, labels="cohort"),
        registry="",
    )
    figures = sweep(wild)
    assert [trial["diverged"] for trial in figures["pretraining"]] == [True, False]
    assert {trial["pretraining_rate"] for trial in figures["fine_tuning"]} == {1e-3}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_pretrainings_that_span_workers(config: TuneConfig) -> None:
    """Ray Train inside Tune gives the models that one process would have given."""
    wide = replace(
        config,
        merge_ranges=(64,),
        pretraining_rates=(3e-3,),
        workers_per_pretraining=2,
        training=replace(config.training, max_epochs=2),
        fine_tuning=replace(config.fine_tuning, max_epochs=1),
        registry="",
    )
    (across,) = (figures := sweep(wide))["pretraining"]
    alone = train(pretraining_stage(_shared(wide), 64, 3e-3, wide), _shared(wide).bank)
    assert across["epochs"] == len(alone.metrics["history"]) == 2
    assert across[METRIC] == pytest.approx(alone.metrics[METRIC], abs=5e-3)
    assert figures["winner"]["fine_tuning_rate"] == 1e-3


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_patients_are_no_healthy_people(config: TuneConfig) -> None:
    with pytest.raises(ConfigError, match=r"h1 of .* cannot be healthy people"):
        sweep(replace(config, healthy=("healthy-1", "h1")))
    # Nor in a hospital that is not fine-tuned on.
    with pytest.raises(ConfigError, match=r"h2 of .* cannot be healthy people"):
        sweep(replace(config, healthy=("h2",), hospitals=("h1",), output=config.output + "2"))


@pytest.mark.parametrize(
    "change",
    [
        {"merge_ranges": ()},
        {"num_finalists": 0},
        {"reduction_factor": 1},
        {"workers_per_pretraining": 2, "gpus_per_trial": 0.5},
    ],
)
def test_impossible_sweeps_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TuneConfig(**change)  # type: ignore[arg-type]
