"""Training of the reader: its loss, its epochs, and the calibration of what it says.

The teacher is a cohort with truth (simulated rearranged people), or artificial abnormalities of
normal pairs. HomNet below is frozen; only the reader learns.

Shape suffixes: B bags, K cells, P homologs, L stretched positions, G places, X classes.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from homnet.abnormality import EventConfig
from homnet.bags import BagConfig, PairBank
from homnet.checkpoint import Checkpoint
from homnet.epochs import Batch, DeviceBank, Epoch, draw_epoch
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.finding import NO_ABNORMALITY
from homnet.reader.network import Reader, ReaderConfig, Reading
from homnet.reader.truth import KIND_CODE, UNKNOWN, Targets
from homnet.seeding import generator
from homnet.training import (
    TrainingConfig,
    learning_rate_at,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
)

METRIC: Final = "validation_loss"
_EXTENT_MARGIN: Final = 1.5
"""Stretched positions by which an extent is widened at both ends: of a deletion only a junction is
left, and no breakpoint is seen to the position."""
_PLACE_BLUR: Final = 1.0
"""Standard deviation, in stretched positions, of the wanted distribution of a breakpoint."""


@dataclass(frozen=True)
class ReaderTraining:
    """How a reader is optimised."""

    optimiser: TrainingConfig = TrainingConfig(
        learning_rate=2e-3,
        batch_size=32,
        max_epochs=2,
        schedule="cosine",
        weight_decay=0.01,
        averaging=0.98,
        labels="cohort",
        bags=BagConfig(num_cells=5),
        events=EventConfig(min_fraction=0.05),
        validation_rounds=1,
    )
    """Adam, schedule, batches, and what is learnt: the cohort's own abnormalities, or artificial
    ones of its normal pairs. Epochs are not ended early."""
    max_normal_share: float = 0.4
    """Largest share of normal bags in an epoch; a cohort has far more of them."""
    fewest_cells: int = 1
    """Bags are cut to a random number of cells from here up, so that all are known."""

    def __post_init__(self) -> None:
        if not 0 < self.max_normal_share < 1:
            raise ConfigError(f"max_normal_share must be in (0, 1), got {self.max_normal_share}")
        if not 1 <= self.fewest_cells <= self.optimiser.bags.num_cells:
            raise ConfigError(
                f"fewest_cells must be 1..{self.optimiser.bags.num_cells}, got {self.fewest_cells}"
            )


@dataclass(frozen=True)
class ReaderStage:
    """All that one training run of a reader needs; it travels to its worker."""

    parent: str
    """Checkpoint of the HomNet below."""
    width: int
    """See :class:`homnet.reader.network.ReaderConfig`."""
    training: ReaderTraining
    """How it is optimised."""
    train_patients: frozenset[str]
    """Patients to learn from."""
    validation_patients: frozenset[str]
    """Patients for calibration and for choosing the best epoch."""
    start: str | None = None
    """Checkpoint of a reader on the same HomNet whose weights learning starts from."""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the checkpoint says of its origin."""

    def __post_init__(self) -> None:
        shared = self.train_patients & self.validation_patients
        if shared:
            raise DataError(f"patient {min(shared)} is in both training and validation")


@dataclass(frozen=True)
class Lessons:
    """Bags with their truth, ready to be learnt from."""

    epoch: Epoch
    targets: Targets

    def __len__(self) -> int:
        return len(self.epoch)

    def take(self, index: NDArray[np.int64]) -> "Lessons":
        """Some of the bags."""
        epoch = self.epoch
        events = None if epoch.events is None else epoch.events.take(index)
        kept = Epoch(epoch.bags.take(index), events, epoch.label_B[index], epoch.kind_B[index])
        return Lessons(kept, self.targets.take(index))


def draw_lessons(bank: PairBank, training: ReaderTraining, number: int, seed: int) -> Lessons:
    """Draws the bags of an epoch, thins the normal ones, and hides cells at random.

    Args:
        bank: pairs; normal ones are chosen where artificial events are wanted.
        training: what is wanted.
        number: of the epoch.
        seed: of the run.
    """
    settings = training.optimiser
    events = settings.events if settings.labels == "artificial" else None
    epoch = draw_epoch(bank, settings.bags, events, seed=seed, epoch=number)
    draw = generator(seed, "lessons", number)
    abnormal = np.nonzero(epoch.label_B)[0]
    normal = np.nonzero(~epoch.label_B)[0]
    share = training.max_normal_share
    most = math.ceil(len(abnormal) * share / (1 - share))
    chosen = draw.permutation(np.concatenate([abnormal, draw.permutation(normal)[:most]]))
    lessons = Lessons(epoch, Targets.of(epoch, bank)).take(chosen)
    return _with_hidden_cells(lessons, training.fewest_cells, draw)


