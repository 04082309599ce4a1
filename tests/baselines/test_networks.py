"""Networks: shapes, what reaches them, and the Siamese loss."""

import dataclasses

import numpy as np
import pytest
import torch

from homnet.bags.draw import PairBank
from homnet.bags.epochs import Batch, DeviceBank
from homnet.training.optimisation import TrainingConfig, make_optimizer, train_step
from homnet_baselines.backbones import BACKBONES
from homnet_baselines.networks import NetworkForm, SiameseForm

FORMS = [
    *(NetworkForm(name, view, 4) for name in BACKBONES for view in ("absolute", "stretched")),
    *(SiameseForm(backbone=name, view="stretched", width=3) for name in BACKBONES),
]


@pytest.fixture(scope="module")
def batch(bank: PairBank, stage_of) -> Batch:
    stage = stage_of(FORMS[0])
    return DeviceBank(bank, "cpu").load(stage.train_epoch(bank.normal(), 0)).batch(slice(0, 16))


def inputs(batch: Batch) -> tuple[torch.Tensor, ...]:
    return batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_weight_learns_and_every_input_is_seen(form, bank: PairBank, batch: Batch) -> None:
    torch.manual_seed(0)
    model = form.build()
    normal = bank.normal()
    types = torch.tensor(normal.frame["chromosome"].to_numpy())
    model.fit_template(torch.tensor(normal.pair_NPCL), types)
    model.loss(model(*inputs(batch)), batch.label_B).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer = make_optimizer(model, TrainingConfig())
    train_step(
        model,
        optimizer,
        batch,
        learning_rate=1e-3,
        clip_norm=1.0,
        loss_scale=1 / 16,
        loss_of=model.loss,
    )
    # Still in training mode: running means of batch normalisation say nothing yet.
    paler = batch.x_BKPCL.clone()
    paler[:, :, :, 1, :40] //= 2  # of the right chromatids only
    with torch.no_grad():
        before = model(*inputs(batch))
        for changed in (
            dataclasses.replace(batch, chromosome_B=(batch.chromosome_B + 1) % 24),
            dataclasses.replace(batch, level_BK=(batch.level_BK + 1) % 4),
            dataclasses.replace(batch, x_BKPCL=paler),
        ):
            assert (model(*inputs(changed)) - before).abs().max() > 1e-6


def test_the_template_is_the_mean_profile_of_the_type(bank: PairBank) -> None:
    model = NetworkForm("MLP-Mixer", "stretched", 4).build()
    types = torch.tensor(bank.frame["chromosome"].to_numpy())
    pairs = torch.tensor(bank.pair_NPCL)
    model.fit_template(pairs, types)
    own = pairs[types == types[0]]
    expected = torch.stack([model.sequences(pair[None])[0][0].mean(dim=(0, 1)) for pair in own])
    np.testing.assert_allclose(model.template_TS[types[0]], expected.mean(dim=0), atol=1e-5)
    assert not model.template_TS[0].any()  # no such pair


def test_siamese_loss_pulls_normal_pairs_together_and_abnormal_ones_apart() -> None:
    model = SiameseForm(margin=2.0, width=2).build()
    distance = torch.tensor([0.5, 0.5, 3.0, 3.0])
    label = torch.tensor([0.0, 1.0, 0.0, 1.0])
    each = [float(model.loss(d[None] - 1.0, y[None])) for d, y in zip(distance, label, strict=True)]
    assert each == pytest.approx([0.25, 2.25, 9.0, 0.0])
    assert float(model.loss(distance - 1.0, label)) == pytest.approx(sum(each))


def test_equal_homologs_are_at_distance_zero(batch: Batch) -> None:
    model = SiameseForm(width=3, margin=2.0).build().eval()
    same = dataclasses.replace(batch, x_BKPCL=batch.x_BKPCL[:, :, :1].repeat(1, 1, 2, 1, 1))
    with torch.no_grad():
        np.testing.assert_allclose(model(*inputs(same)), -1.0, atol=2e-3)
