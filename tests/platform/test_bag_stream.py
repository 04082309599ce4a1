"""Streamed bags: the same batches as from pairs in memory, and every file read once an epoch."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from homnet.bags.draw import BagConfig, PairBank, rows_of_file
from homnet.bags.plan import Plan
from homnet.cohorts.cohort import Cohort, CohortFile, write_cohort
from homnet.cohorts.pairs import SCHEMA, SINGLE_HOMOLOG, pairs_of
from homnet.errors import CohortError, DataError
from homnet.model.network import best_form
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet.training.supply import Plans, Resident
from homnet_platform import bag_stream
from homnet_platform.bag_stream import Streamed, plans_of

TableOf = Callable[..., pa.Table]
PEOPLE = [f"h1-p{n}" for n in range(8)]


def _with_flags(table: pa.Table) -> pa.Table:
    """The second homolog of type 8 is missing in a cell of each patient, and the rows say so."""
    single = pc.and_(pc.equal(table["chromosome"], "8"), pc.equal(table["cell_id"], "c0"))
    pair = pairs_of(table).copy()
    pair[single.to_numpy(), 1] = 0
    quality = [
        {"straightness": 1.0, "width_variation": 0.0, "flags": [SINGLE_HOMOLOG] if one else []}
        for one in single.to_pylist()
    ]
    columns = {
        "pair": pa.array([p.tobytes() for p in pair], SCHEMA.field("pair").type),
        "quality": pa.array(quality, SCHEMA.field("quality").type),
    }
    for name, column in columns.items():
        table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
    return table


@pytest.fixture(params=[False, True], ids=["no flags", "flags"])
def cohort(request: pytest.FixtureRequest, tmp_path: Path, table_of: TableOf) -> Cohort:
    """Four files of two patients."""
    table = table_of("h1", num_patients=8, chromosomes=("1", "7", "8", "13"), abnormal="7")
    if request.param:
        table = _with_flags(table)
    two = [pa.array(PEOPLE[n : n + 2]) for n in (0, 2, 4, 6)]
    tables = [table.filter(pc.is_in(table["patient_id"], people)) for people in two]
    return write_cohort(tmp_path / "cohort", tables, scale={"h1": 3.0}, provenance={})


_BANKS: dict[str, PairBank] = {}
"""Pairs of the cohorts of this process, by fingerprint."""


def _bank(cohort: Cohort) -> PairBank:
    if cohort.fingerprint not in _BANKS:
        tables = [rows_of_file(cohort, number) for number in range(len(cohort.files))]
        _BANKS[cohort.fingerprint] = PairBank.from_table(pa.concat_tables(tables))
    return _BANKS[cohort.fingerprint]


def _stage(**training: Any) -> Stage:
    settings = TrainingConfig(
        **{"bags": BagConfig(num_cells=3), "batch_size": 7, "window_pairs": 70, **training}
    )
    form = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
    # Two files have people of both.
    people = {"train_patients": frozenset(PEOPLE[:5]), "validation_patients": frozenset(PEOPLE[5:])}
    return Stage(name="s", model=form, training=settings, **people)


class _Shard:
    """Rows of one worker, as Ray Data hands them over."""

    def __init__(self, rows: Iterator[pa.Table]) -> None:
        self._rows = rows

    def iter_torch_batches(self, *, collate_fn: Any, **_: Any) -> Iterator[Any]:
        return map(collate_fn, self._rows)


def _rows(
    cohort: Cohort, stage: Stage, plans: Plans, world: int, rank: int, at: tuple[int, int] = (0, 0)
) -> Iterator[pa.Table]:
    for item in bag_stream.window_items(stage, plans, lambda: at):
        batch = pa.table({name: [value] for name, value in item.items()})
        of_window = bag_stream.assemble(batch, cohort=cohort, stage=stage, plans=plans, world=world)
        yield from (row for row in of_window if row["worker"][0].as_py() == rank)


def _streamed(
    cohort: Cohort, stage: Stage, world: int, rank: int, at: tuple[int, int] = (0, 0)
) -> Streamed:
    bank = _bank(cohort)
    plans = Plans.of(stage, bank)
    shard: Any = _Shard(_rows(cohort, stage, plans, world, rank, at))
    device = torch.device("cpu")
    return Streamed(stage, plans, stage.parts(bank)[1], shard, rank=rank, device=device)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("labels", "few"), [("artificial", 1000), ("cohort", 1000), ("cohort", 0)])
def test_plans_are_those_of_pairs_in_memory(
    cohort: Cohort, labels: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bag_stream, "_FEW_PAIRS", few)  # with more, tasks count
    stage = _stage(labels=labels)
    found, expected = plans_of(cohort, stage), Plans.of(stage, _bank(cohort))
    for one, other in ((found.train, expected.train), (found.validation, expected.validation)):
        for name in Plan.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_without_pairs_is_refused(cohort: Cohort) -> None:
    nobody = replace(_stage(), validation_patients=frozenset({"h9-p0"}))
    with pytest.raises(DataError, match="no pair is left of the validation patients"):
        plans_of(cohort, nobody)


@pytest.mark.parametrize(
    "training",
    [
        pytest.param({}, id="artificial"),
        pytest.param({"labels": "cohort"}, id="cohort"),
        pytest.param({"bags": BagConfig(num_cells=3, over="people", rounds=2)}, id="people"),
        pytest.param({"window_pairs": 1000}, id="one window"),
    ],
)
@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_streamed_batches_are_those_of_pairs_in_memory(
    cohort: Cohort, training: dict[str, Any], world: int
) -> None:
    stage = _stage(max_epochs=2, **training)
    held = Resident.of(stage, _bank(cohort))
    supplies = [_streamed(cohort, stage, world, rank) for rank in range(world)]
    for epoch in range(2):
        shares = zip(*(supply.batches(epoch, 0) for supply in supplies), strict=True)
        for (expected, size), of_workers in zip(held.batches(epoch, 0), shares, strict=True):
            assert expected is not None
            assert [share[1] for share in of_workers] == [size] * world
            batches = [share[0] for share in of_workers if share[0] is not None]
            for name in vars(expected):
                together = torch.cat([getattr(batch, name) for batch in batches])
                assert torch.equal(together, getattr(expected, name)), name


def test_a_worker_without_a_gpu_pins_no_memory(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The node may have GPUs all the same.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pytest.fail("pinned"))
    assert next(_streamed(cohort, _stage(), 1, 0).batches(0, 0))


def test_a_stream_goes_on_at_any_step(cohort: Cohort) -> None:
    stage = _stage(max_epochs=2)
    held = Resident.of(stage, _bank(cohort))
    steps = [len(list(held.batches(epoch, 0))) for epoch in range(2)]
    for epoch in range(2):
        for first in range(steps[epoch]):
            streamed = _streamed(cohort, stage, 2, 1, at=(epoch, first))
            rest = list(streamed.batches(epoch, first))
            assert len(rest) == steps[epoch] - first
            if epoch == 0:
                assert len(list(streamed.batches(1, 0))) == steps[1], "and with the next epoch"


def test_an_epoch_reads_every_file_once(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = _stage(max_epochs=3, window_pairs=40)
    plans = Plans.of(stage, _bank(cohort))
    read: list[str] = []
    whole = Cohort.read

    def counted(self: Cohort, file: CohortFile | None = None, columns: Any = None) -> pa.Table:
        assert file is not None
        read.append(file.path)
        return whole(self, file, columns)

    monkeypatch.setattr(Cohort, "read", counted)
    num_rows = len(list(_rows(cohort, stage, plans, 2, 0)))
    assert num_rows == sum(
        sum(stage.steps(plans.train, stage.windows(plans.train, epoch))) for epoch in range(3)
    )
    of_training = [cohort.files[n].path for n in np.unique(plans.train.file_Q)]
    assert len(of_training) == 3, "the fourth has validation patients only"
    assert sorted(read) == sorted(3 * of_training)


@pytest.mark.parametrize(("resident", "files"), [(True, [0, 1, 2, 3]), (False, [2, 3])])
def test_only_files_with_pairs_that_stay_are_read_for_them(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, resident: bool, files: list[int]
) -> None:
    monkeypatch.setattr(bag_stream, "in_blocks", lambda items: items)
    stage = _stage()
    plans = Plans.of(stage, _bank(cohort))
    dealt = bag_stream.ToWorkers(cohort, stage, plans, resident=resident)
    made = dealt.datasets(lambda: (0, 0))
    assert [item["file"] for item in made[bag_stream.PAIRS]()] == files
    assert (bag_stream.BAGS in made) == (not resident)


@pytest.mark.parametrize("turns", [1, 2])
def test_the_template_comes_with_the_first_batch(cohort: Cohort, turns: int) -> None:
    stage = _stage(epochs_per_pass=turns)
    model = stage.model.build()
    expected = Resident.of(stage, _bank(cohort)).template_sums(model)
    streamed = [_streamed(cohort, stage, 2, rank) for rank in range(2)]
    sums = [one.template_sums(model) for one in streamed]
    assert expected is not None
    assert sums[0] is not None
    torch.testing.assert_close(sums[0], expected)
    assert sums[1] is None, "workers add their sums"
    assert len(list(streamed[1].batches(0, 0))) == len(list(streamed[0].batches(0, 0)))


def test_rows_of_another_worker_or_step_are_refused(cohort: Cohort) -> None:
    stage = _stage()
    plans = Plans.of(stage, _bank(cohort))
    wrong: Any = _Shard(_rows(cohort, stage, plans, 2, 1))
    make = functools.partial(Streamed, stage, plans, None, device=torch.device("cpu"))
    with pytest.raises(DataError, match="gave worker 0 a row of worker 1"):
        next(make(wrong, rank=0).batches(0, 0))
    late: Any = _Shard(_rows(cohort, stage, plans, 2, 0, at=(0, 1)))
    with pytest.raises(DataError, match="batch 0 of epoch 0 was expected and batch 1"):
        next(make(late, rank=0).batches(0, 0))


def test_every_pair_goes_to_one_worker(cohort: Cohort) -> None:
    stage = _stage()
    plans = Plans.of(stage, _bank(cohort))
    for world in (1, 3):
        seen = {"train": 0, "validation": 0}
        for number in range(len(cohort.files)):
            batch = pa.table({"file": [number]})
            run = {"cohort": cohort, "stage": stage, "plans": plans, "world": world}
            rows = list(bag_stream._deal_pairs(batch, **run, train=True))
            assert [row["worker"][0].as_py() for row in rows] == list(range(world))
            for row in rows:
                for name in seen:
                    table = pa.ipc.open_stream(row[name][0].as_py()).read_all()
                    both = pairs_of(table)[:, 1].any(axis=(1, 2)) if table.num_rows else []
                    seen[name] += int(np.sum(both))
        expected = {"train": plans.train.num_pairs, "validation": plans.validation.num_pairs}
        assert seen == expected


def test_a_file_that_is_gone_is_named(cohort: Cohort) -> None:
    (cohort.root / cohort.files[1].path).unlink()
    with pytest.raises(CohortError, match=r"pairs-00001\.parquet"):
        bag_stream._index(cohort, 1)
