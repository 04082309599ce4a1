"""Any model that keeps the contract is trained, kept and calibrated by the code for HomNet."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import nn

from homnet.bags.draw import BagConfig, PairBank
from homnet.errors import CheckpointError
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import BagModel
from homnet.training.learning import METRIC, Learner, train
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet.training.supply import Resident

TableOf = Callable[..., pa.Table]


class _Lengths(BagModel):
    """Weighs lengths; its loss counts what it is asked."""

    def __init__(self, form: "_LengthsForm") -> None:
        super().__init__()
        self.weight = nn.Linear(1, 1)
        self.frozen = nn.Linear(1, 1)
        self.register_buffer("longest", torch.zeros(()))
        self.scale = form.scale

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        length_BKP = (x_BKPCL != 0).any(dim=3).sum(dim=-1).float() / self.longest
        difference_BK = (length_BKP[..., 0] - length_BKP[..., 1]).abs() * mask_BK
        logit: torch.Tensor = self.weight(self.scale * difference_BK.sum(1)[:, None]).squeeze(1)
        return logit + 0 * self.frozen(logit[:, None]).squeeze(1)

    def loss(self, logit_B: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
        return ((logit_B - label_B) ** 2).sum()

    def profiles(self, pair_NPCL: torch.Tensor) -> torch.Tensor:
        return (pair_NPCL != 0).any(dim=2).sum(dim=-1).float()

    def set_template(self, mean_TL: torch.Tensor) -> None:
        self.longest = mean_TL.max()

    def freeze_for_fine_tuning(self) -> None:
        self.frozen.requires_grad_(requires_grad=False)


@dataclass(frozen=True)
class _LengthsForm:
    scale: float = 1.0

    def build(self) -> BagModel:
        return _Lengths(self)


def test_another_model_goes_the_whole_way(table_of: TableOf, tmp_path: Path) -> None:
    bank = PairBank.from_table(table_of(num_patients=8, abnormal="3"))
    patients = sorted(bank.frame["patient_id"].unique())
    stage = Stage(
        name="lengths",
        model=_LengthsForm(scale=2.0),
        training=TrainingConfig(
            learning_rate=0.05, batch_size=64, max_epochs=6, bags=BagConfig(num_cells=3)
        ),
        train_patients=frozenset(patients[:5]),
        validation_patients=frozenset(patients[5:]),
    )
    trained = train(stage, bank)
    assert trained.metrics[METRIC] > 0.7
    assert trained.weights["longest"] > 0
    assert set(trained.calibration) == {"h1"}
    path = trained.save(tmp_path / "checkpoint")
    loaded = Checkpoint.load(path, _LengthsForm)
    assert loaded.config == _LengthsForm(scale=2.0)
    assert loaded.version == trained.version
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint.load(path)  # the form of another model

    tuned = train(
        replace(
            stage,
            training=replace(stage.training, labels="cohort", max_epochs=1),
            parent=str(path),
        ),
        bank,
    )
    assert torch.equal(tuned.weights["frozen.weight"], trained.weights["frozen.weight"])
    assert not torch.equal(tuned.weights["weight.weight"], trained.weights["weight.weight"])


def test_another_model_resumes(table_of: TableOf, tmp_path: Path) -> None:
    bank = PairBank.from_table(table_of(num_patients=4))
    patients = sorted(bank.frame["patient_id"].unique())
    stage = Stage(
        name="lengths",
        model=_LengthsForm(),
        training=TrainingConfig(max_epochs=2, batch_size=32),
        train_patients=frozenset(patients[:3]),
        validation_patients=frozenset(patients[3:]),
    )
    learner = Learner(stage, Resident.of(stage, bank))
    learner.epoch()
    learner.checkpoint().save(tmp_path / "kept")
    resumed = train(stage, bank, kept=tmp_path / "kept")
    assert resumed.version == train(stage, bank).version
    assert len(resumed.metrics["history"]) == 2


def test_the_loss_is_that_of_the_model(table_of: TableOf) -> None:
    """Squared errors of logits near 0 and 1, not a cross-entropy of at least .5."""
    bank = PairBank.from_table(table_of(num_patients=4))
    patients = sorted(bank.frame["patient_id"].unique())
    stage = Stage(
        name="lengths",
        model=_LengthsForm(),
        training=TrainingConfig(learning_rate=0.1, max_epochs=30, batch_size=32),
        train_patients=frozenset(patients[:3]),
        validation_patients=frozenset(patients[3:]),
    )
    losses = [line["train_loss"] for line in train(stage, bank).metrics["history"]]
    assert losses[-1] < 0.3
