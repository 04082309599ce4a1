"""Sweeps: poor trials stopped, a winner that was judged by nobody of the test, continued."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION, split_patients
from homnet.errors import ConfigError, DataError
from homnet.locations import files_in, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig
from homnet.model.registry import Registry
from homnet.results import read_json
from homnet.training.learning import METRIC
from homnet_platform import data, tuning
from homnet_platform.evaluation import EvaluateConfig, evaluate
from homnet_platform.sweep import TuneConfig
from homnet_platform.tuning import _promote, sweep

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.mark.slow
def test_a_sweep(sweep_config: TuneConfig, tmp_path: Path) -> None:
    figures = sweep(sweep_config)
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
    # Dashboards read the parameters of a trial from there.
    for search, names in (
        ("pre-training", {"merge_range", "pretraining_rate"}),
        ("fine-tuning", {"merge_range", "pretraining_rate", "fine_tuning_rate"}),
    ):
        for params in (tmp_path / "tune" / "ray" / search).rglob("params.json"):
            assert set(json.loads(params.read_text())) == names

    registry = Registry(sweep_config.registry)
    for hospital in ("h1", "h2"):
        winner = Checkpoint.load(tmp_path / "tune" / "winner" / hospital / "checkpoint")
        promoted = registry.promoted(hospital)
        assert promoted is not None
        assert promoted.version == winner.digest
        assert set(winner.calibration) == {hospital}

    # The winner says whom it knows, so that it can be tested on the others.
    evaluation = EvaluateConfig(
        cohort=sweep_config.cohort,
        checkpoint=str(tmp_path / "tune" / "winner"),
        output=str(tmp_path / "evaluated"),
        bags=BagConfig(num_cells=3),
        split=sweep_config.hospital_split,
        num_bootstrap=20,
    )
    assert set(json.loads((evaluate(evaluation) / "evaluation.json").read_text())["hospitals"])
    with pytest.raises(ConfigError, match="learnt from"):
        evaluate(replace(evaluation, split=replace(sweep_config.hospital_split, seed=7)))

    # The same command again repeats no trial, and leaves decisions of others alone.
    registry.roll_back("h1")
    before = sorted((tmp_path / "tune" / "ray").rglob("model.safetensors"))
    times = [path.stat().st_mtime_ns for path in before]
    again = sweep(sweep_config)
    assert again["fine_tuning"] == figures["fine_tuning"]
    assert [path.stat().st_mtime_ns for path in before] == times
    assert registry.promoted("h1") is None
    with pytest.raises(ConfigError, match="other settings"):
        sweep(replace(sweep_config, merge_ranges=(64,)))


@pytest.mark.slow
def test_a_sweep_in_a_bucket_whose_points_are_searched_for(
    sweep_config: TuneConfig, bucket: Callable[[str], str]
) -> None:
    searched = replace(
        sweep_config,
        output=bucket("runs/tune"),
        searcher="optuna",
        num_samples=3,
        pretraining_rates=(1e-4, 1e-2),
        fine_tuning_rates=(1e-4, 1e-2),
        registry=bucket("registry"),
    )
    figures = sweep(searched)
    assert [len(figures[name]) for name in ("pretraining", "fine_tuning")] == [3, 3]
    for one in figures["pretraining"]:
        assert one["merge_range"] in (64, 128)
        assert 1e-4 <= one["pretraining_rate"] <= 1e-2
    assert (64, 3e-3) in {(p["merge_range"], p["pretraining_rate"]) for p in figures["pretraining"]}
    found = {(p["merge_range"], p["pretraining_rate"]) for p in figures["pretraining"]}
    for one in figures["fine_tuning"]:
        assert (one["merge_range"], one["pretraining_rate"]) in found
        assert 1e-4 <= one["fine_tuning_rate"] <= 1e-2
    assert figures["default"] is not None
    trials = to_location(searched.output) / "ray" / "fine-tuning"
    params = [path for path in files_in(trials, recursive=True) if path.endswith("params.json")]
    assert len(params) == 3
    for path in params:
        assert set(read_json(trials / path)) == {"pretrained", "fine_tuning_rate"}
    # Both searches are there, and restored.
    assert sweep(searched)["winner"] == figures["winner"]
    assert Registry(searched.registry).promoted("h1")


def test_a_winner_is_promoted_once_also_after_a_kill(tmp_path: Path) -> None:
    """People may decide otherwise afterwards: a repetition leaves that."""
    form = HomNetConfig(width=8, pair_width=12, num_heads=2)
    winner = Checkpoint(form, form.build().state_dict())
    registry = Registry(tmp_path)
    registry.publish(winner, "h1")  # and was killed
    _promote({"h1": winner, "h2": winner}, registry)
    for hospital in ("h1", "h2"):
        promoted = registry.promoted(hospital)
        assert promoted is not None
        assert promoted.version == winner.digest
    registry.roll_back("h1")
    _promote({"h1": winner, "h2": winner}, registry)
    assert registry.promoted("h1") is None
    assert [one.action for one in registry.standing().decisions].count("promote") == 2
    registry.publish(winner, "h3")
    registry.retire("h3", winner.digest)
    _promote({"h3": winner}, registry)
    assert [one.status for one in registry.entries("h3")] == ["retired"]
    # Nor is a decision set aside that is damaged.
    for path in (tmp_path / "events").glob("*-h2-*"):
        if '"promote"' in path.read_text():
            path.write_text("{")
    _promote({"h2": winner}, registry)
    assert [one.status for one in registry.entries("h2")] == ["unknown"]


def test_a_sweep_reads_nobody_of_the_test(
    sweep_config: TuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[set[str]] = []

    def pairs_of(cohort: Cohort, patients: set[str]) -> NoReturn:
        read.append(patients)
        raise DataError("enough")

    monkeypatch.setattr(data, "pairs_dataset", pairs_of)
    monkeypatch.setattr(tuning, "require_workers", lambda *_, **__: 3)
    with pytest.raises(DataError, match="enough"):
        sweep(sweep_config)
    cohort = Cohort.open(sweep_config.cohort)
    allowed: set[str] = set()
    for hospital in ("healthy", "h1", "h2"):
        split = split_patients(cohort.of_hospitals([hospital]).patients, sweep_config.split)
        assert split[TEST]
        allowed |= split[TRAIN] | split[VALIDATION]
    assert read == [allowed]


def test_patients_are_no_healthy_people(sweep_config: TuneConfig) -> None:
    with pytest.raises(ConfigError, match=r"h1 of .* cannot be healthy people"):
        sweep(replace(sweep_config, healthy=("healthy", "h1")))
    # Nor in a hospital that is not fine-tuned on.
    with pytest.raises(ConfigError, match=r"h2 of .* cannot be healthy people"):
        sweep(
            replace(
                sweep_config, healthy=("h2",), hospitals=("h1",), output=sweep_config.output + "2"
            )
        )