def _with_hidden_cells(lessons: Lessons, fewest: int, draw: np.random.Generator) -> Lessons:
    bags, targets = lessons.epoch.bags, lessons.targets
    most = bags.mask_BK.shape[1]
    wanted_B = draw.integers(fewest, most + 1, len(lessons))
    rank_BK = np.where(bags.mask_BK, draw.random(bags.mask_BK.shape), 2.0)
    place_BK = rank_BK.argsort(axis=1).argsort(axis=1)
    mask_BK: NDArray[np.bool_] = np.asarray(bags.mask_BK & (place_BK < wanted_B[:, None]))
    abnormal_BK: NDArray[np.bool_] = np.asarray(targets.abnormal_BK & mask_BK)
    # Of a mosaic only normal cells may be left: then there is nothing to find.
    nothing_B: NDArray[np.bool_] = np.asarray(
        targets.abnormal_BK.any(axis=1) & ~abnormal_BK.any(axis=1)
    )
    kind_B = np.where(nothing_B, KIND_CODE[NO_ABNORMALITY], targets.kind_B)
    segment_B2 = np.where(nothing_B[:, None], np.nan, targets.segment_B2)
    return Lessons(
        dataclasses.replace(lessons.epoch, bags=dataclasses.replace(bags, mask_BK=mask_BK)),
        dataclasses.replace(targets, kind_B=kind_B, segment_B2=segment_B2, abnormal_BK=abnormal_BK),
    )


def place_of_share(share_B2: torch.Tensor, num_positions: int) -> torch.Tensor:
    """Places on the axis of :attr:`ReaderConfig.num_places`, as real numbers.

    The tips are 0 and G - 1; a share s between them is in the middle of positions s L - 0.5.
    """
    inside = (share_B2 * num_positions + 0.5).clamp(1, num_positions)
    inside = torch.where(share_B2 <= 0, torch.zeros_like(inside), inside)
    return torch.where(share_B2 >= 1, torch.full_like(inside, num_positions + 1.0), inside)


def loss_of(reading: Reading, batch: Batch, targets: Targets) -> dict[str, torch.Tensor]:
    """The parts of the loss, each a mean over what is known in the batch.

    Returns:
        ``kind``, ``segment``, ``cell`` and ``extent``.
    """
    device = batch.mask_BK.device

    def tensor(values: NDArray[Any]) -> torch.Tensor:
        return torch.as_tensor(values, device=device)

    kind_B = tensor(targets.kind_B)
    kind = F.cross_entropy(reading.kind_BX, kind_B, ignore_index=UNKNOWN, reduction="sum") / (
        kind_B != UNKNOWN
    ).sum().clamp(min=1)

    segment_B2 = tensor(targets.segment_B2).float()
    known_B = segment_B2.isfinite().all(dim=1)
    num_places = reading.segment_B2G.shape[-1]
    place_B2 = place_of_share(segment_B2.nan_to_num(), num_places - 2)
    wanted_B2G = _blurred(place_B2, num_places)
    each_B2 = -(wanted_B2G * reading.segment_B2G.log_softmax(dim=-1)).sum(dim=-1)
    segment = (each_B2.sum(dim=1) * known_B).sum() / known_B.sum().clamp(min=1)

    mask_BK = batch.mask_BK
    homolog_BK, abnormal_BK = tensor(targets.homolog_BK), tensor(targets.abnormal_BK)
    class_BK = torch.where(abnormal_BK, homolog_BK + 1, 0)
    unknown_BK = ~mask_BK | (abnormal_BK & (homolog_BK < 0))
    class_BK = class_BK.masked_fill(unknown_BK, UNKNOWN)
    count = (~unknown_BK).sum().clamp(min=1)
    cell = sum(
        (
            F.cross_entropy(
                logit_BKX.flatten(0, 1),
                class_BK.flatten(),
                ignore_index=UNKNOWN,
                reduction="sum",
            )
            / count
            for logit_BKX in (reading.first_cell_BKX, reading.cell_BKX)
        ),
        start=torch.zeros((), device=device),
    )

    extent_BK2 = tensor(targets.extent_BK2).float()
    known_BK = mask_BK & (~abnormal_BK | extent_BK2.isfinite().all(dim=-1)) & ~unknown_BK
    wanted_BKPL = _extents(extent_BK2, homolog_BK, abnormal_BK, reading.extent_BKPL.shape[-1])
    each_BKPL = F.binary_cross_entropy_with_logits(
        reading.extent_BKPL, wanted_BKPL, reduction="none"
    )
    extent = (each_BKPL.mean(dim=(2, 3)) * known_BK).sum() / known_BK.sum().clamp(min=1)
    return {"kind": kind, "segment": segment, "cell": cell, "extent": extent}


