"""One battery for all comparators: scores, symmetries, keeping, seeds, and an easy task."""

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import Batch, DeviceBank, Epoch, draw_epoch
from homnet.evaluation.metrics import evaluate
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.training.learning import METRIC
from homnet_baselines.fitted import fit
from homnet_baselines.floors import FloorForm
from homnet_baselines.methods import comparators, read_form
from homnet_baselines.networks import NetworkForm, SiameseForm
from homnet_baselines.one_class import OneClassForm

FORMS = comparators("best", width=4) | {
    "ResNet, absolute": NetworkForm("ResNet", "absolute", 4),
    "Siamese, absolute": SiameseForm(backbone="MobileNet", view="absolute", width=4),
    "AE, raw": OneClassForm("AE", "raw"),
}
LEAST = dict.fromkeys(FORMS, 0.9) | {
    "Length ratio": 0.75,  # inversions and replacements keep the length
    "ResNet, absolute": 0.8,
    "Siamese, absolute": 0.8,
    "AE, raw": 0.6,  # the paper's setting, near chance there
}
"""What every method must reach on the easy task: AUC of the validation people."""
LONG = {
    "ResNet, absolute",
    "Xception",
    "DenseNet",
    "ViT",
    "Siamese",
    "Siamese, absolute",
    "Deep-SVDD",
}
"""Methods that take longest to fit; the others stand for them in the quick tests."""
LEARNS_NOTHING = {"Length ratio", "Aligned correlation"}
LEARNS_NO_LABELS = {"OC-SVM", "Deep-SVDD", "AE", "AE, raw"}


def of_methods(*names: str) -> pytest.MarkDecorator:
    """Tries each method; its tests share a process, which fits it once."""
    slow = {name: [pytest.mark.slow] if name in LONG else [] for name in names}
    return pytest.mark.parametrize(
        "name",
        [pytest.param(n, marks=[pytest.mark.xdist_group(n), *slow[n]]) for n in names],
    )


@pytest.fixture(scope="session")
def fitted(bank: PairBank, stage_of):
    """Each method after the easy task, once for all tests."""
    return cache(lambda name: fit(stage_of(FORMS[name]), bank))


@pytest.fixture(scope="session")
def epoch(bank: PairBank, stage_of) -> Epoch:
    events = stage_of(FloorForm()).training.events
    return draw_epoch(bank, BagConfig(num_cells=3), events, seed=5, epoch=0)


@pytest.fixture(scope="session")
def batch(bank: PairBank, epoch: Epoch) -> Batch:
    return DeviceBank(bank, "cpu").load(epoch).batch(slice(0, 24))


def scores(checkpoint: Checkpoint, batch: Batch) -> np.ndarray:
    return Predictor(checkpoint.build(), checkpoint.calibration, version="").logits(batch)


@of_methods(*FORMS)
def test_an_easy_task_is_done_well(name: str, fitted) -> None:
    assert fitted(name).metrics[METRIC] >= LEAST[name]


@of_methods(*FORMS)
def test_scores_are_finite_for_any_number_of_cells(name: str, fitted, bank: PairBank) -> None:
    for num_cells in (1, 7):
        bags = draw_epoch(bank, BagConfig(num_cells=num_cells), None, seed=1, epoch=0)
        loaded = DeviceBank(bank, "cpu").load(bags)
        found = scores(fitted(name), loaded.batch(slice(0, 30)))
        assert found.shape == (30,)
        assert np.isfinite(found).all()
        assert len(np.unique(found)) > 20


@of_methods(*FORMS)
def test_order_of_cells_and_homologs_and_padding_change_nothing(
    name: str, fitted, batch: Batch
) -> None:
    checkpoint = fitted(name)
    expected = scores(checkpoint, batch)
    order = torch.tensor([2, 0, 1])
    permuted = dataclasses.replace(
        batch,
        x_BKPCL=batch.x_BKPCL[:, order],
        mask_BK=batch.mask_BK[:, order],
        level_BK=batch.level_BK[:, order],
    )
    swapped = dataclasses.replace(batch, x_BKPCL=batch.x_BKPCL.flip(2))
    garbage = torch.full_like(batch.x_BKPCL[:, :2], 77)
    padded = dataclasses.replace(
        batch,
        x_BKPCL=torch.cat([batch.x_BKPCL, garbage], dim=1),
        mask_BK=torch.nn.functional.pad(batch.mask_BK, (0, 2)),
        level_BK=torch.nn.functional.pad(batch.level_BK, (0, 2)),
    )
    assert np.ptp(expected) > 1e-3
    for changed in (permuted, swapped, padded):
        np.testing.assert_allclose(scores(checkpoint, changed), expected, rtol=1e-4, atol=1e-4)


@of_methods(*FORMS)
def test_what_is_saved_is_loaded(name: str, fitted, batch: Batch, tmp_path: Path) -> None:
    checkpoint = fitted(name)
    path = checkpoint.save(tmp_path / "checkpoint")
    assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}  # no pickle
    loaded = Predictor.load(path, form=read_form)
    assert loaded.version == checkpoint.version
    assert loaded.calibration == checkpoint.calibration
    assert Checkpoint.load(path, read_form).config == FORMS[name]
    np.testing.assert_array_equal(loaded.logits(batch), scores(checkpoint, batch))


@of_methods(*FORMS)
def test_the_seed_decides(name: str, bank: PairBank, stage_of) -> None:
    few = {"max_epochs": 1, "bags": BagConfig(num_cells=3), "validation_rounds": 1}
    one, same, other = (fit(stage_of(FORMS[name], seed=seed, **few), bank) for seed in (3, 3, 4))
    assert one.version == same.version
    assert one.metrics[METRIC] == same.metrics[METRIC]
    assert one.calibration == same.calibration
    assert (one.version == other.version) == (name in LEARNS_NOTHING)


@of_methods(*FORMS)
def test_fine_tuning_goes_on_from_the_parent(
    name: str, fitted, bank: PairBank, stage_of, tmp_path: Path
) -> None:
    parent = fitted(name)
    stage = dataclasses.replace(
        stage_of(FORMS[name], learning_rate=1e-5, max_epochs=1, seed=9),
        parent=str(parent.save(tmp_path / "parent")),
    )
    tuned = fit(stage, bank)
    fixed = LEARNS_NOTHING | LEARNS_NO_LABELS
    assert (tuned.version == parent.version) == (name in fixed)
    # A small step on the same task does not undo what was learnt.
    assert tuned.metrics[METRIC] > parent.metrics[METRIC] - 0.1


@of_methods("LR", "Deep-SVDD", "ResNet")
def test_batch_evaluation_takes_them_as_it_takes_homnet(
    name: str, fitted, bank: PairBank, epoch: Epoch, patients: list[str]
) -> None:
    checkpoint = fitted(name)
    predictor = Predictor(checkpoint.build(), checkpoint.calibration, version=checkpoint.version)
    frame = epoch.describe(bank).assign(split="test", bag=np.arange(len(epoch)))
    validation = frame["patients"].map(lambda people: people[0] in patients[9:])
    frame.loc[validation, "split"] = "validation"
    logit = predictor.loaded_logits(DeviceBank(bank, "cpu").load(epoch))
    frame["score"] = predictor.probabilities(logit, bank.frame["hospital"].iloc[0])
    measured = evaluate(frame, seed=0, num_bootstrap=0)
    assert measured["overall"]["metrics"]["auc"]["value"] > LEAST[name]
