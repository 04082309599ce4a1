"""Supplies: workers together have every bag of a global batch once, from their own pairs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from homnet.bags.draw import BagConfig, PairBank, with_parts
from homnet.bags.epochs import Batch
from homnet.errors import DataError
from homnet.model.network import HomNetConfig, best_form
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet.training.supply import Plans, Resident

TableOf = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def bank(table_of: TableOf) -> PairBank:
    """Six files of one patient each."""
    table = table_of("h1", num_patients=6, chromosomes=("1", "7", "8", "13"))
    files = [table.filter(pc.equal(table["patient_id"], f"h1-p{n}")) for n in range(6)]
    return PairBank.from_table(pa.concat_tables(map(with_parts, files, range(6))))


def _stage(**training: object) -> Stage:
    settings = TrainingConfig(bags=BagConfig(num_cells=3), batch_size=7, **training)  # type: ignore[arg-type]
    patients = [f"h1-p{n}" for n in range(6)]
    return Stage("s", HomNetConfig(), settings, frozenset(patients[:5]), frozenset(patients[5:]))


def _workers(stage: Stage, bank: PairBank, world: int) -> list[Resident]:
    """A supply for each worker, with the parts that are dealt to it."""
    plans, (train, validation) = Plans.of(stage, bank), stage.parts(bank)
    found = []
    for rank in range(world):
        own = []
        for part, plan in ((train, plans.train), (validation, plans.validation)):
            mine = plan.part_Q[plan.worker_Q(world) == rank]
            keep = part.frame["part"].isin(mine).to_numpy()
            own.append(part._where(keep) if keep.any() else None)
        found.append(Resident(stage, plans, *own))
    return found


def _bags(batch: Batch) -> set[bytes]:
    return {
        b"".join(
            value[bag].numpy().tobytes()
            for value in (batch.x_BKPCL, batch.mask_BK, batch.level_BK, batch.label_B)
        )
        for bag in range(len(batch.label_B))
    }


@pytest.mark.parametrize("labels", ["artificial", "cohort"])
@pytest.mark.parametrize("window_pairs", [40, 1000])
def test_workers_together_have_the_batches_of_one(
    bank: PairBank, window_pairs: int, labels: str
) -> None:
    stage = _stage(window_pairs=window_pairs, labels=labels)
    whole = list(Resident.of(stage, bank).batches(1, 0))
    assert len(whole) == (6 if window_pairs == 1000 else 8)
    assert sum(size for _, size in whole) == 5 * 4 * 2
    for world in (2, 3, 8):
        several = [list(one.batches(1, 0)) for one in _workers(stage, bank, world)]
        for step, (batch, size) in enumerate(whole):
            shares = [own[step] for own in several]
            assert [share[1] for share in shares] == [size] * world
            there = [_bags(share) for share, _ in shares if share is not None]
            assert batch is not None
            assert sum(map(len, there)) == len(batch.label_B) == size
            assert set().union(*there) == _bags(batch)


def test_an_epoch_goes_on_at_any_step(bank: PairBank) -> None:
    supply = Resident.of(_stage(window_pairs=40), bank)
    whole = list(supply.batches(2, 0))
    for first in range(len(whole) + 1):
        rest = list(supply.batches(2, first))
        assert len(rest) == len(whole) - first
        for (one, size), (other, expected) in zip(rest, whole[first:], strict=True):
            assert size == expected
            assert one is not None
            assert other is not None
            assert torch.equal(one.x_BKPCL, other.x_BKPCL)


def test_templates_are_of_the_first_window(bank: PairBank) -> None:
    form = best_form(64)
    for window_pairs, files in ((40, 2), (1000, 5)):
        stage = replace(_stage(window_pairs=window_pairs), model=form)
        model = form.build()
        total = Resident.of(stage, bank).template_sums(model)
        assert total is not None
        assert total[:, -1].sum() == files * 16
        parts = [own.template_sums(model) for own in _workers(stage, bank, 3)]
        added = torch.stack([part for part in parts if part is not None]).sum(0)
        torch.testing.assert_close(added, total)
        turns = replace(stage, training=replace(stage.training, epochs_per_pass=2))
        own = Resident.of(turns, bank).template_sums(model)
        assert own is not None
        torch.testing.assert_close(own, total)
    assert Resident.of(_stage(), bank).template_sums(HomNetConfig().build()) is None


def test_other_pairs_than_those_of_the_plan_are_refused(bank: PairBank) -> None:
    stage = _stage()
    plans, (train, validation) = Plans.of(stage, bank), stage.parts(bank)
    fewer = train._where(np.arange(len(train)) > 0)
    with pytest.raises(DataError, match="changed while it was read"):
        Resident(stage, plans, fewer, validation)
    with pytest.raises(DataError, match="changed while it was read"):
        Resident(stage, plans, validation, validation)
