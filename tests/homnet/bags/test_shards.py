"""Shards and windows: every patient has one worker, and the bags do not depend on the workers."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank
from homnet.bags.shards import MemorySource, Residency, Shard, shards, windows
from homnet.errors import DataError
from homnet.model.network import HomNetConfig
from homnet.seeding import generator
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage

TableOf = Callable[..., pa.Table]
CPU = torch.device("cpu")


@pytest.fixture
def bank(table_of: TableOf) -> PairBank:
    """Seven patients of 5 to 35 pairs."""
    tables = [
        table_of(f"h{n}", num_patients=1, num_cells=n + 1, chromosomes=("1", "2", "13", "14", "21"))
        for n in range(7)
    ]
    return PairBank.from_table(pa.concat_tables(tables))


def test_every_patient_has_one_worker_and_loads_are_even(bank: PairBank) -> None:
    for num_workers in (1, 2, 3):
        held = shards(bank.index, num_workers)
        assert sum(len(names) for names in held) == 7
        assert frozenset().union(*held) == set(bank.frame["patient_id"])
        loads = [len(bank.of_patients(names)) for names in held]
        assert max(loads) - min(loads) <= 10, "the smallest patients even it out"
    assert [len(names) for names in shards(bank.index, 9)].count(0) == 2


def test_windows_hold_whole_patients_in_random_order(bank: PairBank) -> None:
    first, again, other = (windows(bank.index, 50, generator(seed)) for seed in (1, 1, 2))
    assert [w.patients for w in first] == [w.patients for w in again] != [w.patients for w in other]
    assert len(first) > 2
    for one in first:
        patients = bank.frame["patient_id"].to_numpy()[one.row_N]
        assert set(patients) == one.patients
        assert len(one.row_N) <= 50
        assert (np.diff(one.row_N) > 0).all()
    assert sorted(np.concatenate([w.row_N for w in first])) == list(range(len(bank)))
    (whole,) = windows(bank.index, 140, generator(1))
    assert len(whole.row_N) == 140


def test_a_patient_larger_than_a_window_is_one_alone(bank: PairBank) -> None:
    sizes = {len(w.row_N) for w in windows(bank.index, 8, generator(0))}
    assert sizes == {5, 10, 15, 20, 25, 30, 35}


def _stage(**training: object) -> Stage:
    patients = frozenset(f"h{n}-p0" for n in range(7))
    settings = TrainingConfig(bags=BagConfig(num_cells=3), **training)  # type: ignore[arg-type]
    return Stage("s", HomNetConfig(), settings, patients, frozenset({"nobody"}))


@pytest.mark.parametrize("window_pairs", [45, 1000])
@pytest.mark.parametrize("resident", [True, False])
def test_workers_together_assemble_the_bags_of_one(
    bank: PairBank, window_pairs: int, resident: bool
) -> None:
    """Darkness, not only numbers: each worker gathers from its own pairs what one would gather."""
    stage = _stage(window_pairs=window_pairs)
    index = bank.index
    parts = stage.train_windows(index, 0)
    epochs = [stage.train_epoch(index, 0, part) for part in parts]
    everything = DeviceBank(bank, CPU)
    for world in (1, 2, 3, 9):
        seen = [np.zeros(len(epoch), np.int64) for epoch in epochs]
        residency = Residency(split=True, resident=resident)
        for rank in range(world):
            shard = Shard(
                MemorySource(bank), index, residency=residency, rank=rank, world=world, device=CPU
            )
            for number, held in enumerate(shard.banks(parts)):
                mine = np.nonzero(shard.worker_of_bags(epochs[number]) == rank)[0]
                seen[number][mine] += 1
                if held is None or not len(mine):
                    assert not len(mine)
                    continue
                own = held.load(epochs[number], mine).batch(slice(None))
                expected = everything.load(epochs[number], mine).batch(slice(None))
                places = own.mask_BK
                assert torch.equal(own.mask_BK, expected.mask_BK)
                assert torch.equal(own.x_BKPCL[places], expected.x_BKPCL[places])
                assert torch.equal(own.level_BK[places], expected.level_BK[places])
                assert torch.equal(own.label_B, expected.label_B)
        assert all((count == 1).all() for count in seen), "every bag has one worker"


def test_bags_of_people_are_dealt_out_and_everybody_is_held(bank: PairBank) -> None:
    stage = _stage()
    people = replace(stage.training, bags=BagConfig(num_cells=3, over="people"))
    stage = replace(stage, training=people)
    (part,) = stage.train_windows(bank.index, 0)
    epoch = stage.train_epoch(bank.index, 0, part)
    residency = Residency.of(len(bank), people.bags, num_workers=2, memory_gib=1)
    assert residency == Residency(split=False, resident=True)
    for rank in range(2):
        shard = Shard(
            MemorySource(bank), bank.index, residency=residency, rank=rank, world=2, device=CPU
        )
        (held,) = shard.banks([part])
        assert held is not None
        assert len(held.pair_NPCL) == len(bank)
        assert (shard.worker_of_bags(epoch) == np.arange(len(epoch)) % 2).all()


def test_sizes_decide_what_stays() -> None:
    bags = BagConfig()
    pairs = 2**20  # 2 GiB
    assert Residency.of(pairs, bags, num_workers=1, memory_gib=2.0).resident
    assert not Residency.of(pairs, bags, num_workers=1, memory_gib=1.9).resident
    assert Residency.of(pairs, bags, num_workers=2, memory_gib=1.0).resident
    mixed = Residency.of(pairs, BagConfig(over="people"), num_workers=2, memory_gib=1.0)
    assert not mixed.resident
    assert "1,048,576 pairs (2.00 GiB)" in mixed.describe(pairs, 1000, 2)
    assert "streams all pairs in windows of 1,000" in mixed.describe(pairs, 1000, 2)


def test_a_source_that_gives_other_pairs_is_refused(bank: PairBank, table_of: TableOf) -> None:
    other = PairBank.from_table(table_of("h1", num_patients=1, num_cells=1))
    shard = Shard(
        MemorySource(other),
        bank.index.of_patients(["h1-p0"]),
        residency=Residency(split=True, resident=True),
        rank=0,
        world=1,
        device=CPU,
    )
    with pytest.raises(DataError, match="changed while it was read"):
        list(shard.banks(windows(bank.index, 1000, generator(0))))


def test_donors_are_of_the_same_person(bank: PairBank) -> None:
    """Even where a cell lacks the type: else a shard would not hold what its bags need."""
    thin = bank._where(np.random.default_rng(0).random(len(bank)) < 0.6)
    stage = _stage()
    (part,) = stage.train_windows(thin.index, 0)
    epoch = stage.train_epoch(thin.index, 0, part)
    assert epoch.events is not None
    patient = thin.frame["patient_id"].to_numpy()
    mask_BK = epoch.bags.mask_BK
    own, donor = patient[epoch.bags.row_BK], patient[epoch.events.donor_row_BK]
    assert (own == donor)[mask_BK].all()
    cells = thin.frame["cell_id"].to_numpy()
    elsewhere = cells[epoch.bags.row_BK] != cells[epoch.events.donor_row_BK]
    assert elsewhere[mask_BK].any()


def test_bags_of_neighbouring_windows_share_nobody(bank: PairBank) -> None:
    parts = windows(bank.index, 45, generator(3))
    for one, other in pairwise(parts):
        assert not one.patients & other.patients
