"""Pairs, training batches, patients and passes that a device is timed with.

Shape suffixes: see :mod:`homnet.bags.events`.
"""

import copy
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from homnet.bags.epochs import Batch
from homnet.bags.events import EventTensors, apply_events, spread_of
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH
from homnet.model.contract import NUM_TYPES
from homnet.model.network import NUM_LEVELS, HomNet
from homnet.model.scoring import Precision, autocast, score_pairs
from homnet.model.search import FAMILIES
from homnet.training.optimisation import TrainingConfig, make_optimizer, train_step

BAGS_OF_PATIENT: Final = 23
"""Bags of a patient: one for each chromosome type but Y."""
_BAGS_OF_CALL: Final = 40 * BAGS_OF_PATIENT
_NUM_PAIRS: Final = 12_000


class Bank:
    """Pairs on the host and on the device, and bags with events.

    Pairs are noise as long as chromosomes: the time of a GPU does not depend on their content.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        batch_size: int,
        num_batches: int,
        num_cells: int,
        num_sent: int,
        seed: int,
    ) -> None:
        """Draws pairs and bags.

        Args:
            device: of the training batches.
            batch_size: bags per training batch.
            num_batches: number of training batches.
            num_cells: pairs per bag.
            num_sent: number of pairs on the host, for passes.
            seed: of all of it.
        """
        self.device, self.batch_size, self.num_cells = device, batch_size, num_cells
        rng = np.random.default_rng(seed)
        chromosome_N = np.arange(_NUM_PAIRS) % NUM_TYPES
        level_N = rng.integers(0, NUM_LEVELS, _NUM_PAIRS)
        # About as long as the types are at three samples per pixel.
        length_NP = np.linspace(400, 90, NUM_TYPES, dtype=np.int64)[chromosome_N][:, None]
        length_NP = length_NP + rng.integers(-30, 31, (_NUM_PAIRS, 2))
        inside_NPL = np.arange(SEQUENCE_LENGTH) < length_NP[..., None]
        noise = rng.integers(1, 256, (_NUM_PAIRS, 2, 2, SEQUENCE_LENGTH), np.uint8)
        pair_NPCL = noise * inside_NPL[:, :, None]
        shape_BK = (num_batches * batch_size, num_cells)
        type_B = rng.integers(0, NUM_TYPES, shape_BK[0])
        row_BK = rng.integers(0, _NUM_PAIRS // NUM_TYPES, shape_BK) * NUM_TYPES + type_B[:, None]
        self._sent = {
            name: torch.from_numpy(value).to(device)
            for name, value in {
                "pair": pair_NPCL,
                "level": level_N,
                "row": row_BK,
                "donor": rng.integers(0, (_NUM_PAIRS, 2), (*shape_BK, 2)),
                "chromosome": type_B,
                "label": rng.integers(0, 2, len(row_BK)).astype(np.float32),
            }.items()
        }
        self._events = _events(length_NP[row_BK, 0], rng, device)
        self.pair_NPCL = np.resize(pair_NPCL, (num_sent, *pair_NPCL.shape[1:]))
        self.chromosome_N = np.resize(chromosome_N, num_sent)
        self.level_N = np.resize(level_N, num_sent)

    def batch(self, bags: slice) -> Batch:
        """Bags with events, made on the device."""
        sent, row_BK = self._sent, self._sent["row"][bags]
        return Batch(
            x_BKPCL=apply_events(
                sent["pair"], row_BK, sent["donor"][bags], self._events.take(bags)
            ),
            mask_BK=torch.ones_like(row_BK, dtype=torch.bool),
            chromosome_B=sent["chromosome"][bags],
            level_BK=sent["level"][row_BK],
            label_B=sent["label"][bags],
        )


def _events(
    length_BK: NDArray[np.int64], rng: np.random.Generator, device: torch.device
) -> EventTensors:
    """In every pair a fifth of one homolog, turned round or taken from another pair."""
    start_BK, stop_BK = 2 * length_BK // 5, 3 * length_BK // 5
    zero_BK, forwards_BK = np.zeros_like(length_BK), np.ones_like(length_BK)
    donor_BK = rng.random(length_BK.shape) < 0.5
    made = {
        "homolog_BK": rng.integers(0, 2, length_BK.shape),
        "stop_BKQ": np.stack([start_BK, stop_BK, length_BK], axis=-1),
        "origin_BKQ": np.stack([zero_BK, np.where(donor_BK, 0, stop_BK - 1), stop_BK], axis=-1),
        "step_BKQ": np.stack([forwards_BK, np.where(donor_BK, 1, -1), forwards_BK], axis=-1),
        "donor_BKQ": np.stack([zero_BK > 0, donor_BK, zero_BK > 0], axis=-1),
        "length_BK2": np.stack([length_BK, length_BK], axis=-1),
        "spread_BW": spread_of(np.full(len(length_BK), 3.0, np.float32)),
    }
    places = ("stop_BKQ", "origin_BKQ", "step_BKQ", "length_BK2")  # in 16 bits, as drawn
    made |= {name: made[name].astype(np.int16) for name in places}
    return EventTensors(**{name: torch.from_numpy(x).to(device) for name, x in made.items()})


class Training:
    """Steps on one batch after another: assembly, synthesis, both passes and the optimizer."""

    def __init__(self, model: nn.Module, bank: Bank, precision: Precision) -> None:
        self._model, self._bank, self._precision = model, bank, precision
        self._optimizer = make_optimizer(model, TrainingConfig())

    def __call__(self, number: int) -> None:
        """Learns from a number of bags, in batches."""
        size = self._bank.batch_size
        for at in range(0, number, size):
            batch = self._bank.batch(slice(at, min(at + size, number)))
            train_step(
                self._model,
                self._optimizer,
                batch,
                learning_rate=1e-3,
                clip_norm=1.0,
                loss_scale=1 / len(batch.label_B),
                precision=self._precision,
                cpu_pairs=HomNet.cpu_pairs,
            )


class Patients:
    """Logits of bags that are in the device's memory, read back."""

    def __init__(self, model: nn.Module, bank: Bank, precision: Precision) -> None:
        self._model, self._device, self._precision = model, bank.device, precision
        self._batch = bank.batch(slice(0, _BAGS_OF_CALL))

    @torch.inference_mode()
    def __call__(self, number: int) -> None:
        """Scores a number of bags."""
        batch, found = self._batch, []
        for left in range(number, 0, -_BAGS_OF_CALL):
            bags = slice(0, min(left, _BAGS_OF_CALL))
            with autocast(self._device, self._precision):
                found.append(
                    self._model(
                        batch.x_BKPCL[bags],
                        batch.mask_BK[bags],
                        batch.chromosome_B[bags],
                        batch.level_BK[bags],
                    )
                )
        torch.cat(found).cpu()


class Passes:
    """The endpoint's scorer, from pairs in the host's memory to numbers there."""

    def __init__(self, model: HomNet, bank: Bank, precision: Precision) -> None:
        # As in a model that was trained, the search counts; training does not need it.
        self._model, self._bank, self._precision = copy.deepcopy(model), bank, precision
        if self._model.search is not None:
            self._model.search.weigh(torch.ones(len(FAMILIES)))

    def __call__(self, number: int) -> None:
        """Scores a number of bags in one pass."""
        bank = self._bank
        rows = slice(0, number * bank.num_cells)
        score_pairs(
            [(self._model, self._precision)],
            np.zeros(rows.stop, np.int64),
            np.repeat(np.arange(number), bank.num_cells),
            bank.pair_NPCL[rows],
            bank.chromosome_N[rows],
            bank.level_N[rows],
            bank.device,
        )