def _blurred(place_B2: torch.Tensor, num_places: int) -> torch.Tensor:
    """A wanted distribution over places: sure of a tip, else a bell that leaves the tips alone."""
    places_G = torch.arange(num_places, device=place_B2.device, dtype=place_B2.dtype)
    bell_B2G = torch.exp(-0.5 * ((places_G - place_B2[..., None]) / _PLACE_BLUR).square())
    tip_B2 = (place_B2 <= 0) | (place_B2 >= num_places - 1)
    exact_B2G = (places_G == place_B2.round()[..., None]).to(bell_B2G.dtype)
    inner_G = (places_G > 0) & (places_G < num_places - 1)
    wanted_B2G = torch.where(tip_B2[..., None], exact_B2G, bell_B2G * inner_G)
    return wanted_B2G / wanted_B2G.sum(dim=-1, keepdim=True)


def _extents(
    extent_BK2: torch.Tensor, homolog_BK: torch.Tensor, abnormal_BK: torch.Tensor, num: int
) -> torch.Tensor:
    middle_L = torch.arange(num, device=extent_BK2.device) + 0.5
    edges = extent_BK2.nan_to_num() * num
    inside_BKL = (middle_L >= edges[..., :1] - _EXTENT_MARGIN) & (
        middle_L <= edges[..., 1:] + _EXTENT_MARGIN
    )
    homolog_P = torch.arange(2, device=extent_BK2.device)
    of_BKP = (homolog_BK[..., None] == homolog_P) & abnormal_BK[..., None]
    return (inside_BKL[:, :, None] & of_BKP[..., None]).float()


_WEIGHTS: Final = {"kind": 1.0, "segment": 0.5, "cell": 1.0, "extent": 2.0}
"""What the parts of the loss count: about as much each when learning begins."""


