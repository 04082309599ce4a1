"""Learning: what the loss is of, that it teaches, that it resumes, and what it calibrates."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank
from homnet.errors import ConfigError, DataError
from homnet.karyotype.kinds import SHOWN
from homnet.model.checkpoint import Checkpoint
from homnet.reader.learning import ReaderLearner, ReaderStage, learn
from homnet.reader.lessons import ReaderTraining, batches, draw_lessons
from homnet.reader.loss import loss_of, place_of_share
from homnet.reader.network import Reader, ReaderConfig
from homnet.reader.truth import with_segments
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import healthy
from homnet.training.optimisation import TrainingConfig

TRAINING = ReaderTraining(
    TrainingConfig(
        learning_rate=4e-3,
        batch_size=16,
        max_epochs=2,
        labels="cohort",
        schedule="cosine",
        averaging=0.9,
        bags=BagConfig(num_cells=4),
        validation_rounds=1,
    )
)


@pytest.fixture(scope="module")
def bank(rearranged: pa.Table) -> PairBank:
    return PairBank.from_table(rearranged)


def _stage(
    bank: PairBank, parent: Path, training: ReaderTraining = TRAINING, num_people: int = 45
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


def test_lessons_hide_cells_and_thin_the_normal_bags(bank: PairBank) -> None:
    training = dataclasses.replace(TRAINING, max_normal_share=0.25)
    lessons = draw_lessons(bank, training, 0, 0)
    normal = ~lessons.epoch.label_B
    assert 0 < normal.mean() <= 0.26
    sizes = lessons.epoch.bags.mask_BK.sum(axis=1)
    assert set(sizes) == {1, 2, 3, 4}
    nothing = ~lessons.targets.abnormal_BK.any(axis=1)
    assert (lessons.targets.kind_B[nothing] == SHOWN.index("none")).all()
    assert not lessons.targets.abnormal_BK[~lessons.epoch.bags.mask_BK].any()
    again = draw_lessons(bank, training, 0, 0)
    np.testing.assert_array_equal(again.epoch.bags.row_BK, lessons.epoch.bags.row_BK)
    other = draw_lessons(bank, training, 1, 0)
    assert not np.array_equal(other.epoch.bags.row_BK, lessons.epoch.bags.row_BK)


def test_places_of_shares() -> None:
    share = torch.tensor([0.0, 1e-6, 0.5, 1.0 - 1e-6, 1.0])
    assert place_of_share(share, 8).tolist() == pytest.approx([0, 1, 4.5, 8, 9])


def test_the_loss_counts_only_what_is_known(bank: PairBank, form: object) -> None:
    reader = ReaderConfig(model=form, width=16).build()  # type: ignore[arg-type]
    lessons = draw_lessons(bank, TRAINING, 0, 0).take(np.arange(12))
    ((batch, targets),) = batches(lessons, DeviceBank(bank, "cpu"), 12)
    reading = reader.read(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
    parts = loss_of(reading, batch, targets)
    assert all(torch.isfinite(part) and part > 0 for part in parts.values())
    # Unknown kinds and segments leave their parts at zero.
    blind = dataclasses.replace(
        targets,
        kind_B=np.full_like(targets.kind_B, -1),
        segment_B2=np.full_like(targets.segment_B2, np.nan),
        homolog_BK=np.full_like(targets.homolog_BK, -1),
        abnormal_BK=np.ones_like(targets.abnormal_BK),
    )
    unknown = loss_of(reading, batch, blind)
    assert [unknown[n].item() for n in ("kind", "segment", "cell")] == [0] * 3
    # What a masked cell would have said makes no difference.
    hidden = dataclasses.replace(reading, cell_BKX=reading.cell_BKX.clone())
    hidden.cell_BKX[~batch.mask_BK] = 100.0
    assert torch.equal(loss_of(hidden, batch, targets)["cell"], parts["cell"])


def test_it_learns_what_is_easy(bank: PairBank, parent: Path) -> None:
    training = dataclasses.replace(
        TRAINING, optimiser=dataclasses.replace(TRAINING.optimiser, max_epochs=5)
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


@pytest.mark.parametrize("started", [False, True])
def test_resuming_equals_going_on(
    bank: PairBank, parent: Path, tmp_path: Path, started: bool
) -> None:
    stage = dataclasses.replace(_stage(bank, parent), provenance={"parent": _version(parent)})
    if started:
        other = dataclasses.replace(TRAINING.optimiser, max_epochs=1, seed=1)
        training = dataclasses.replace(TRAINING, optimiser=other)
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
    bank: PairBank, parent: Path, tmp_path: Path
) -> None:
    checkpoint = learn(_stage(bank, parent), bank)
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


def test_learning_goes_on_from_another_reader(bank: PairBank, parent: Path, tmp_path: Path) -> None:
    stage = dataclasses.replace(_stage(bank, parent), provenance={"parent": _version(parent)})
    first = learn(stage, bank)
    path = str(first.save(tmp_path / "first"))
    still = dataclasses.replace(TRAINING.optimiser, learning_rate=1e-12, max_epochs=1)
    again = dataclasses.replace(
        stage, start=path, training=dataclasses.replace(TRAINING, optimiser=still)
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


def test_artificial_events_teach_too(parent: Path) -> None:
    people = [simulate_person(5, healthy(), number, 2.0) for number in range(6)]
    bank = PairBank.from_table(with_segments(pa.concat_tables(people)))
    settings = dataclasses.replace(TRAINING.optimiser, labels="artificial", max_epochs=1)
    ids = sorted(set(bank.frame["patient_id"]))
    stage = dataclasses.replace(
        _stage(bank, parent, dataclasses.replace(TRAINING, optimiser=settings)),
        train_patients=frozenset(ids[2:]),
        validation_patients=frozenset(ids[:2]),
    )
    checkpoint = learn(stage, bank)
    assert np.isfinite(checkpoint.metrics["validation_loss"])


def test_what_cannot_be_learnt_is_refused(bank: PairBank, parent: Path) -> None:
    stage = _stage(bank, parent)
    with pytest.raises(DataError, match="is in both training and validation"):
        dataclasses.replace(stage, validation_patients=stage.train_patients)
    normal = dataclasses.replace(bank, frame=bank.frame.assign(abnormal=False))
    with pytest.raises(DataError, match="have no abnormal bag"):
        ReaderLearner(stage, normal)
    with pytest.raises(ConfigError, match="fewest_cells must be 1"):
        dataclasses.replace(TRAINING, fewest_cells=5)
