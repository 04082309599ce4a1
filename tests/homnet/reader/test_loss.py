"""What the loss counts, and the temperatures that it is least at."""

import dataclasses

import numpy as np
import pytest
import torch

from homnet.bags.draw import PairBank
from homnet.bags.epochs import DeviceBank
from homnet.model.network import HomNetConfig
from homnet.reader.lessons import ReaderTraining, batches, draw_lessons
from homnet.reader.loss import WEIGHTS, Part, calibrate, loss_of, means, place_of_share
from homnet.reader.network import ReaderConfig, Reading
from homnet.reader.truth import Targets


def test_places_of_shares() -> None:
    share = torch.tensor([0.0, 1e-6, 0.5, 1.0 - 1e-6, 1.0])
    assert place_of_share(share, 8).tolist() == pytest.approx([0, 1, 4.5, 8, 9])


def test_the_loss_counts_only_what_is_known(
    bank: PairBank, training: ReaderTraining, form: HomNetConfig
) -> None:
    reader = ReaderConfig(model=form, width=16).build()
    lessons = draw_lessons(bank, training, 0, 0).take(np.arange(12))
    ((batch, targets),) = batches(lessons, DeviceBank(bank, "cpu"), 12)
    reading = reader.read(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
    parts = loss_of(reading, targets, batch.mask_BK)
    assert all(torch.isfinite(part.mean) and part.mean > 0 for part in parts.values())
    # Unknown kinds and segments leave their parts at zero.
    blind = dataclasses.replace(
        targets,
        kind_B=np.full_like(targets.kind_B, -1),
        segment_B2=np.full_like(targets.segment_B2, np.nan),
        homolog_BK=np.full_like(targets.homolog_BK, -1),
        abnormal_BK=np.ones_like(targets.abnormal_BK),
    )
    unknown = loss_of(reading, blind, batch.mask_BK)
    assert [unknown[n].mean.item() for n in ("kind", "segment", "cell")] == [0] * 3
    # What a masked cell would have said makes no difference.
    hidden = dataclasses.replace(reading, cell_BKX=reading.cell_BKX.clone())
    hidden.cell_BKX[~batch.mask_BK] = 100.0
    assert loss_of(hidden, targets, batch.mask_BK)["cell"].total == parts["cell"].total


def test_parts_of_batches_add_up(
    bank: PairBank, training: ReaderTraining, form: HomNetConfig
) -> None:
    reader = ReaderConfig(model=form, width=16).build().eval()
    lessons = draw_lessons(bank, training, 0, 0).take(np.arange(12))

    def parts(size: int) -> dict[str, torch.Tensor]:
        found = [
            loss_of(
                reader.read(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK),
                targets,
                batch.mask_BK,
            )
            for batch, targets in batches(lessons, DeviceBank(bank, "cpu"), size)
        ]
        return {
            name: torch.stack([torch.stack(tuple(each[name])) for each in found]).sum(dim=0)
            for name in WEIGHTS
        }

    with torch.no_grad():
        whole, cut = parts(12), parts(5)
    for name in WEIGHTS:
        torch.testing.assert_close(whole[name], cut[name], atol=1e-3, rtol=1e-3)


def test_means_are_weighted() -> None:
    parts = {name: Part(torch.tensor(6.0), torch.tensor(3)) for name in WEIGHTS}
    found = means(parts)
    assert found["kind"] == 2
    assert found["loss"].item() == pytest.approx(2 * sum(WEIGHTS.values()))


def test_temperatures_undo_overconfidence() -> None:
    generator = torch.Generator().manual_seed(0)
    num, factor = 4000, 3.0
    logit_NX = 2 * torch.randn(num, 8, generator=generator)
    kind_N = torch.multinomial(logit_NX.softmax(dim=1), 1, generator=generator).flatten()
    reading = Reading(
        kind_BX=factor * logit_NX,
        segment_B2G=torch.zeros(num, 2, 10),
        cell_BKX=torch.zeros(num, 1, 3),
        first_cell_BKX=torch.zeros(num, 1, 3),
        extent_BKPL=torch.zeros(num, 1, 2, 8),
    )
    targets = Targets(
        kind_B=kind_N.numpy(),
        segment_B2=np.full((num, 2), np.nan),
        abnormal_BK=np.zeros((num, 1), bool),
        homolog_BK=np.full((num, 1), -1),
        extent_BK2=np.full((num, 1, 2), np.nan),
    )
    halves = [
        dataclasses.replace(reading, **{n: t[part] for n, t in vars(reading).items()})
        for part in (slice(0, 1500), slice(1500, None))
    ]
    found = calibrate(halves, targets, torch.zeros(num, 1, dtype=torch.bool))
    assert found["kind"] == pytest.approx(factor, rel=0.1)
    # No cell and no place is known.
    assert found["segment"] == found["cell"] == 1.0
