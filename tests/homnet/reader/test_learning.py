"""Learning: that it teaches, that it resumes, and what it refuses."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import PairBank
from homnet.bags.epochs import DeviceBank
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.reader.learning import ReaderLearner, ReaderStage, learn
from homnet.reader.lessons import ReaderTraining, batches
from homnet.reader.loss import WEIGHTS
from homnet.reader.network import Reader, ReaderConfig
from homnet.reader.truth import with_segments
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import healthy


def _stage(
    bank: PairBank, parent: Path, training: ReaderTraining, num_people: int = 45
) -> ReaderStage:
    people = sorted(set(bank.frame["patient_id"]))[:num_people]
    return ReaderStage(
        parent=str(parent),
        width=16,
        training=training,
        train_patients=frozenset(people[30:]),
        validation_patients=frozenset(people[:30]),
        provenance={"made by": "test"},
    )


@pytest.mark.slow
def test_it_learns_what_is_easy(bank: PairBank, parent: Path, training: ReaderTraining) -> None:
    training = dataclasses.replace(
        training, optimiser=dataclasses.replace(training.optimiser, max_epochs=5)
    )
    stage = _stage(bank, parent, training, num_people=150)
    learner = ReaderLearner(stage, bank)
    while not learner.finished:
        learner.epoch()
    lessons = learner._lessons
    reader = learner.checkpoint().build()
    assert isinstance(reader, Reader)
    right, pairs = [], []
    with torch.no_grad():
        for batch, targets in batches(
            lessons, DeviceBank(bank.of_patients(stage.validation_patients), "cpu"), 64
        ):
            reading = reader.read(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
            right += (reading.kind_BX.argmax(1).numpy() == targets.kind_B).tolist()
            named = reading.cell_BKX[..., 1:].argmax(-1).numpy()
            of = targets.abnormal_BK
            pairs += (named[of] == targets.homolog_BK[of]).tolist()
    # Three kinds, one of them none; homologs stand in random slots.
    assert np.mean(right) > 0.55
    assert np.mean(pairs) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("started", [False, True])
def test_resuming_equals_going_on(
    bank: PairBank, parent: Path, tmp_path: Path, started: bool, training: ReaderTraining
) -> None:
    stage = dataclasses.replace(
        _stage(bank, parent, training), provenance={"parent": _version(parent)}
    )
    if started:
        other = dataclasses.replace(training.optimiser, max_epochs=1, seed=1)
        training = dataclasses.replace(training, optimiser=other)
        begun = learn(dataclasses.replace(stage, training=training), bank)
        stage = dataclasses.replace(stage, start=str(begun.save(tmp_path / "begun")))
    whole = learn(stage, bank)
    first = ReaderLearner(stage, bank)
    first.epoch()
    first.checkpoint().save(tmp_path / "last")
    resumed = learn(stage, bank, kept=tmp_path / "last")
    assert resumed.version == whole.version
    assert resumed.metrics == whole.metrics


def test_a_checkpoint_holds_all_that_is_needed(
    bank: PairBank, parent: Path, tmp_path: Path, training: ReaderTraining
) -> None:
    checkpoint = learn(_stage(bank, parent, training), bank)
    checkpoint.save(tmp_path / "reader")
    loaded = Checkpoint.load(tmp_path / "reader", ReaderConfig.of_json)
    assert loaded.version == checkpoint.version
    assert set(loaded.metrics["calibration"]) == {"kind", "segment", "cell"}
    assert all(0.1 < value < 21 for value in loaded.metrics["calibration"].values())
    assert loaded.provenance == {"made by": "test"}
    below = Checkpoint.load(parent)
    assert all(
        torch.equal(loaded.weights[f"homnet.{name}"], tensor)
        for name, tensor in below.weights.items()
    )


@pytest.mark.slow
def test_learning_goes_on_from_another_reader(
    bank: PairBank, parent: Path, tmp_path: Path, training: ReaderTraining
) -> None:
    stage = dataclasses.replace(
        _stage(bank, parent, training), provenance={"parent": _version(parent)}
    )
    first = learn(stage, bank)
    path = str(first.save(tmp_path / "first"))
    still = dataclasses.replace(training.optimiser, learning_rate=1e-12, max_epochs=1)
    again = dataclasses.replace(
        stage, start=path, training=dataclasses.replace(training, optimiser=still)
    )
    # Next to no step was made: it is the reader of before.
    assert learn(again, bank).metrics["validation_loss"] == pytest.approx(
        first.metrics["validation_loss"], abs=1e-4
    )
    with pytest.raises(ConfigError, match="is of another width or stands on another HomNet"):
        ReaderLearner(dataclasses.replace(again, width=32), bank)
    dataclasses.replace(first, provenance={"parent": "another"}).save(tmp_path / "first")
    with pytest.raises(ConfigError, match="stands on another HomNet"):
        ReaderLearner(again, bank)


def _version(path: Path) -> str:
    return Checkpoint.load(path).version


def test_artificial_events_teach_too(parent: Path, training: ReaderTraining) -> None:
    people = [simulate_person(5, healthy(), number, 2.0) for number in range(6)]
    bank = PairBank.from_table(with_segments(pa.concat_tables(people)))
    settings = dataclasses.replace(training.optimiser, labels="artificial", max_epochs=1)
    ids = sorted(set(bank.frame["patient_id"]))
    stage = dataclasses.replace(
        _stage(bank, parent, dataclasses.replace(training, optimiser=settings)),
        train_patients=frozenset(ids[2:]),
        validation_patients=frozenset(ids[:2]),
    )
    checkpoint = learn(stage, bank)
    assert np.isfinite(checkpoint.metrics["validation_loss"])


def test_what_cannot_be_learnt_is_refused(
    bank: PairBank, parent: Path, training: ReaderTraining
) -> None:
    stage = _stage(bank, parent, training)
    with pytest.raises(DataError, match="is in both training and validation"):
        dataclasses.replace(stage, validation_patients=stage.train_patients)
    for people in (stage.train_patients, stage.validation_patients):
        kept = bank.frame["abnormal"] & ~bank.frame["patient_id"].isin(people)
        normal = dataclasses.replace(bank, frame=bank.frame.assign(abnormal=kept))
        with pytest.raises(DataError, match=f"none of the bags of {len(people)} patients is"):
            learn(stage, normal)


def test_the_validation_loss_does_not_depend_on_the_batch_size(
    bank: PairBank, parent: Path, training: ReaderTraining
) -> None:
    lines = []
    for batch_size in (5, 1000):
        optimiser = dataclasses.replace(training.optimiser, batch_size=batch_size)
        training = dataclasses.replace(training, optimiser=optimiser)
        lines.append(ReaderLearner(_stage(bank, parent, training), bank)._validate()[0])
    assert set(lines[0]) == {f"validation_{n}" for n in ("loss", *WEIGHTS)}
    assert lines[0] == pytest.approx(lines[1], rel=1e-4)


def test_a_run_is_not_continued_from_a_checkpoint_that_lacks_a_weight(
    bank: PairBank, parent: Path, training: ReaderTraining
) -> None:
    stage = _stage(bank, parent, training)
    learner = ReaderLearner(stage, bank)
    learner.epoch()
    last = learner.checkpoint()
    # HomNet's weights are the parent's: they are left out on purpose.
    assert not any(name.startswith("raw.homnet.") for name in last.state)
    ReaderLearner(stage, bank, resumed=last)
    for missing in ("raw.enter.weight", "averaged.enter.weight"):
        state = {name: tensor for name, tensor in last.state.items() if name != missing}
        with pytest.raises(CheckpointError, match=r"of another model .*enter\.weight"):
            ReaderLearner(stage, bank, resumed=dataclasses.replace(last, state=state))
