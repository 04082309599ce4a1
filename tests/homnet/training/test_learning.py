"""A run from one worker's side: windows, checkpoints inside an epoch, going on to the same bits."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
import torch.distributed
from sklearn.metrics import roc_auc_score
from torch.nn.parallel import DistributedDataParallel

from homnet.bags.draw import BagConfig, PairBank, with_parts
from homnet.bags.epochs import DeviceBank
from homnet.errors import CheckpointError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig, best_form
from homnet.model.predictor import Predictor
from homnet.training.learning import METRIC, Learner, finished, train
from homnet.training.optimisation import TrainingConfig, learning_rate_at, precision_on
from homnet.training.stage import Stage
from homnet.training.supply import Plans, Resident

TableOf = Callable[..., pa.Table]
FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
TRAINING = TrainingConfig(
    batch_size=25,
    max_epochs=2,
    bags=BagConfig(num_cells=3),
    learning_rate=3e-3,
    averaging=0.5,
    schedule="cosine",
)


@pytest.fixture(scope="module")
def bank(table_of: TableOf) -> PairBank:
    """Six patients of 16 pairs, each in a file of its own."""
    table = table_of("h1", num_patients=6, chromosomes=("1", "7", "8", "13"))
    files = [table.filter(pc.equal(table["patient_id"], f"h1-p{n}")) for n in range(6)]
    return PairBank.from_table(pa.concat_tables(map(with_parts, files, range(6))))


@pytest.fixture(scope="module")
def straight(bank: PairBank) -> Callable[[int], Checkpoint]:
    """What an undisturbed run with such windows ends with."""
    return cache(lambda window_pairs: train(_steps(window_pairs), bank))


def _steps(window_pairs: int, **changes: Any) -> Stage:
    settings = {"checkpoint_steps": 1, "batch_size": 7, "window_pairs": window_pairs, **changes}
    return _stage(replace(TRAINING, **settings))


def _learner(stage: Stage, bank: PairBank, device: str = "cpu") -> Learner:
    return Learner(stage, Resident.of(stage, bank, device), device=device)


def _stage(training: TrainingConfig, form: HomNetConfig = FORM) -> Stage:
    return Stage(
        name="run",
        model=form,
        training=training,
        train_patients=frozenset(f"h1-p{i}" for i in range(4)),
        validation_patients=frozenset({"h1-p4", "h1-p5"}),
    )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class _KilledError(Exception):
    """Stands for SIGKILL."""


def _run_until_killed(learner: Learner, save: Callable[[], None]) -> None:
    while True:
        learner.epoch(save=save)


def test_windows_change_the_bags(bank: PairBank) -> None:
    whole = train(_stage(TRAINING), bank)
    assert whole.version != train(_stage(replace(TRAINING, window_pairs=20)), bank).version


def test_the_search_counts_in_the_best_model_and_in_what_goes_on_from_it(
    bank: PairBank, tmp_path: Path
) -> None:
    stage = _stage(TRAINING)
    learner = _learner(stage, bank)
    line = learner.epoch()
    kept = learner.checkpoint()
    assert kept.weights["search.weight_F"].any()
    assert not kept.state["raw.search.weight_F"].any()  # training goes on without
    model = finished(kept).build()
    epoch = stage.validation_epoch(stage.parts(bank)[1])
    scored = Predictor(model, {}, version="").loaded_logits(
        DeviceBank(stage.parts(bank)[1], "cpu").load(epoch)
    )
    assert line[METRIC] == pytest.approx(roc_auc_score(epoch.label_B, scored), abs=1e-6)

    parent = str(finished(kept).save(tmp_path / "parent"))
    tuned = replace(
        stage,
        parent=parent,
        model=kept.config,
        training=replace(TRAINING, learning_rate=1e-9, averaging=0.0),
    )
    with pytest.raises(CheckpointError, match="has another form than the stage"):
        _learner(replace(tuned, model=replace(kept.config, attention="ratio")), bank)
    after = _learner(tuned, bank)
    after.epoch()
    weights = after.checkpoint().weights
    for name in ("search.weight_F", "search.mean_TD", "search.covariance_TXX"):
        assert torch.equal(weights[name], kept.weights[name])
    torch.testing.assert_close(weights["bag.bag.bias"], kept.weights["bag.bag.bias"])


@pytest.mark.parametrize("window_pairs", [20, 1000])
@pytest.mark.parametrize("killed_at", range(1, 7))
def test_a_run_killed_inside_an_epoch_goes_on_to_the_same_bits(
    bank: PairBank,
    straight: Callable[[int], Checkpoint],
    tmp_path: Path,
    window_pairs: int,
    killed_at: int,
) -> None:
    stage = _steps(window_pairs)
    saved: list[Path] = []

    def save_and_die() -> None:
        saved.append(learner.checkpoint().save(tmp_path / "last"))
        if len(saved) == killed_at:
            raise _KilledError

    learner = _learner(stage, bank)
    with pytest.raises(_KilledError):
        _run_until_killed(learner, save_and_die)
    kept = Checkpoint.load(tmp_path / "last")
    assert kept.metrics["position"]["step"] > 0
    continued = train(stage, bank, kept=tmp_path / "last")
    whole = straight(window_pairs)
    assert continued.version == whole.version
    assert continued.metrics == whole.metrics
    assert continued.calibration == whole.calibration


def test_a_run_that_has_ended_goes_on_with_more_epochs(bank: PairBank, tmp_path: Path) -> None:
    short, longer = (_steps(20, schedule="constant", max_epochs=n) for n in (2, 3))
    train(short, bank, kept=tmp_path / "last")
    continued, whole = train(longer, bank, kept=tmp_path / "last"), train(longer, bank)
    assert len(whole.metrics["history"]) == 3
    assert continued.metrics["history"] == whole.metrics["history"]
    assert continued.version == whole.version


def test_the_checkpoint_of_a_run_holds_the_best_model_so_far(bank: PairBank) -> None:
    # Steps too small to change a ranking: the first epoch stays the best.
    still = replace(TRAINING, learning_rate=1e-8, averaging=0.0, schedule="constant")
    learner = _learner(_stage(still, replace(FORM, search_positions=0)), bank)
    before = learner.checkpoint()
    assert METRIC not in before.metrics
    learner.epoch()
    first = finished(learner.checkpoint())
    learner.epoch()
    later = learner.checkpoint()
    assert finished(later).version == first.version
    assert later.metrics[METRIC] == later.metrics["history"][0][METRIC]
    assert any(not torch.equal(later.state[f"raw.{n}"], w) for n, w in first.weights.items())
    assert set(later.calibration) == {"h1"}


def _work(rank: int, num_workers: int, stage: Stage, bank: PairBank, place: Path) -> None:
    """One of several workers that meet in a folder; each has every n-th person."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{place / 'meeting'}", rank=rank, world_size=num_workers
    )
    people = set(sorted(stage.train_patients | stage.validation_patients)[rank::num_workers])
    own = [
        part.of_patients(people) if people & set(part.frame["patient_id"]) else None
        for part in stage.parts(bank)
    ]
    learner = Learner(
        stage,
        Resident(stage, Plans.of(stage, bank), *own),
        rank=rank,
        world=num_workers,
        wrap=lambda model: DistributedDataParallel(model, broadcast_buffers=False),
    )
    while not learner.finished:
        learner.epoch()
    finished(learner.checkpoint()).save(place / str(rank))
    torch.distributed.destroy_process_group()


