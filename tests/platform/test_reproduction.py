"""Methods side by side: one protocol, failures that stay alone, restarts, and times."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.bags import BagConfig
from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort, write_cohort
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.learning import METRIC
from homnet.model import HomNetConfig
from homnet.report import comparison_markdown, draw_comparison, running_time_markdown
from homnet.split import TEST, TRAIN, VALIDATION, SplitConfig
from homnet.training import TrainingConfig
from homnet_platform.data import collect_shared
from homnet_platform.reproduction import HOMNET, refuse_failed, reproduce
from homnet_platform.reproduction_plan import ReproduceConfig, collect, share_of, work_of
from homnet_platform.running_time import time_methods
from homnet_platform.method_trials import Method, best_of, claim_trials

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

        from homnet.learning import train

        if stage.name != "probe":
            (log / uuid.uuid4().hex).write_text(stage.name)
        found = train(stage, bank, device=device)
        return dataclasses.replace(
            found, metrics={**found.metrics, "seconds": 2.0, "seconds_to_best": 1.0}
        )

    def broken(stage, bank, *, device="cpu"):
        raise RuntimeError("the machine is on fire")

    trials = {"pretraining": (1e-3, 3e-3), "fine_tuning": (1e-5, 1e-3)}
    return Bench(
        methods={
            "Floor": Method(replace(SMALL, merge_range=128), fit),
            "Broken": Method(SMALL, broken, **trials),
            HOMNET: Method(SMALL, fit, **trials),
        },
        log=log,
    )


@pytest.fixture
def config(tmp_path: Path, table_of: TableOf) -> ReproduceConfig:
    tables = [
        table_of("healthy-1", num_patients=8),
        table_of("h1", num_patients=8, abnormal="3"),
    ]
    write_cohort(tmp_path / "cohort", tables, scale={"healthy-1": 3.0, "h1": 3.0}, provenance={})
    training = TrainingConfig(
        batch_size=32, max_epochs=1, bags=BagConfig(num_cells=3), validation_rounds=1
    )
    return ReproduceConfig(
        cohort=str(tmp_path / "cohort"),
        output=str(tmp_path / "reproduce"),
        seeds=(0,),
        scale=0.01,
        training=training,
        fine_tuning=replace(training, labels="cohort"),
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
    config = replace(config, estimate=True)
    first = reproduce(config, bench.methods)
    assert "at most about" in capsys.readouterr().out
    assert [row["method"] for row in first["rows"]] == ["Floor", HOMNET]
    floor, homnet = first["rows"]
    lead = homnet["auc"]["value"] - floor["auc"]["value"]
    assert floor["auc_behind"]["value"] == pytest.approx(lead)
    assert "auc_behind" not in homnet
    assert [(one["method"], one["seed"]) for one in first["failed"]] == [("Broken", 0)]
    with pytest.raises(DataError, match="Broken with seed 0: the machine is on fire"):
        refuse_failed(first)
    # One run without trials, and two trials of HomNet, each before and after fine-tuning.
    assert bench.fits() == sorted(
        ["Floor, seed 0", "Floor, seed 0, h1"] + 2 * ["HomNet, seed 0", "HomNet, seed 0, h1"]
    )
    (run,) = [one for one in first["runs"] if one["method"] == HOMNET]
    assert [trial["learning_rate"] for trial in run["pretraining"]] == [1e-3, 3e-3]
    assert [trial["learning_rate"] for trial in run["fine_tuning"]["h1"]] == [1e-5, 1e-3]

    root = tmp_path / "reproduce"
    best = max(trial[METRIC] for trial in run["pretraining"])
    kept = Checkpoint.load(root / HOMNET / "seed-0" / "pretrained" / "checkpoint")
    assert kept.metrics[METRIC] == best
    tuned = Checkpoint.load(root / HOMNET / "seed-0" / "h1" / "checkpoint")
    assert set(kept.provenance["learnt_from"]) < set(tuned.provenance["learnt_from"])

    scores = root / HOMNET / "seed-0" / "scores.parquet"
    content, other = scores.read_bytes(), root / "Floor" / "seed-0" / "scores.parquet"
    changed = other.stat().st_mtime_ns
    scores.unlink()  # killed after the fine-tuning
    methods = {name: bench.methods[name] for name in ("Floor", HOMNET)}
    again = reproduce(config, methods)
    assert bench.fits() == []
    assert scores.read_bytes() == content
    assert other.stat().st_mtime_ns == changed
    assert again["rows"] == first["rows"]
    assert again["failed"] == []
    refuse_failed(again)

    table = comparison_markdown(again)
    assert "| HomNet | " in table
    assert "HomNet minus" in table
    draw_comparison(again, tmp_path / "table.png")
    assert (tmp_path / "table.png").stat().st_size > 10_000

    form = replace(SMALL, merge_range=32)
    with pytest.raises(ConfigError, match="another form"):
        reproduce(config, methods | {HOMNET: replace(methods[HOMNET], form=form)})
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(replace(config, scale=0.02), methods)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_without_fine_tuning_artificial_abnormalities_are_judged(
    config: ReproduceConfig, bench: Bench, tmp_path: Path
) -> None:
    config = replace(config, cohort=str(tmp_path / "normal"), fine_tuning=None)
    write_cohort(
        tmp_path / "normal",
        _tables(tmp_path / "cohort", "healthy-1"),
        scale={"healthy-1": 3.0},
        provenance={},
    )
    found = reproduce(config, {"Floor": bench.methods["Floor"]})
    assert [row["hospital"] for row in found["rows"]] == ["healthy-1"]
    assert bench.fits() == ["Floor, seed 0"]
    assert "Pki-3" in comparison_markdown(found)


def _tables(path: Path, hospital: str) -> list[pa.Table]:
    cohort = Cohort.open(path).of_hospitals([hospital])
    return [cohort.read(entry) for entry in cohort.files]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_times_of_all_methods(config: ReproduceConfig, bench: Bench, tmp_path: Path) -> None:
    methods = {**bench.methods, "Floor": replace(bench.methods["Floor"], in_steps=False)}
    found = time_methods(config, methods, num_batches=2)
    floor, homnet = found["rows"]
    assert floor["train_100"] is None
    assert homnet["train_100"] > homnet["score_100"] > 0
    assert homnet["convergence"] == 1.0
    assert homnet["numbers"] > 1_000
    assert [one["method"] for one in found["failed"]] == ["Broken"]
    table = running_time_markdown(found)
    assert "| HomNet | " in table
    assert "| 5.39 | 2,468 |" in table
    bench.fits()
    assert time_methods(config, {HOMNET: methods[HOMNET]}, num_batches=2)["rows"] == [homnet]
    assert bench.fits() == []


def test_the_trial_that_validates_best_is_kept(tmp_path: Path) -> None:
    reached = {1.0: 0.7, 2.0: 0.9, 3.0: 0.8}

    def fit(stage, bank, *, device):
        rate = stage.training.learning_rate
        if rate == 4.0:
            raise DivergedError("too high")
        weights = SMALL.build().state_dict()
        metrics = {METRIC: reached[rate], "seconds": rate, "seconds_to_best": rate}
        return Checkpoint(stage.model, weights, metrics)

    method = Method(SMALL, fit)
    stage = _stage()
    best, lines = best_of(method, (1.0, 4.0, 2.0, 3.0), stage, None, tmp_path / "a", "cpu")
    assert best.metrics[METRIC] == 0.9
    assert [line["learning_rate"] for line in lines] == [1.0, 4.0, 2.0, 3.0]
    assert lines[1] == {"learning_rate": 4.0, "diverged": True}
    with pytest.raises(DataError, match="every trial diverged"):
        best_of(method, (4.0,), stage, None, tmp_path / "b", "cpu")


def _stage():
    from homnet.learning import Stage

    return Stage("s", SMALL, TrainingConfig(), frozenset("a"), frozenset("b"))


def test_what_is_tried_is_a_field_of_the_training_or_of_the_form() -> None:
    rate = Method(SMALL, print, knob="learning_rate")
    assert rate.at(0.5, TrainingConfig()) == (SMALL, TrainingConfig(learning_rate=0.5))
    width = Method(SMALL, print, knob="merge_range")
    assert width.at(16, TrainingConfig()) == (replace(SMALL, merge_range=16), TrainingConfig())
    with pytest.raises(ConfigError, match="no field 'speed'"):
        Method(SMALL, print, knob="speed")


def test_directories_know_their_form(tmp_path: Path) -> None:
    claim_trials(tmp_path / "x", Method(SMALL, print, pretraining=(1.0,)))
    claim_trials(tmp_path / "x", Method(SMALL, print, pretraining=(1.0,)))
    with pytest.raises(ConfigError, match="other trials"):
        claim_trials(tmp_path / "x", Method(SMALL, print, pretraining=(1.0, 2.0)))
    assert json.loads((tmp_path / "x" / "method.json").read_text())["knob"] == "learning_rate"


def test_scale_shrinks_epochs_and_then_people() -> None:
    full = ReproduceConfig()
    assert (full.epochs, full.share_of_people) == (100, 1.0)
    assert (replace(full, scale=0.05).epochs, replace(full, scale=0.05).share_of_people) == (5, 1)
    tiny = replace(full, scale=0.002)
    assert (tiny.epochs, tiny.share_of_people) == (1, 0.2)
    people = frozenset(f"p{n:02}" for n in range(20))
    assert share_of(people, 0.2) == {"p00", "p01", "p02", "p03"}
    assert len(share_of(people, 0.001)) == 2
    assert share_of(frozenset({"a"}), 0.1) == {"a"}
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
    assert len(shared.healthy[TRAIN]) == 2
    work = work_of(shared, config)
    # 22 types of 4 cells in bags of 3: 29 bags a person, one round each.
    assert work.pretraining == 2 * 22 * 4 // 3 + 2 * 22 * 4 // 3
    assert work.fine_tuning == work.pretraining
    assert work.scoring == 2 * 22 * 4 // 3 + 4 * 22 * 4 // 3
