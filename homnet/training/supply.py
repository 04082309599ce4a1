"""The pairs of one worker of a training run, and its share of every global batch.

A run draws the same global batches whether the pairs stay on the workers' devices
(:class:`Resident`) or are streamed to them as bags, and on any number of workers.

Shape suffixes: N pairs, B bags, Q parts, T chromosome types, X values of a template.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from homnet.bags.draw import PairBank
from homnet.bags.epochs import Batch, DeviceBank, empty_batch
from homnet.bags.plan import Plan
from homnet.errors import DataError
from homnet.model.contract import BagModel
from homnet.training.stage import Stage


@dataclass(frozen=True)
class Plans:
    """The order of a run's training and validation bags."""

    train: Plan
    validation: Plan

    @classmethod
    def of(cls, stage: Stage, bank: PairBank) -> "Plans":
        """The plans of pairs in memory.

        Raises:
            DataError: there is nothing to train on or to validate with.
        """
        train, validation = stage.parts(bank)
        return cls(Plan.of(train, stage.training.bags), Plan.of(validation, stage.validation_bags))

    @property
    def num_pairs(self) -> int:
        """Number of pairs of training and validation."""
        return self.train.num_pairs + self.validation.num_pairs


class Supply(Protocol):
    """What one worker trains and validates on."""

    @property
    def plans(self) -> Plans:
        """The order of all bags."""

    @property
    def validation(self) -> "Held":
        """This worker's validation pairs."""

    def batches(self, epoch: int, first_step: int) -> Iterator[tuple[Batch | None, int]]:
        """This worker's share of each global batch of an epoch, and the size of that batch.

        Args:
            epoch: number of the epoch.
            first_step: number of its first batch.

        Returns:
            A batch on the worker's device, or None where this worker has no bag.
        """

    def template_sums(self, model: BagModel) -> torch.Tensor | None:
        """:meth:`BagModel.template_sums` over the normal pairs of :meth:`Stage.first_window`.

        None if the model has no template, or if this worker has none of these pairs. Workers add
        their sums.
        """


def no_sums(model: BagModel, device: torch.device | str = "cpu") -> torch.Tensor | None:
    """:meth:`BagModel.template_sums` over no pair: zeros, or None if the form needs none."""
    some = empty_batch(1, torch.device(device))
    found_TX = model.template_sums(some.x_BKPCL[:, 0], some.chromosome_B)
    return None if found_TX is None else torch.zeros_like(found_TX)


@dataclass(frozen=True)
class Held:
    """The pairs of some parts of a plan, in the memory of one worker."""

    plan: Plan
    """All parts."""
    bank: PairBank | None
    """The pairs of this worker's parts; None if it has none."""
    place_Q: NDArray[np.int64]
    """Places in the plan of the parts of ``bank``, in its order."""

    @classmethod
    def of(cls, plan: Plan, bank: PairBank | None) -> "Held":
        """Checks that the pairs are those of the plan.

        Raises:
            DataError: a part is not in the plan, or has another number of pairs.
        """
        if bank is None:
            return cls(plan, None, np.zeros(0, np.int64))
        place_Q = pd.Index(plan.part_Q).get_indexer(pd.Index(bank.codes.part_Q))
        num_pairs_Q = np.diff(bank.codes.edge_Q)
        if (place_Q < 0).any() or not np.array_equal(plan.pairs_Q[place_Q], num_pairs_Q):
            raise DataError("the cohort was changed while it was read; make it again")
        return cls(plan, bank, place_Q)

    def of_window(self, part_Q: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """This worker's parts of a window.

        Args:
            part_Q: places of the window's parts in the plan.

        Returns:
            Places of these parts in ``bank.codes``, in the order of the window, and the number of
            each of their bags among all bags of the window.
        """
        local = np.full(len(self.plan), -1)
        local[self.place_Q] = np.arange(len(self.place_Q))
        here_Q = np.flatnonzero(local[part_Q] >= 0)
        bags_Q = self.plan.bags_Q[part_Q]
        first_Q = np.cumsum(bags_Q) - bags_Q
        numbers = [np.arange(first_Q[q], first_Q[q] + bags_Q[q]) for q in here_Q]
        return local[part_Q[here_Q]], np.concatenate([np.zeros(0, np.int64), *numbers])


class Resident:
    """A supply whose pairs stay on the worker's device."""

    def __init__(
        self,
        stage: Stage,
        plans: Plans,
        train: PairBank | None,
        validation: PairBank | None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Moves a worker's training pairs to its device.

        Args:
            stage: what to train.
            plans: the order of all bags.
            train: training pairs of this worker's parts; None if it has none.
            validation: its validation pairs.
            device: device of the worker.

        Raises:
            DataError: the pairs are not those of the plans.
        """
        self.plans, self._stage, self._device = plans, stage, torch.device(device)
        self.validation = Held.of(plans.validation, validation)
        self._train = Held.of(plans.train, train)
        self._bank = None if train is None else DeviceBank(train, device)

    @classmethod
    def of(cls, stage: Stage, bank: PairBank, device: torch.device | str = "cpu") -> "Resident":
        """All pairs of a run, for a single worker.

        Raises:
            DataError: there is nothing to train on or to validate with.
        """
        return cls(stage, Plans.of(stage, bank), *stage.parts(bank), device)

    def batches(self, epoch: int, first_step: int) -> Iterator[tuple[Batch | None, int]]:
        """See :meth:`Supply.batches`."""
        plan, size = self.plans.train, self._stage.training.batch_size
        windows = self._stage.windows(plan, epoch)
        first = 0
        for window, num_steps in zip(windows, self._stage.steps(plan, windows), strict=True):
            if first + num_steps > first_step:
                order_B = self._stage.order(plan, window, epoch)
                own_Q, number_B = self._train.of_window(window.part_Q)
                place_B = np.empty_like(order_B)
                place_B[order_B] = np.arange(len(order_B))
                used_B = np.argsort(place_B[number_B])
                edges = np.arange(num_steps + 1) * size
                cuts = np.searchsorted(place_B[number_B][used_B], edges)
                loaded = None
                if self._bank is not None and len(used_B):
                    assert self._train.bank is not None
                    drawn = self._stage.train_epoch(self._train.bank, epoch, own_Q)
                    loaded = self._bank.load(drawn.take(used_B))
                for step in range(max(first_step - first, 0), num_steps):
                    own = slice(int(cuts[step]), int(cuts[step + 1]))
                    batch = loaded.batch(own) if loaded and own.start < own.stop else None
                    yield batch, min(size, len(order_B) - step * size)
            first += num_steps

    def template_sums(self, model: BagModel) -> torch.Tensor | None:
        """See :meth:`Supply.template_sums`."""
        first = self._stage.first_window(self.plans.train)
        own_Q, _ = self._train.of_window(first.part_Q)
        if self._bank is None or not len(own_Q):
            return None
        assert self._train.bank is not None
        normal_N = self._train.bank.codes.rows(own_Q, normal=True)
        row_N = torch.as_tensor(normal_N, device=self._device)
        return model.template_sums(self._bank.pair_NPCL[row_N], self._bank.chromosome_N[row_N])