class ReaderLearner:
    """One training run of a reader, in one process."""

    def __init__(
        self,
        stage: ReaderStage,
        bank: PairBank,
        *,
        device: torch.device | str = "cpu",
        resumed: Checkpoint | None = None,
    ) -> None:
        """Prepares a run, or continues one.

        Args:
            stage: what to train.
            bank: pairs of its patients, of a table that went through
                :func:`homnet.reader.truth.with_segments`.
            device: where.
            resumed: last checkpoint of an interrupted run.

        Raises:
            ConfigError: no reader can stand on the parent, or the one to start from does not.
            DataError: there is nobody, or nothing abnormal, to learn from or to validate on.
        """
        settings = stage.training.optimiser
        self.stage, self.device = stage, torch.device(device)
        if settings.labels == "artificial":
            bank = bank.normal()
        self._train = bank.of_patients(stage.train_patients)
        self._validation = bank.of_patients(stage.validation_patients)
        self._bank = DeviceBank(self._train, self.device)
        self._validation_bank = DeviceBank(self._validation, self.device)
        parent = Checkpoint.load(stage.parent)
        self.config = ReaderConfig(model=cast(Any, parent.config), width=stage.width)
        torch.manual_seed(settings.seed)
        self.reader = self.config.build()
        self.reader.take_homnet(parent.weights)
        if stage.start is not None:
            self._start(stage.start, parent)
        self._lessons = self._validation_lessons()
        self.averaged = AveragedModel(
            self.reader, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging)
        )
        self.history: list[dict[str, float]] = []
        self._best: Checkpoint | None = None
        self.reader.to(self.device)
        self.averaged.to(self.device)
        self._optimizer = make_optimizer(self.reader, settings)
        if resumed is not None:
            self._restore(resumed)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.stage.training.optimiser.max_epochs

    def epoch(self, advance: Callable[[int], None] = lambda bags: None) -> dict[str, float]:
        """Trains one epoch and validates.

        Args:
            advance: told the number of bags of each batch when it is done.

        Raises:
            DivergedError: the loss is no number any more.
        """
        settings, number = self.stage.training.optimiser, len(self.history)
        lessons = draw_lessons(self._train, self.stage.training, number, settings.seed)
        num_steps = -(-len(lessons) // settings.batch_size)
        self.reader.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        for step, (batch, targets) in enumerate(batches(lessons, self._bank, settings.batch_size)):
            rate = learning_rate_at(
                number * num_steps + step, settings.max_epochs * num_steps, settings
            )
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            loss = _total(loss_of(_read(self.reader, batch), batch, targets))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.reader.parameters(), settings.clip_norm)
            self._optimizer.step()
            self.averaged.update_parameters(self.reader)
            loss_sum += loss.detach()
            advance(len(batch.label_B))
        line = {"epoch": float(number), "train_loss": float(loss_sum) / num_steps}
        line |= self._validate()
        if not math.isfinite(line["train_loss"] + line[METRIC]):
            raise DivergedError(
                f"the reader's loss is {line['train_loss']:g} after epoch {number + 1}; lower "
                f"training.optimiser.learning_rate (now {settings.learning_rate:g})"
            )
        self.history.append(line)
        if all(line[METRIC] <= other[METRIC] for other in self.history):
            self._best = Checkpoint(
                self.config,
                _copies(self._scored),
                metrics={METRIC: line[METRIC], "calibration": self._calibrate()},
            )
        return line

    def checkpoint(self) -> Checkpoint:
        """The best reader so far, with all it takes to continue the run."""
        best = self._best or Checkpoint(self.config, _copies(self._scored))
        raw = {f"raw.{name}": t.clone() for name, t in self.reader.learnt().items()}
        averaged = cast(Reader, self.averaged.module).learnt()
        return dataclasses.replace(
            best,
            metrics={**best.metrics, "history": list(self.history)},
            provenance=dict(self.stage.provenance),
            state=optimizer_tensors(self._optimizer)
            | raw
            | {f"averaged.{name}": t.clone() for name, t in averaged.items()},
        )

    @property
    def _scored(self) -> Reader:
        averaged = cast(Reader, self.averaged.module)
        return averaged if self.stage.training.optimiser.averaging else self.reader

    def _start(self, path: str, parent: Checkpoint) -> None:
        start = Checkpoint.load(path, ReaderConfig.of_json)
        if start.config != self.config or start.provenance.get("parent") != parent.version:
            raise ConfigError(
                f"{path} is of another width or stands on another HomNet than {self.stage.parent}; "
                "give the checkpoint and the width that it was trained with, or start anew"
            )
        self.reader.load_state_dict(dict(start.weights), strict=True)

    def _restore(self, resumed: Checkpoint) -> None:
        for prefix, model in (("raw.", self.reader), ("averaged.", self.averaged.module)):
            part = {
                name.removeprefix(prefix): tensor
                for name, tensor in resumed.state.items()
                if name.startswith(prefix)
            }
            model.load_state_dict(part, strict=False)
        restore_optimizer(self._optimizer, resumed.state)
        metrics = dict(resumed.metrics)
        self.history = list(metrics.pop("history"))
        self.averaged.n_averaged.fill_(1)
        self._best = dataclasses.replace(resumed, metrics=metrics, provenance={}, state={})

    def _validation_lessons(self) -> Lessons:
        settings = self.stage.training.optimiser
        training = dataclasses.replace(
            self.stage.training,
            optimiser=dataclasses.replace(
                settings,
                bags=dataclasses.replace(settings.bags, rounds=settings.validation_rounds),
            ),
            fewest_cells=settings.bags.num_cells,
        )
        lessons = draw_lessons(self._validation, training, 0, settings.seed + 1)
        if not lessons.epoch.label_B.any():
            raise DataError(
                "the validation patients have no abnormal bag, so a reader of findings cannot be "
                "calibrated; give more of them or another split seed"
            )
        return lessons

    def _validate(self) -> dict[str, float]:
        scored = self._scored.eval()
        size = self.stage.training.optimiser.batch_size
        parts: dict[str, float] = {}
        with torch.no_grad():
            for batch, targets in batches(self._lessons, self._validation_bank, size):
                found = loss_of(_read(scored, batch), batch, targets)
                for name, value in found.items():
                    parts[name] = parts.get(name, 0.0) + float(value) * len(batch.label_B)
        parts = {name: value / len(self._lessons) for name, value in parts.items()}
        total = sum(_WEIGHTS[name] * value for name, value in parts.items())
        return {METRIC: total, **{f"validation_{name}": value for name, value in parts.items()}}

    def _calibrate(self) -> dict[str, float]:
        scored = self._scored.eval()
        size = self.stage.training.optimiser.batch_size
        with torch.no_grad():
            readings = [
                _read(scored, batch)
                for batch, _ in batches(self._lessons, self._validation_bank, size)
            ]
        return calibrate(readings, self._lessons)


