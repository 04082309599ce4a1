"""The runs of one method, in this process: what is trained, chosen, kept and repeated."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from homnet.bags.draw import PairBank
from homnet.bags.events import EventConfig
from homnet.errors import DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig
from homnet.results import write_json
from homnet.training.learning import METRIC, Learner
from homnet.training.stage import Stage
from homnet_platform.data import Participants
from homnet_platform.records import method_runs
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.method_trials import Method

RunsOf = Callable[..., MethodRuns]


def _do(runs: MethodRuns, what: str, number: int, shared: Participants) -> dict[str, object]:
    record = (runs.try_trial if what == "trial" else runs.judge)(shared, number)
    write_json(runs.folder(what, number) / "record.json", record)
    return record


def _reaching(bench, auc: Callable[[Stage], float]) -> Callable[..., Checkpoint]:
    """Fits as the bench does, and states a validation AUC."""

    def fit(stage: Stage, bank: PairBank, **how: Any) -> Checkpoint:
        found = bench.fit(stage, bank, **how)
        return replace(found, metrics={**found.metrics, METRIC: auc(stage)})

    return fit


def test_trials_choose_for_all_seeds(
    runs_of: RunsOf, tried: Method, shared: Participants, bench, small: HomNetConfig
) -> None:
    better = tried.trials[1]["learning_rate"]
    fit = _reaching(bench, lambda stage: 0.7 + 0.1 * (stage.training.learning_rate == better))
    runs = runs_of(replace(tried, fit=fit))
    with pytest.raises(DataError, match=r"record\.json"):
        runs.judge(shared, 0)
    lines = [_do(runs, "trial", number, shared) for number in range(2)]
    assert [line["tried"] for line in lines] == list(tried.trials)
    assert bench.fits() == ["HomNet, seed 0"] * 2

    # The better one is trained with all minutes, and the first seed tries both fine-tunings.
    one = _do(runs, "seed", 0, shared)
    assert bench.fits() == ["HomNet, seed 0", *["HomNet, seed 0, h1"] * 2]
    other = _do(runs, "seed", 1, shared)
    assert bench.fits() == ["HomNet, seed 1", "HomNet, seed 1, h1"]
    chosen = runs.chosen_trial()
    assert one["trial"] == other["trial"] == chosen == 1
    assert "collapsed" not in one
    assert one["tuning"] == other["tuning"]
    assert [line["tried"]["learning_rate"] for line in one["tunings"]] == [1e-5, 1e-3]
    assert len(other["tunings"]) == 1
    width = tried.trials[chosen].get("width", small.width)
    parent = Checkpoint.load(runs.folder("seed", 1) / "pretrained-1")
    tuned = Checkpoint.load(runs.folder("seed", 1) / "h1" / "checkpoint")
    assert parent.config.width == tuned.config.width == width
    assert set(parent.provenance["learnt_from"]) < set(tuned.provenance["learnt_from"])

    # Killed before the record was written: what was pre-trained is kept, the rest is repeated.
    content = runs.scores(1).read_bytes()
    runs.scores(1).unlink()
    (runs.folder("seed", 1) / "record.json").unlink()
    assert not runs.is_done("seed", 1)
    assert _do(runs, "seed", 1, shared) == other
    assert bench.fits() == ["HomNet, seed 1, h1"]
    assert runs.scores(1).read_bytes() == content
    assert runs.is_done("seed", 1)


def test_a_training_that_collapses_gives_way_to_the_next_trial(
    runs_of: RunsOf, tried: Method, shared: Participants, bench
) -> None:
    """With all minutes, the better trial falls below the other; a killed run repeats neither."""
    better = tried.trials[1]["learning_rate"]
    long: list[float] = []

    def auc(stage: Stage) -> float:
        rate = stage.training.learning_rate
        if stage.name != "probe":
            long.append(rate)
        if len(long) > 2:
            return 0.6 if rate == better else 0.75
        return 0.8 if rate == better else 0.7

    own = replace(shared, hospitals={})
    runs = runs_of(replace(tried, fit=_reaching(bench, auc)), fine_tuned=False)
    for number in range(2):
        _do(runs, "trial", number, own)
    one = _do(runs, "seed", 0, own)
    assert long[2:] == [better, tried.trials[0]["learning_rate"]]
    assert (one["trial"], one[METRIC]) == (0, 0.75)
    assert [(line["trial"], line[METRIC]) for line in one["collapsed"]] == [(1, 0.6)]
    assert _do(runs, "seed", 0, own) == one
    assert len(long) == 4
    assert _do(runs, "seed", 1, own)["trial"] == runs.chosen_trial() == 0
    assert long[4:] == [tried.trials[0]["learning_rate"]]


def test_a_choice_that_diverges_at_a_hospital_is_not_taken(
    runs_of: RunsOf, tried: Method, shared: Participants, bench
) -> None:
    def fit(stage, bank, **how):
        from homnet.errors import DivergedError

        if "h1" in stage.name and stage.training.learning_rate == 1e-3:
            raise DivergedError("too high")
        return bench.fit(stage, bank, **how)

    runs = runs_of(replace(tried, fit=fit, pretraining=()))
    record = _do(runs, "seed", 0, shared)
    assert record["tuning"] == 0
    assert record["tunings"][1] == {
        "tried": {"learning_rate": 1e-3},
        "hospitals": [],
        "diverged": True,
    }


def test_without_fine_tuning_artificial_abnormalities_are_judged(
    runs_of: RunsOf, small: HomNetConfig, shared: Participants, bench
) -> None:
    changes = {"fine_tuned": False, "seeds": (0,), "events": EventConfig(sham_share=0.2)}
    own = replace(shared, hospitals={})
    single = Method(small, bench.fit, one_pair=True)
    scores = {}
    for name, method in (("bags", replace(single, one_pair=False)), ("single", single)):
        runs = runs_of(method, name, **changes)
        assert "tuning" not in _do(runs, "seed", 0, own)
        assert bench.fits() == [f"{name}, seed 0"]
        scores[name] = pd.read_parquet(runs.scores(0))
        assert set(scores[name]["hospital"]) == {"healthy-1"}
        assert scores[name]["abnormal"].nunique() == 2
    # The four cells of a person make two bags of at most three, or four of one.
    assert len(scores["single"]) == 2 * len(scores["bags"])


def test_a_killed_training_goes_on_at_its_last_epoch_and_in_its_size(
    runs_of: RunsOf, small: HomNetConfig, shared: Participants, bench, monkeypatch
) -> None:
    epochs: list[int] = []
    whole = Learner.epoch

    def killed(self: Learner, *args: Any, **more: Any) -> dict[str, float]:
        if self.stage.name != "probe":
            epochs.append(len(self.history))
            if epochs == [0, 1, 2]:
                raise KeyboardInterrupt
        return whole(self, *args, **more)

    monkeypatch.setattr(Learner, "epoch", killed)
    runs = runs_of(Method(small, bench.fit), fine_tuned=False, seeds=(0,))
    own = replace(shared, hospitals={})
    with pytest.raises(KeyboardInterrupt):
        runs.judge(own, 0)
    stage = runs.sized(own, ("seed", 0), 0, 0.001)
    assert (runs.folder("seed", 0) / "rate-0.json").is_file()
    monkeypatch.setattr(method_runs, "seconds_per_pair", None)  # it is measured once
    record = _do(runs, "seed", 0, own)
    assert epochs == [0, 1, 2, *range(2, stage.training.max_epochs)]
    assert len(record["curve"]) == stage.training.max_epochs
    assert max(record["curve"]) == pytest.approx(record[METRIC], abs=1e-4)
    assert runs.sized(own, ("seed", 1), 0, 0.0).training.max_epochs == 100
