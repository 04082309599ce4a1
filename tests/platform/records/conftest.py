"""A small comparison: people in memory, a form that learns in a moment, and a log of what did."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig, PairBank
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import SplitConfig, split_patients
from homnet.model.network import HomNetConfig
from homnet.training.optimisation import TrainingConfig
from homnet_platform.data import Participants
from homnet_platform.records import reproduction
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.method_trials import Method
from homnet_platform.records.plan import Comparison, ReproduceConfig
from homnet_platform.records.side_by_side import MethodRun

SHARES = SplitConfig(validation=0.25, test=0.5)  # one of each class in each part of "h1"


@pytest.fixture(scope="session")
def small() -> HomNetConfig:
    """A form that trains in a moment."""
    return HomNetConfig(merge_range=64, width=8, pair_width=12, num_heads=2)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory, table_of: Callable[..., pa.Table]) -> Cohort:
    """Eight healthy people and eight patients, three types of four cells each."""
    few = ("1", "2", "3")
    tables = [
        table_of("healthy-1", num_patients=8, chromosomes=few),
        table_of("h1", num_patients=8, abnormal="3", chromosomes=few),
    ]
    path = tmp_path_factory.mktemp("people") / "cohort"
    return write_cohort(path, tables, scale={"healthy-1": 3.0, "h1": 3.0}, provenance={})


@pytest.fixture(scope="session")
def comparison(cohort: Cohort) -> Comparison:
    """Two seeds of trainings of the fewest epochs on all of the cohort."""
    training = TrainingConfig(batch_size=32, bags=BagConfig(num_cells=3), validation_rounds=1)
    return Comparison(
        cohort=str(cohort.root),
        split=SHARES,
        hospital_split=SHARES,
        seeds=(0, 1),
        minutes=0.001,
        training=training,
        fine_tuning=replace(training, labels="cohort", max_epochs=1),
        bags=BagConfig(num_cells=3),
        num_bootstrap=60,
    )


@pytest.fixture(scope="session")
def shared(cohort: Cohort) -> Participants:
    """What ``collect`` reads with Ray, read without."""
    tables = [cohort.read(entry) for entry in cohort.files]
    split = {
        name: split_patients(cohort.of_hospitals([name]).patients, SHARES)
        for name in cohort.hospitals
    }
    return Participants(
        bank=PairBank.from_table(pa.concat_tables(tables)),
        healthy=split["healthy-1"],
        hospitals={"h1": split["h1"]},
        scale=cohort.scale,
    )


@dataclass(frozen=True)
class Bench:
    """A function that fits, and a log of its calls."""

    fit: Callable[..., Any]
    log: Path

    def fits(self) -> list[str]:
        """Names of the stages that were trained since the last call, sorted."""
        names = sorted(path.read_text() for path in self.log.iterdir())
        for path in self.log.iterdir():
            path.unlink()
        return names


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    log = tmp_path / "log"
    log.mkdir()

    # Inside the fixture, so that workers get it by value: they cannot import this file.
    def fit(stage, bank, *, device="cpu", kept=None):
        import dataclasses
        import uuid

        from homnet.training.learning import train

        if stage.name != "probe":
            (log / uuid.uuid4().hex).write_text(stage.name)
        found = train(stage, bank, device=device, kept=kept)
        spent = {"seconds": 2.0, "cpu_seconds": 2.0, "seconds_to_best": 1.0}
        return dataclasses.replace(found, metrics={**found.metrics, **spent})

    return Bench(fit, log)


@pytest.fixture
def tried(small: HomNetConfig, bench: Bench) -> Method:
    """A method with two trials of each stage."""
    return Method(
        small,
        bench.fit,
        pretraining=({"learning_rate": 1e-3}, {"learning_rate": 3e-3, "width": 4}),
        fine_tuning=({"learning_rate": 1e-5}, {"learning_rate": 1e-3}),
    )


@pytest.fixture
def runs_of(tmp_path: Path, comparison: Comparison) -> Callable[..., MethodRuns]:
    """The maker of a method's runs."""

    def make(method: Method, name: str = "HomNet", **changes: Any) -> MethodRuns:
        own = replace(comparison, **changes)
        return MethodRuns(name, method, own, "digest", tmp_path / name)

    return make


@pytest.fixture
def config(comparison: Comparison, tmp_path: Path) -> ReproduceConfig:
    return ReproduceConfig(comparison=comparison, output=str(tmp_path / "runs"), num_batches=1)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch, shared: Participants) -> None:
    """Runs happen in this process, one after the other."""

    def side_by_side(
        runs: list[MethodRun],
        task: Callable[[Participants, MethodRun], float],
        data: Participants,
        **_: float,
    ) -> dict[MethodRun, str]:
        failed = {}
        for run in runs:
            try:
                task(data, run)
            except RuntimeError as error:
                failed[run] = str(error)
        return failed

    monkeypatch.setattr(reproduction, "local_or_cluster", lambda **_: contextlib.nullcontext())
    monkeypatch.setattr(reproduction, "collect", lambda cohort, comparison: shared)
    monkeypatch.setattr(reproduction.ray, "put", lambda data: data)
    monkeypatch.setattr(reproduction, "side_by_side", side_by_side)