def batches(lessons: Lessons, bank: DeviceBank, batch_size: int) -> Iterator[tuple[Batch, Targets]]:
    """The bags of some lessons on the device, with their truth."""
    loaded = bank.load(lessons.epoch)
    for start in range(0, len(lessons), batch_size):
        part = slice(start, start + batch_size)
        yield loaded.batch(part), lessons.targets.take(part)


def _read(reader: Reader, batch: Batch) -> Reading:
    return reader.read(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)


def _total(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return sum((_WEIGHTS[name] * part for name, part in parts.items()), start=torch.zeros(()))


def calibrate(readings: list[Reading], lessons: Lessons) -> dict[str, float]:
    """Temperatures of what a reader says, fitted on validation bags (Guo et al. 2017).

    Args:
        readings: of the bags, batch by batch.
        lessons: the bags.

    Returns:
        ``kind``, ``segment`` and ``cell``: what logits are divided by.
    """
    targets = lessons.targets
    kind_BX = torch.cat([r.kind_BX for r in readings]).double().cpu()
    segment_B2G = torch.cat([r.segment_B2G for r in readings]).double().cpu()
    cell_BKX = torch.cat([r.cell_BKX for r in readings]).double().cpu()
    kind_B = torch.as_tensor(targets.kind_B)
    known_B = kind_B != UNKNOWN
    num_places = segment_B2G.shape[-1]
    share_B2 = torch.as_tensor(targets.segment_B2)
    placed_B = share_B2.isfinite().all(dim=1)
    place_X = place_of_share(share_B2[placed_B], num_places - 2).round().long().flatten()
    homolog_BK = torch.as_tensor(targets.homolog_BK)
    abnormal_BK = torch.as_tensor(targets.abnormal_BK)
    mask_BK = torch.as_tensor(lessons.epoch.bags.mask_BK)
    cell_known_BK = mask_BK & ~(abnormal_BK & (homolog_BK < 0))
    class_X = torch.where(abnormal_BK, homolog_BK + 1, 0)[cell_known_BK]
    return {
        "kind": _temperature(kind_BX[known_B], kind_B[known_B]),
        "segment": _temperature(segment_B2G[placed_B].flatten(0, 1), place_X),
        "cell": _temperature(cell_BKX[cell_known_BK], class_X),
    }


def _temperature(logit_NX: torch.Tensor, class_N: torch.Tensor) -> float:
    if not len(class_N):
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logit_NX / math.exp(log_temperature), class_N))

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 3), method="bounded").x))


def learn(
    stage: ReaderStage,
    bank: PairBank,
    *,
    device: torch.device | str = "cpu",
    kept: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda line: None,
    advance: Callable[[int], None] = lambda bags: None,
) -> Checkpoint:
    """Trains a reader in this process and gives its best checkpoint, calibrated.

    Args:
        stage: what to train.
        bank: pairs of its patients.
        device: where.
        kept: directory that keeps the last checkpoint of the run, from which the same call goes on
            after an interruption; by default nothing is kept.
        report: is told the metrics of every epoch.
        advance: is told the bags of every batch.

    Raises:
        ConfigError, DataError, CheckpointError: see :class:`ReaderLearner`.
    """
    resumed = None
    if kept is not None and kept.is_dir():
        resumed = Checkpoint.load(kept, ReaderConfig.of_json)
    learner = ReaderLearner(stage, bank, device=device, resumed=resumed)
    while not learner.finished:
        line = learner.epoch(advance)
        if kept is not None:
            learner.checkpoint().save(kept)
        report(line)
    return dataclasses.replace(learner.checkpoint(), state={})


def _copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
