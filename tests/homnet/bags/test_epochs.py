"""Epochs: the same bags from the same seed, on a device as in the bank."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank, Epoch, draw_epoch, empty_batch
from homnet.bags.events import EventConfig

BAGS = BagConfig(num_cells=3)


@pytest.fixture
def bank(table_of: Callable[..., pa.Table]) -> PairBank:
    table = table_of(num_patients=4, num_cells=5, chromosomes=("1", "9", "13"), abnormal="9")
    return PairBank.from_table(table)


def _artificial(bank: PairBank, seed: int = 0, number: int = 0) -> Epoch:
    return draw_epoch(bank, BAGS, EventConfig(), seed=seed, epoch=number)


def test_seed_and_epoch_decide(bank: PairBank) -> None:
    bank = bank.normal()
    rows = _artificial(bank).bags.row_BK
    np.testing.assert_array_equal(_artificial(bank).bags.row_BK, rows)
    for change in ({"seed": 1}, {"number": 1}):
        assert not np.array_equal(_artificial(bank, **change).bags.row_BK, rows), change


def test_labels_of_the_cohort(bank: PairBank) -> None:
    epoch = draw_epoch(bank, BAGS, None, seed=0, epoch=0)
    assert epoch.events is None
    described = epoch.describe(bank)
    assert described["abnormal"].tolist() == epoch.label_B.tolist()
    assert set(described["kind"][epoch.label_B]) == {"deletion"}
    assert set(described["chromosome"][epoch.label_B]) == {"9"}
    assert described["event_fraction"].isna().all()


def test_artificial_events_are_described_in_megabases(bank: PairBank) -> None:
    epoch = _artificial(bank.normal())
    described = epoch.describe(bank.normal())
    whole = described["kind"].isin(["robertsonian", "wrong_pair"])
    sized = described["abnormal"] & ~whole
    assert described.loc[~sized, ["event_fraction", "size_mb"]].isna().all(axis=None)
    length_mb = (described["size_mb"] / described["event_fraction"])[sized]
    assert length_mb.round(6).groupby(described["chromosome"]).nunique().max() == 1
    assert 200 < length_mb[described["chromosome"] == "1"].iloc[0] < 270


def test_a_batch_holds_the_pairs_of_its_bags(bank: PairBank) -> None:
    epoch = draw_epoch(bank, BAGS, None, seed=0, epoch=0)
    loaded = DeviceBank(bank, "cpu").load(epoch)
    batches = list(loaded.batches(7))
    assert [len(batch.label_B) for batch in batches][:-1] == [7] * (len(batches) - 1)
    assert sum(len(batch.label_B) for batch in batches) == len(loaded) == len(epoch)
    batch = batches[1]
    rows = epoch.bags.row_BK[7:14]
    np.testing.assert_array_equal(batch.x_BKPCL.numpy(), bank.pair_NPCL[rows])
    np.testing.assert_array_equal(batch.level_BK.numpy(), bank.frame["band"].to_numpy()[rows])
    np.testing.assert_array_equal(batch.label_B.numpy(), epoch.label_B[7:14])


def test_an_empty_batch_has_a_bag_without_a_pair() -> None:
    batch = empty_batch(4, torch.device("cpu"))
    assert batch.x_BKPCL.shape == (1, 4, 2, 2, 512)
    assert not batch.mask_BK.any()
