"""Ray Data brings the pairs of a cohort to the workers of a training run.

Tasks of Ray Data read whole files. They send each worker either its pairs, once, or its share of
every global batch: the pairs and donors of its bags, and the maps of their events, which the worker
applies on its device. Ray splits a dataset by rows, so a task returns one row per worker for each
file or batch, each in a block of its own: worker r then gets row r of each, in order.

Shape suffixes: N pairs, B bags, K cells, Q parts, P homologs, C chromatids, L positions.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray.train
import torch
from numpy.typing import NDArray
from ray.data import DataIterator, Dataset, ExecutionOptions
from ray.data.collate_fn import ArrowBatchCollateFn
from ray.train import DataConfig

from homnet.bags.draw import PairBank, PairIndex, index_table, rows_of_file, with_parts
from homnet.bags.epochs import Batch, Epoch
from homnet.bags.events import EventTensors, rearrange, spread_of
from homnet.bags.plan import Plan, Window
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import PAIR_SHAPE, SCHEMA, SINGLE_HOMOLOG
from homnet.cohorts.summary import has_flag
from homnet.errors import DataError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.model.contract import BagModel
from homnet.training.stage import Stage
from homnet.training.supply import Held, Plans, Resident
from homnet_platform.data import files_of, in_blocks, ray_map, rows_of

READER_CPUS: Final = 1.0
"""CPUs of a task that reads; one must be free beside the workers."""
_FEW_PAIRS: Final = 200_000
"""Pairs that are counted in this process: a second of work, and starting a task takes several."""
PAIRS: Final = "pairs"
"""Name of the dataset of pairs that stay on the workers."""
BAGS: Final = "bags"
"""Name of the dataset of bags."""


def plans_of(cohort: Cohort, stage: Stage) -> Plans:
    """The plans of a run, from the columns without pairs; tasks read those of a large cohort.

    Raises:
        CohortError: a file is damaged.
        DataError: there is nothing to train on, or all validation bags have the same class.
    """
    files = files_of(cohort, stage.train_patients | stage.validation_patients)
    few = sum(cohort.files[n].num_pairs for n in files) <= _FEW_PAIRS
    count = functools.partial(_count, cohort=cohort, stage=stage)
    counted = list(map(count, files)) if few else ray_map(count, files)
    found = []
    for name in ("training", "validation"):
        of_files = [plans[name] for plans, _ in counted if name in plans]
        if not of_files:
            raise DataError(
                f"{stage.name}: no pair is left of the {name} patients: they have none with both "
                "homologs, or none normal"
            )
        found.append(Plan.concatenate(of_files))
    plans = Plans(*found)
    num_abnormal = sum(number for _, number in counted)
    stage.require_classes(np.arange(plans.validation.num_bags) < num_abnormal)
    return plans


def _count(number: int, *, cohort: Cohort, stage: Stage) -> tuple[dict[str, Plan], int]:
    """The plans of one file, and the number of its abnormal validation bags."""
    plans, num_abnormal = {}, 0
    for name, patients, bags in (
        ("training", stage.train_patients, stage.training.bags),
        ("validation", stage.validation_patients, stage.validation_bags),
    ):
        with contextlib.suppress(DataError):  # a file need not have such pairs
            index = stage.usable(_index(cohort, number))
            own = index.of_patients(patients)
            plans[name] = Plan.of(own, bags)
            if name == "validation":
                num_abnormal = int(stage.validation_epoch(own).label_B.sum())
    return plans, num_abnormal


def _index(cohort: Cohort, number: int) -> PairIndex:
    """The index of a file, without reading its pairs if the file says which homologs are single.

    Raises:
        CohortError: the file is damaged.
        DataError: there is no pair with both homologs.
    """
    entry = cohort.files[number]
    table = cohort.columns(entry, [name for name in SCHEMA.names if name != "pair"])
    if table["quality"].null_count:
        return PairIndex.from_table(index_table(rows_of_file(cohort, number)))
    single = has_flag(pc.struct_field(table["quality"], "flags"), SINGLE_HOMOLOG)
    both = pa.array(np.where(single.to_numpy(zero_copy_only=False), 0, 1))
    table = table.append_column("length_0", pa.array(np.ones(table.num_rows, np.int64)))
    return PairIndex.from_table(with_parts(table.append_column("length_1", both), number))


class ToWorkers(DataConfig):
    """Cuts the datasets of a training run for the number of workers that Train has started."""

    def __init__(self, cohort: Cohort, stage: Stage, plans: Plans, *, resident: bool) -> None:
        """Takes the run; unless it is ``resident``, the workers get bags, not training pairs."""
        super().__init__(
            execution_options=ExecutionOptions(preserve_order=True),
            # A split that prefers near blocks would mix up whose they are.
            enable_shard_locality=False,
        )
        self._cohort, self._stage, self._plans = cohort, stage, plans
        self._resident = resident

    def datasets(self, position: Callable[[], tuple[int, int]]) -> dict[str, Any]:
        """The datasets for the trainer; it makes them anew whenever it starts the workers.

        ``position`` returns the epoch and step at which the run then continues.
        """
        stage, plans = self._stage, self._plans
        kept = stage.validation_patients
        if self._resident:
            kept |= stage.train_patients
        files = [{"file": number} for number in files_of(self._cohort, kept)]
        made: dict[str, Any] = {PAIRS: lambda: in_blocks(files)}
        if not self._resident:
            made[BAGS] = lambda: in_blocks(window_items(stage, plans, position))
        return made

    def configure(
        self, datasets: dict[str, Dataset], world_size: int, *others: Any, **options: Any
    ) -> list[dict[str, DataIterator]]:
        """Adds the reading tasks; see the base class."""
        tasks: dict[str, Callable[..., Any]] = {
            PAIRS: functools.partial(_deal_pairs, train=self._resident),
            BAGS: assemble,
        }
        run = {"cohort": self._cohort, "stage": self._stage, "plans": self._plans}
        ready = {
            name: dataset.map_batches(
                cast(Any, functools.partial(tasks[name], **run, world=world_size)),
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=READER_CPUS,
            ).repartition(target_num_rows_per_block=1)
            for name, dataset in datasets.items()
        }
        if world_size > 1:
            return super().configure(ready, world_size, *others, **options)
        # One worker needs no coordinator, which would be a process more.
        for name, dataset in ready.items():
            dataset.set_name(name)
            dataset.context.execution_options = self._resolve_execution_options(name)
        return [{name: dataset.iterator() for name, dataset in ready.items()}]


def window_items(
    stage: Stage, plans: Plans, position: Callable[[], tuple[int, int]]
) -> list[dict[str, int]]:
    """Epoch and number of each window from a position on, its first step, and the steps to skip."""
    first_epoch, first_step = position()
    items = []
    for epoch in range(first_epoch, stage.training.max_epochs):
        start = 0
        windows = stage.windows(plans.train, epoch)
        for window, steps in zip(windows, stage.steps(plans.train, windows), strict=True):
            skipped = first_step - start if epoch == first_epoch else 0
            if skipped < steps:
                place = {"epoch": epoch, "window": window.number, "start": start}
                items.append({**place, "skipped": max(skipped, 0)})
            start += steps
    # A run that is already finished still opens its datasets.
    return items or [{"epoch": -1}]


def _table(cohort: Cohort, number: int, stage: Stage) -> pa.Table:
    """The rows of a file that suit the labels, with the columns of a bank."""
    table = rows_of_file(cohort, number).drop_columns(["quality", "iscn", "breakpoints"])
    return (
        table.filter(pc.invert(table["abnormal"]))
        if stage.training.labels == "artificial"
        else table
    )


def _deal_pairs(
    batch: Any, *, cohort: Cohort, stage: Stage, plans: Plans, world: int, train: bool
) -> Iterator[pa.Table]:
    """The pairs of a file for each worker, in a row for each."""
    table = _table(cohort, batch["file"][0].as_py(), stage)
    dealt = []
    for plan, patients, wanted in (
        (plans.train, stage.train_patients, train),
        (plans.validation, stage.validation_patients, True),
    ):
        own = rows_of(table, patients) if wanted else table.slice(0, 0)
        place_N = pd.Index(plan.part_Q).get_indexer(own["part"].to_numpy())
        # What is in no part has no usable pair.
        dealt.append((own, np.where(place_N < 0, -1, plan.worker_Q(world)[place_N])))
    for worker in range(world):
        yield pa.table(
            {"worker": [worker]}
            | {
                name: pa.array(
                    [_written(own.filter(pa.array(worker_N == worker)))], pa.large_binary()
                )
                for name, (own, worker_N) in zip(("train", "validation"), dealt, strict=True)
            }
        )


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def assemble(
    batch: Any, *, cohort: Cohort, stage: Stage, plans: Plans, world: int
) -> Iterator[pa.Table]:
    """The shares of a window's global batches, in a row for each worker."""
    if batch["epoch"][0].as_py() < 0:
        return
    epoch, number, start, skipped = (
        batch[name][0].as_py() for name in ("epoch", "window", "start", "skipped")
    )
    plan, size = plans.train, stage.training.batch_size
    window = stage.windows(plan, epoch)[number]
    bank, own_Q = _of_window(cohort, stage, plan, window)
    drawn = stage.train_epoch(bank, epoch, own_Q).take(stage.order(plan, window, epoch))
    sums = b""
    if epoch == number == skipped == 0:
        first = stage.first_window(plan)
        same = np.array_equal(first.part_Q, window.part_Q)
        sums = _sums(stage, *((bank, own_Q) if same else _of_window(cohort, stage, plan, first)))
    for step in range(skipped, -(-len(drawn) // size)):
        of_batch = drawn.take(slice(step * size, (step + 1) * size))
        for worker in range(world):
            cuts = (len(of_batch) * place // world for place in (worker, worker + 1))
            share = of_batch.take(slice(*cuts))
            content = {name: array.tobytes() for name, array in _content(bank, share).items()}
            content["template"] = sums
            yield pa.table(
                {
                    "worker": [worker],
                    "epoch": [epoch],
                    "step": [start + step],
                    "size": [len(of_batch)],
                    "num_bags": [len(share)],
                }
                | {name: pa.array([value], pa.large_binary()) for name, value in content.items()}
            )
        sums = b""


def _of_window(
    cohort: Cohort, stage: Stage, plan: Plan, window: Window
) -> tuple[PairBank, NDArray[np.int64]]:
    """The training pairs of a window's files, and the places of the window's parts in them."""
    bank = PairBank.from_table(
        pa.concat_tables(
            rows_of(_table(cohort, file, stage), stage.train_patients) for file in window.files
        )
    )
    return bank, Held.of(plan, bank).of_window(window.part_Q)[0]


def _sums(stage: Stage, bank: PairBank, own_Q: NDArray[np.int64]) -> bytes:
    row_N = bank.codes.rows(own_Q, normal=True)
    sums_TX = stage.model.build().template_sums(
        torch.from_numpy(bank.pair_NPCL[row_N]), torch.from_numpy(bank.codes.type_N[row_N])
    )
    return b"" if sums_TX is None else sums_TX.numpy().tobytes()


_OF_EVENTS: Final[Mapping[str, tuple[type, tuple[int, ...]]]] = {
    "homolog_BK": (np.uint8, (-1,)),
    "stop_BKQ": (np.int16, (-1, 3)),
    "origin_BKQ": (np.int16, (-1, 3)),
    "step_BKQ": (np.int16, (-1, 3)),
    "donor_BKQ": (np.bool_, (-1, 3)),
    "length_BK2": (np.int16, (-1, 2)),
    "seam_B": (np.float32, ()),
}
"""Data type of each array of :class:`homnet.bags.events.Events` that is sent, and its shape after
the bags; -1 stands for the cells."""
_CONTENT: Final[Mapping[str, tuple[type, tuple[int, ...]]]] = {
    "x_BKPCL": (np.uint8, (-1, *PAIR_SHAPE)),
    "mask_BK": (np.bool_, (-1,)),
    "level_BK": (np.uint8, (-1,)),
    "chromosome_B": (np.uint8, ()),
    "label_B": (np.float32, ()),
    "donor_BKCL": (np.uint8, (-1, *PAIR_SHAPE[1:])),
    **_OF_EVENTS,
}
"""The same for all arrays of a share; the donors and the events only if events are artificial."""
_INDICES: Final = ("chromosome_B", "level_BK", "homolog_BK")
"""Arrays that index others on the device, and travel as bytes."""


def _content(bank: PairBank, share: Epoch) -> dict[str, NDArray[Any]]:
    """The arrays of some bags, by name."""
    bags, events = share.bags, share.events
    found: dict[str, NDArray[Any]] = {
        "x_BKPCL": bank.pair_NPCL[bags.row_BK],
        "mask_BK": bags.mask_BK,
        "level_BK": bank.frame["band"].to_numpy()[bags.row_BK],
        "chromosome_B": bags.chromosome_B,
        "label_B": share.label_B,
    }
    if events is not None:
        found["donor_BKCL"] = bank.pair_NPCL[events.donor_row_BK, events.donor_homolog_BK]
        found |= {name: getattr(events, name) for name in _OF_EVENTS}
    return {name: array.astype(_CONTENT[name][0], copy=False) for name, array in found.items()}


@dataclass(frozen=True)
class _Share:
    """One worker's share of a global batch, in the memory of its host."""

    worker: int
    epoch: int
    step: int
    size: int
    """Bags of the global batch."""
    arrays: Mapping[str, torch.Tensor]
    """The arrays of its bags; none if it has no bag."""
    sums: NDArray[np.float64] | None
    """Sums of the template, with the first batch of a run."""

    def batch(self, device: torch.device) -> Batch | None:
        """The bags on a device, with their events applied."""
        if not self.arrays:
            return None
        at = {name: array.to(device, non_blocking=True) for name, array in self.arrays.items()}
        at |= {name: at[name].long() for name in _INDICES if name in at}
        if "donor_BKCL" in at:
            # Made on the host, which then need not wait for the device to know its width.
            at["spread_BW"] = torch.from_numpy(spread_of(self.arrays["seam_B"].numpy())).to(device)
            events = EventTensors(**{name: at[name] for name in EventTensors.__annotations__})
            at["x_BKPCL"] = rearrange(at["x_BKPCL"], at["donor_BKCL"], events)
        return Batch(**{name: at[name] for name in Batch.__annotations__})


class _Collate(ArrowBatchCollateFn):
    """Makes a share of a row, for a worker on a device."""

    def __init__(self, device: torch.device) -> None:
        # A worker without a GPU may be on a node with some, whose memory is not its own.
        self._pinned = device.type == "cuda"

    def __call__(self, batch: pa.Table) -> Any:
        """The share of a table of one row."""
        num_bags = batch["num_bags"][0].as_py()
        arrays = {}
        if num_bags:
            num_cells = len(batch["mask_BK"][0].as_buffer()) // num_bags
            for name, (kind, shape) in _CONTENT.items():
                if name in batch.column_names:
                    flat: NDArray[Any] = np.frombuffer(batch[name][0].as_buffer(), kind)
                    whole = [num_cells if size < 0 else size for size in shape]
                    # A copy: the row is read-only memory of the object store.
                    array = torch.tensor(flat.reshape(num_bags, *whole))
                    arrays[name] = array.pin_memory() if self._pinned else array
        sums = np.frombuffer(batch["template"][0].as_buffer(), np.float64)
        numbers = {name: batch[name][0].as_py() for name in ("worker", "epoch", "step", "size")}
        return _Share(**numbers, arrays=arrays, sums=sums if len(sums) else None)


class Streamed:
    """A supply whose training bags come from Ray Data, and whose validation pairs stay."""

    def __init__(
        self,
        stage: Stage,
        plans: Plans,
        validation: PairBank | None,
        shard: DataIterator,
        *,
        rank: int,
        device: torch.device,
    ) -> None:
        """Opens the stream of ``shard``, this worker's rows of the dataset of bags.

        ``validation`` holds the validation pairs of its parts; None if there are none.

        Raises:
            DataError: the pairs are not those of the plans.
        """
        self.plans, self._stage, self._device = plans, stage, device
        self._rank = rank
        self.validation = Held.of(plans.validation, validation)
        self._shares: Iterator[Any] = iter(
            shard.iter_torch_batches(batch_size=1, collate_fn=_Collate(device), prefetch_batches=2)
        )
        self._first: _Share | None = None

    def batches(self, epoch: int, first_step: int) -> Iterator[tuple[Batch | None, int]]:
        """See :meth:`homnet.training.supply.Supply.batches`."""
        windows = self._stage.windows(self.plans.train, epoch)
        for step in range(first_step, sum(self._stage.steps(self.plans.train, windows))):
            share = self._next()
            _require(share.worker, self._rank)
            if (share.epoch, share.step) != (epoch, step):
                raise DataError(
                    f"{self._stage.name}: batch {step} of epoch {epoch} was expected and batch "
                    f"{share.step} of epoch {share.epoch} came; repeat the command, which resumes"
                )
            yield share.batch(self._device), share.size

    def template_sums(self, model: BagModel) -> torch.Tensor | None:
        """See :meth:`homnet.training.supply.Supply.template_sums`."""
        self._first = self._next()
        sums = self._first.sums
        if sums is None or self._rank:
            return None  # every worker has the sums, and they are added
        return torch.tensor(sums).reshape(len(CHROMOSOMES), -1)

    def _next(self) -> _Share:
        share: _Share = self._first or next(self._shares)
        self._first = None
        return share


def supply(
    stage: Stage, plans: Plans, *, rank: int, device: torch.device, resident: bool
) -> Resident | Streamed:
    """What the worker ``rank`` trains and validates on; called by all workers of a run.

    If it is ``resident``, its training pairs stay on the device.

    Raises:
        CohortError: a file is damaged.
        DataError: the cohort was changed while it was read.
    """
    tables: dict[str, list[pa.Table]] = {"train": [], "validation": []}
    rows = ray.train.get_dataset_shard(PAIRS).iter_batches(batch_size=1, batch_format="pyarrow")
    for row in cast(Any, rows):
        _require(row["worker"][0].as_py(), rank)
        for name, found in tables.items():
            # A copy: views would keep all blocks in the object store.
            found.append(pa.ipc.open_stream(row[name][0].as_py()).read_all())
    train, validation = (_bank(found) for found in tables.values())
    if resident:
        return Resident(stage, plans, train, validation, device)
    shard = ray.train.get_dataset_shard(BAGS)
    return Streamed(stage, plans, validation, shard, rank=rank, device=device)


def _require(worker: int, rank: int) -> None:
    """Checks that a row of a dataset is for this worker.

    Raises:
        DataError: Ray has split the dataset in another way than it did when this was written.
    """
    if worker != rank:
        raise DataError(
            f"Ray Data gave worker {rank} a row of worker {worker}; use the versions of "
            "constraints.txt"
        )


def _bank(tables: Sequence[pa.Table]) -> PairBank | None:
    table = pa.concat_tables(tables)
    return PairBank.from_table(table) if table.num_rows else None