def _by_workers(
    num_workers: int, stage: Stage, bank: PairBank, place: Path, processes: ForkServerContext
) -> list[Checkpoint]:
    """What each of several workers has in the end."""
    workers = [
        processes.Process(target=_work, args=(rank, num_workers, stage, bank, place), daemon=True)
        for rank in range(num_workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert worker.exitcode == 0
    return [Checkpoint.load(place / str(rank)) for rank in range(num_workers)]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [2, 3])
def test_any_number_of_workers_trains_the_same_model(
    bank: PairBank, tmp_path: Path, imported: ForkServerContext, num_workers: int
) -> None:
    # The last batch holds one bag, and all workers but one have none of it. With a search the
    # epochs of so small a model are alike, and any may be the best.
    training = replace(TRAINING, batch_size=31)
    stage = _stage(training, replace(FORM, search_positions=0))
    assert Plans.of(stage, bank).train.num_bags % training.batch_size == 1
    one = train(stage, bank)
    several = _by_workers(num_workers, stage, bank, tmp_path, imported)
    assert len({checkpoint.version for checkpoint in several}) == 1
    for first, second in zip(one.metrics["history"], several[0].metrics["history"], strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], abs=1e-4)
        assert first[METRIC] == pytest.approx(second[METRIC], abs=5e-3)
    for name, value in one.weights.items():
        torch.testing.assert_close(value, several[0].weights[name], rtol=0, atol=2e-3)


