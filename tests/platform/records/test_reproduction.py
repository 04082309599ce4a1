"""Methods side by side: one protocol, failures that stay alone, restarts, and times."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION, SplitConfig
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig
from homnet.records.beside_paper import HOMNET, comparison_markdown, running_time_markdown
from homnet.training.learning import METRIC
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import collect_shared, fewer_people
from homnet_platform.records.cost import work_of
from homnet_platform.records.methods import Method, best_of, claim_trials, try_once
from homnet_platform.records.plan import ReproduceConfig, collect
from homnet_platform.records.reproduction import reproduce
from homnet_platform.records.running_time import time_methods
from homnet_platform.records.side_by_side import refuse_failed

TableOf = Callable[..., pa.Table]
SHARES = SplitConfig(validation=0.25, test=0.5)  # one of each class in each part of "h1"
SMALL = HomNetConfig(merge_range=64, width=8, pair_width=12, num_heads=2)


@dataclass(frozen=True)
class Bench:
    """Methods, and how often each of them was fitted."""

    methods: dict[str, Method]
    log: Path

    def fits(self) -> list[str]:
        """Names of the stages that were trained since the last call, in any order."""
        names = sorted(path.read_text() for path in self.log.iterdir())
        for path in self.log.iterdir():
            path.unlink()
        return names


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    log = tmp_path / "log"
    log.mkdir()

    # Inside the fixture, so that workers get them by value: they cannot import this file.
    def fit(stage, bank, *, device="cpu"):
        import dataclasses
        import uuid

        from homnet.training.learning import train

        if stage.name != "probe":
            (log / uuid.uuid4().hex).write_text(stage.name)
        found = train(stage, bank, device=device)
        return dataclasses.replace(
            found, metrics={**found.metrics, "seconds": 2.0, "seconds_to_best": 1.0}
        )

    def broken(stage, bank, *, device="cpu"):
        raise RuntimeError("the machine is on fire")

    rates = {
        "pretraining": ({"learning_rate": 1e-3}, {"learning_rate": 3e-3, "width": 4}),
        "fine_tuning": ({"learning_rate": 1e-5}, {"learning_rate": 1e-3}),
    }
    return Bench(
        methods={
            "Floor": Method(replace(SMALL, merge_range=128), fit),
            "Broken": Method(SMALL, broken, **rates),
            HOMNET: Method(SMALL, fit, **rates),
        },
        log=log,
    )


@pytest.fixture
def config(tmp_path: Path, table_of: TableOf) -> ReproduceConfig:
    few = ("1", "2", "3")
    tables = [
        table_of("healthy-1", num_patients=8, chromosomes=few),
        table_of("h1", num_patients=8, abnormal="3", chromosomes=few),
    ]
    write_cohort(tmp_path / "cohort", tables, scale={"healthy-1": 3.0, "h1": 3.0}, provenance={})
    training = TrainingConfig(batch_size=32, bags=BagConfig(num_cells=3), validation_rounds=1)
    return ReproduceConfig(
        cohort=str(tmp_path / "cohort"),
        output=str(tmp_path / "reproduce"),
        seeds=(0, 1),
        scale=0.05,
        training=training,
        fine_tuning=replace(training, labels="cohort", max_epochs=1),
        split=SHARES,
        hospital_split=SHARES,
        bags=BagConfig(num_cells=3),
        num_bootstrap=60,
        estimate=False,
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_one_failure_stays_alone_and_restarts_repeat_what_is_missing(
    config: ReproduceConfig, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = reproduce(replace(config, estimate=True), bench.methods)
    told = capsys.readouterr().out
    assert f"{'Broken':<22} cannot be estimated: " in told
    assert "minutes of work" in told
    assert [row["method"] for row in first["rows"]] == ["Floor", HOMNET]
    floor, homnet = first["rows"]
    lead = homnet["auc"]["value"] - floor["auc"]["value"]
    assert floor["auc_behind"]["value"] == pytest.approx(lead)
    assert "auc_behind" not in homnet
    broken = [(one["name"], one["run"]) for one in first["failed"]]
    assert sorted(broken) == [("Broken", "trial 0"), ("Broken", "trial 1")]
    with pytest.raises(DataError, match=r"Broken, trial \d: the machine is on fire"):
        refuse_failed(first)
    # The first seed is that of both trials, and tries both fine-tunings of the better one.
    once = ["seed 0", "seed 0, h1", "seed 1", "seed 1, h1"]
    twice = ["seed 0", "seed 0, h1"]
    assert bench.fits() == sorted(
        [f"Floor, {stage}" for stage in once] + [f"HomNet, {stage}" for stage in once + twice]
    )
    trials = first["trials"][HOMNET]
    assert [line["tried"] for line in trials["lines"]] == list(bench.methods[HOMNET].trials)
    reached = [line[METRIC] for line in trials["lines"]]
    assert reached[trials["chosen"]] == max(reached)

    root = tmp_path / "reproduce" / HOMNET
    one, other = (run for run in first["runs"] if run["method"] == HOMNET)
    assert one["trial"] == other["trial"] == trials["chosen"]
    assert one["tuning"] == other["tuning"]
    assert [line["tried"]["learning_rate"] for line in one["tunings"]] == [1e-5, 1e-3]
    assert len(other["tunings"]) == 1
    width = bench.methods[HOMNET].trials[trials["chosen"]].get("width", SMALL.width)
    parent = Checkpoint.load(root / "seed-1" / "pretrained")
    tuned = Checkpoint.load(root / "seed-1" / "h1" / "checkpoint")
    assert parent.config.width == tuned.config.width == width
    assert set(parent.provenance["learnt_from"]) < set(tuned.provenance["learnt_from"])

    scores, other_scores = (root / f"seed-{seed}" / "scores.parquet" for seed in (1, 0))
    content, changed = scores.read_bytes(), other_scores.stat().st_mtime_ns
    scores.unlink()  # killed after the fine-tuning
    methods = {name: bench.methods[name] for name in ("Floor", HOMNET)}
    again = reproduce(config, methods)
    assert bench.fits() == ["HomNet, seed 1, h1"]
    assert scores.read_bytes() == content
    assert other_scores.stat().st_mtime_ns == changed
    assert again["rows"] == first["rows"]
    assert (again["failed"], again["num_reused"]) == ([], 6)
    refuse_failed(again)

    table = comparison_markdown(again)
    assert "| HomNet | " in table
    assert "Not in the table" not in table
    assert "Not in the table, as they failed: Broken." in comparison_markdown(first)

    form = replace(SMALL, merge_range=32)
    with pytest.raises(ConfigError, match="another form"):
        reproduce(config, methods | {HOMNET: replace(methods[HOMNET], form=form)})
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(replace(config, scale=0.02), methods)
    with pytest.raises(ConfigError, match="unknown method 'VGG'; there are Floor, HomNet"):
        reproduce(replace(config, methods=("VGG",)), methods)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_without_fine_tuning_artificial_abnormalities_are_judged(
    config: ReproduceConfig, bench: Bench, tmp_path: Path
) -> None:
    cohort = Cohort.open(tmp_path / "cohort").of_hospitals(["healthy-1"])
    write_cohort(
        tmp_path / "normal",
        [cohort.read(entry) for entry in cohort.files],
        scale={"healthy-1": 3.0},
        provenance={},
    )
    config = replace(config, cohort=str(tmp_path / "normal"), fine_tuning=None, seeds=(0,))
    found = reproduce(config, {"Floor": bench.methods["Floor"]})
    assert [row["hospital"] for row in found["rows"]] == ["healthy-1"]
    assert bench.fits() == ["Floor, seed 0"]
    assert "| AUC, healthy-1 | paper, Pki-3 |" in comparison_markdown(found)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_times_of_all_methods(config: ReproduceConfig, bench: Bench) -> None:
    methods = {**bench.methods, "Floor": replace(bench.methods["Floor"], in_steps=False)}
    found = time_methods(config, methods, num_batches=2)
    floor, homnet = found["rows"]
    assert floor["train_100"] is None
    assert floor["converged"]
    assert min(homnet["train_100"]["p10"], homnet["score_100"]["p10"]) > 0
    assert homnet["convergence"] == 1.0
    assert homnet["numbers"] > 1_000
    assert [one["name"] for one in found["failed"]] == ["Broken"]
    table = running_time_markdown(found)
    assert "| HomNet | " in table
    assert "| 5.39 | 2,468 |" in table
    assert "as they failed: Broken." in table
    bench.fits()
    assert time_methods(config, {HOMNET: methods[HOMNET]}, num_batches=2)["rows"] == [homnet]
    assert bench.fits() == []


def test_the_trial_that_validates_best_is_kept() -> None:
    reached = {1.0: 0.7, 2.0: 0.9, 3.0: 0.9}

    def fit(stage, bank, *, device):
        rate = stage.training.learning_rate
        if rate == 4.0:
            raise DivergedError("too high")
        metrics = {METRIC: reached[rate], "seconds": rate, "seconds_to_best": rate}
        return Checkpoint(stage.model, SMALL.build().state_dict(), metrics)

    method = Method(SMALL, fit)
    stage = Stage("s", SMALL, TrainingConfig(), frozenset("a"), frozenset("b"))
    tried = [
        try_once(method, {"learning_rate": rate}, stage, None, "cpu")
        for rate in (1.0, 4.0, 2.0, 3.0)
    ]
    lines = [line for _, line in tried]
    assert best_of(lines, "s") == 2  # of equals the first
    assert tried[2][0].metrics[METRIC] == 0.9
    assert tried[1] == (None, {"tried": {"learning_rate": 4.0}, "diverged": True})
    with pytest.raises(DataError, match="s: every trial diverged"):
        best_of(lines[1:2], "s")


def test_what_is_tried_is_a_field_of_the_training_or_of_the_form() -> None:
    method = Method(SMALL, print, ({"learning_rate": 0.5, "merge_range": 16},))
    assert method.at(method.trials[0], TrainingConfig()) == (
        replace(SMALL, merge_range=16),
        TrainingConfig(learning_rate=0.5),
    )
    assert Method(SMALL, print).trials == ({},)
    with pytest.raises(ConfigError, match="no field 'speed'"):
        Method(SMALL, print, ({"speed": 1},))


def test_directories_know_their_form(tmp_path: Path) -> None:
    one, two = {"learning_rate": 1.0}, {"learning_rate": 2.0}
    claim_trials(tmp_path / "x", Method(SMALL, print, (one,)))
    claim_trials(tmp_path / "x", Method(SMALL, print, (one,)))
    with pytest.raises(ConfigError, match="other trials"):
        claim_trials(tmp_path / "x", Method(SMALL, print, (one, two)))
    assert json.loads((tmp_path / "x" / "method.json").read_text())["pretraining"] == [one]


def test_scale_shrinks_epochs_and_then_people() -> None:
    full = ReproduceConfig()
    assert (full.epochs, full.share_of_people) == (100, 1.0)
    assert (replace(full, scale=0.1).epochs, replace(full, scale=0.1).share_of_people) == (10, 1)
    tiny = replace(full, scale=0.002)
    assert tiny.epochs == 4
    assert tiny.share_of_people == pytest.approx(0.05)
    people = frozenset(f"p{n:02}" for n in range(40))
    split = dict.fromkeys((TRAIN, VALIDATION, TEST), people)
    fewer = fewer_people(split, 0.1)
    assert [len(fewer[part]) for part in (TRAIN, VALIDATION, TEST)] == [4, 16, 40]
    assert fewer[TRAIN] < fewer_people(split, 0.2)[TRAIN]
    with pytest.raises(ConfigError, match="above 0"):
        ReproduceConfig(scale=0.0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_scale_leaves_the_judged_people_alone(config: ReproduceConfig) -> None:
    cohort = Cohort.open(config.cohort)
    whole = collect_shared(
        cohort,
        healthy=("healthy-1",),
        hospitals=("h1",),
        split=SHARES,
        hospital_split=SHARES,
        parts=(TRAIN, VALIDATION, TEST),
    )
    shared = collect(cohort, replace(config, scale=0.0001))
    assert shared.healthy[TEST] == whole.healthy[TEST]
    assert shared.hospitals == whole.hospitals
    # Nobody is read who is neither learnt from nor judged.
    assert not shared.healthy[TEST] & set(shared.bank.frame["patient_id"])
    work = work_of(shared, replace(config.training, max_epochs=5), config.fine_tuning, config.bags)
    # Two people with 3 types of 4 cells in bags of 3; scored at a third of the cost.
    assert work.pretraining == pytest.approx(5 * (8 + 8 / 3))
    assert work.fine_tuning == pytest.approx(8 + 8 / 3)
    assert work.scoring == pytest.approx((8 + 16) / 3)