def test_a_fixed_model_has_one_validation_auc_on_any_workers(
    bank: PairBank, tmp_path: Path, imported: ForkServerContext
) -> None:
    fixed = _stage(replace(TRAINING, learning_rate=1e-30, max_epochs=1, averaging=0.0))
    one = train(fixed, bank)
    for of in _by_workers(2, fixed, bank, tmp_path, imported):
        assert of.metrics[METRIC] == pytest.approx(one.metrics[METRIC], abs=1e-6)
        losses = [checkpoint.metrics["history"][0]["train_loss"] for checkpoint in (one, of)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_schedule_counts_the_steps_of_all_epochs(
    bank: PairBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Enough steps for a warm-up of several.
    stage = _stage(replace(TRAINING, batch_size=1))
    seen: list[float] = []

    def step(self: Learner, batch: object, size: int, learning_rate: float) -> torch.Tensor:
        seen.append(learning_rate)
        return torch.zeros(())

    monkeypatch.setattr(Learner, "step", step)
    learner = _learner(stage, bank)
    for _ in range(2):
        learner.epoch()
    assert seen[0] < seen[1] < seen[2]
    assert seen == [
        learning_rate_at(number, len(seen), stage.training) for number in range(len(seen))
    ]


def test_time_spent_waiting_is_a_share(bank: PairBank) -> None:
    line = _learner(_stage(TRAINING), bank).epoch()
    assert 0 < line["wait_share"] < 1
    assert line["bags_per_s"] > 0


@pytest.mark.slow
def test_a_compiled_run_trains_the_same_model(
    bank: PairBank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The graph is captured as always; generating code for it would take a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled = _learner(_stage(replace(TRAINING, compile=True, max_epochs=1)), bank)
    plain = _learner(_stage(replace(TRAINING, max_epochs=1)), bank)
    assert compiled.epoch()["train_loss"] == pytest.approx(plain.epoch()["train_loss"], rel=1e-4)
    assert compiled.checkpoint().weights.keys() == plain.checkpoint().weights.keys()

    # Fine-tuning goes through the search.
    parent = finished(plain.checkpoint())
    stage = replace(_stage(TRAINING, parent.config), parent=str(parent.save(tmp_path / "parent")))
    assert parent.build().search.is_weighted
    losses = [
        _learner(replace(stage, training=replace(TRAINING, compile=compile)), bank).epoch()
        for compile in (False, True)
    ]
    assert losses[0]["train_loss"] == pytest.approx(losses[1]["train_loss"], rel=1e-4)


def test_precision_follows_the_device() -> None:
    assert precision_on(torch.device("cpu"), "auto") == "float32"
    assert precision_on(torch.device("cpu"), "bfloat16") == "bfloat16"
