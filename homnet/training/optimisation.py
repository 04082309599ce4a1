"""Training loop components: settings, optimizer, schedule, step, weights, early stopping.

Pre-training, fine-tuning and reader training use them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from homnet.bags.draw import BagConfig
from homnet.bags.epochs import Batch
from homnet.bags.events import EventConfig
from homnet.errors import CheckpointError, ConfigError, check_choices
from homnet.model.contract import Loss, cross_entropy

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation settings; the defaults are the paper's for pre-training (section 4.1)."""

    learning_rate: float = 1e-3
    """Adam's learning rate (paper: 1e-3 for pre-training, 1e-5 for fine-tuning)."""
    batch_size: int = 512
    """Bags per step over all workers (paper: 512)."""
    max_epochs: int = 100
    """Maximum number of epochs; early stopping can end the run earlier."""
    patience: int = 10
    """Epochs without a better validation AUC before the run ends (paper: 10)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate schedule: constant as in the paper, or linear warm-up over the first twentieth
    of the steps, then cosine decay to zero."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices (0 is Adam, as in the paper; above 0 is AdamW)."""
    clip_norm: float = 1.0
    """Maximum norm of the gradient; larger gradients are scaled down to it."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products in training; weights, sums and validation stay float32.
    ``auto`` is bfloat16 on GPUs that support it, and float32 elsewhere."""
    compile: bool = False
    """Whether to use ``torch.compile``, which takes a minute and pays off in long runs on GPUs."""
    checkpoint_steps: int = 0
    """Steps between checkpoints within an epoch; 0 saves only after each epoch."""
    window_pairs: int = 131_072
    """Maximum number of pairs in one window of an epoch (256 MiB of darkness). A larger epoch is
    split into windows of whole files, whose bags are shuffled together, so that not all pairs must
    be in memory. The windows do not depend on the number of workers."""
    averaging: float = 0.0
    """Decay of an exponential moving average of the weights, which is validated and kept; 0 keeps
    the weights themselves. The average must forget the initial weights many times within a run:
    0.998 suits thousands of steps, 0.98 hundreds (LAB.md)."""
    bags: BagConfig = BagConfig()
    """Bags of an epoch."""
    epochs_per_pass: int = 1
    """Number of epochs that share the parts of the training set: each uses one part in so many, in
    turn, so that a large set is validated more often."""
    labels: Literal["artificial", "cohort"] = "artificial"
    """Training labels: artificial abnormalities in normal pairs, or the cohort's own labels."""
    events: EventConfig = EventConfig()
    """Artificial abnormalities, if they are the labels."""
    validation_rounds: int = 4
    """Number of uses of each validation pair in the fixed set of validation bags."""
    seed: int = 0
    """Determines initial weights, bags and events."""

    def __post_init__(self) -> None:
        check_choices(self)
        # Comparisons with NaN are false, so they are written to fail then.
        if not 0 < self.learning_rate < math.inf or min(self.batch_size, self.max_epochs) < 1:
            raise ConfigError(
                "learning_rate, batch_size and max_epochs must be above zero and finite, got "
                f"{self.learning_rate}, {self.batch_size}, {self.max_epochs}"
            )
        if self.patience < 1:
            raise ConfigError(
                f"patience must be at least 1, got {self.patience}; give a large one to go on to "
                "max_epochs"
            )
        if not (0 < self.clip_norm < math.inf and 0 <= self.weight_decay < math.inf):
            raise ConfigError(
                "clip_norm must be above zero, weight_decay 0 or more, and both finite, got "
                f"{self.clip_norm}, {self.weight_decay}"
            )
        if self.labels == "cohort" and self.bags.over == "people":
            raise ConfigError(
                "bags over people mix patients; the cohort's labels need over='patient'"
            )
        if self.checkpoint_steps < 0 or min(self.window_pairs, self.epochs_per_pass) < 1:
            raise ConfigError(
                "checkpoint_steps must be 0 or more, window_pairs and epochs_per_pass above zero, "
                f"got {self.checkpoint_steps}, {self.window_pairs} and {self.epochs_per_pass}"
            )
        if not 0 <= self.averaging < 1:
            raise ConfigError(f"averaging must be in [0, 1), got {self.averaging}")


def precision_on(
    device: torch.device, wanted: Literal["auto", "float32", "bfloat16"]
) -> Literal["float32", "bfloat16"]:
    """Resolves ``auto`` to the training precision of a device."""
    if wanted != "auto":
        return wanted
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if supported else "float32"


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Returns Adam for all unfrozen parameters, with weight decay of matrices only."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in learnt if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )


def learning_rate_at(step: int, num_steps: int, config: TrainingConfig) -> float:
    """Learning rate of a step, 0..num_steps - 1; stateless."""
    if config.schedule == "constant":
        return config.learning_rate
    warm_up = max(num_steps // 20, 1)
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    share = (step - warm_up) / max(num_steps - warm_up, 1)
    return config.learning_rate * (1 + math.cos(math.pi * share)) / 2


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    learning_rate: float,
    clip_norm: float,
    loss_scale: float,
    precision: Literal["float32", "bfloat16"] = "float32",
    loss_of: Loss = cross_entropy,
    cpu_pairs: int | None = None,
) -> torch.Tensor:
    """Takes one optimizer step on one worker's part of a global batch.

    Args:
        model: the (possibly wrapped) model.
        optimizer: from :func:`make_optimizer`.
        batch: this worker's bags.
        learning_rate: of this step.
        clip_norm: see :class:`TrainingConfig`.
        loss_scale: number of workers / bags of the global batch. Gradients are averaged over
            workers, so this gives the mean over the global batch for any split.
        precision: of the matrix products.
        loss_of: the loss, summed over bags (Eq. 11 by default).
        cpu_pairs: pairs of each part that the batch is cut into on a CPU; see
            :attr:`homnet.model.contract.BagModel.cpu_pairs`. None: one part.

    Returns:
        The summed loss of this worker's bags, on its device.
    """
    num_bags, num_cells = batch.mask_BK.shape
    on_cpu = batch.x_BKPCL.device.type == "cpu"
    parts = batch.split(max(1, cpu_pairs // num_cells if cpu_pairs and on_cpu else num_bags))
    # Workers exchange their gradients once, with the last part.
    alone: Callable[[], AbstractContextManager[None]] = getattr(model, "no_sync", nullcontext)
    loss = batch.label_B.new_zeros(())

    def losses() -> Iterator[torch.Tensor]:
        for part in parts:
            with nullcontext() if part is parts[-1] else alone():
                loss_of_part = _loss(model, part, precision, loss_of)
                loss.add_(loss_of_part.detach())
                yield loss_of_part * loss_scale

    descend(model, optimizer, losses(), learning_rate=learning_rate, clip_norm=clip_norm)
    return loss


def _loss(
    model: nn.Module, batch: Batch, precision: Literal["float32", "bfloat16"], loss_of: Loss
) -> torch.Tensor:
    device = batch.x_BKPCL.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        logit_B = model(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
    return loss_of(logit_B.float(), batch.label_B)


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Iterable[torch.Tensor],
    *,
    learning_rate: float,
    clip_norm: float,
) -> None:
    """Takes one optimizer step on the sum of losses (scalars), each made when it is its turn."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    for loss in losses:
        loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()


class Weights(Generic[M]):
    """Trained weights of a model, their moving average, and the optimizer."""

    def __init__(self, model: M, config: TrainingConfig, *, unstored: tuple[str, ...] = ()) -> None:
        """Takes a model with its initial weights.

        Args:
            model: model on its training device.
            config: decay of the average, and the optimizer's settings.
            unstored: name prefixes of frozen weights that :meth:`state` leaves out because they are
                stored elsewhere.
        """
        self.model, self._unstored = model, unstored
        self._averaged = None
        if config.averaging > 0:
            average = get_ema_multi_avg_fn(config.averaging)
            self._averaged = AveragedModel(model, multi_avg_fn=average)
        self.optimizer = make_optimizer(model, config)

    @property
    def scored(self) -> M:
        """The model that is validated and kept; with averaged weights if configured."""
        return self.model if self._averaged is None else cast(M, self._averaged.module)

    def average(self) -> None:
        """Updates the moving average after a step."""
        if self._averaged is not None:
            self._averaged.update_parameters(self.model)

    def copies(self) -> dict[str, torch.Tensor]:
        """Copies of all weights of :attr:`scored`, on the CPU: others may have no GPU."""
        return {name: _copied(value) for name, value in self.scored.state_dict().items()}

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of everything that :meth:`restore` needs, on the CPU."""
        return optimizer_tensors(self.optimizer) | {
            prefix + name: _copied(value)
            for prefix, model in self._models()
            for name, value in model.state_dict().items()
            if not name.startswith(self._unstored)
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores the :meth:`state` saved after at least one step.

        Raises:
            CheckpointError: a weight is missing, unexpected or of another shape.
        """
        for prefix, model in self._models():
            stored = {
                name.removeprefix(prefix): value
                for name, value in state.items()
                if name.startswith(prefix)
            }
            weights = model.state_dict()
            unstored = {name: weights[name] for name in weights if name.startswith(self._unstored)}
            try:
                model.load_state_dict(stored | unstored)
            except RuntimeError as error:
                raise CheckpointError(
                    "the checkpoint to continue from is of another model "
                    f"({str(error).splitlines()[-1].strip()}); start a new run"
                ) from None
        if self._averaged is not None:
            self._averaged.n_averaged.fill_(1)
        restore_optimizer(self.optimizer, state)

    def _models(self) -> tuple[tuple[str, nn.Module], ...]:
        averaged = () if self._averaged is None else (("averaged.", self._averaged.module),)
        return ("raw.", self.model), *averaged


def _copied(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to("cpu", copy=True)


@dataclass
class EarlyStopping:
    """Counts epochs without improvement of a metric to be maximised."""

    patience: int
    """Epochs without improvement before stopping."""
    best: float = -math.inf
    """Best value so far."""
    since: int = 0
    """Epochs since then."""

    def update(self, value: float) -> bool:
        """Adds the metric of the next epoch; returns whether it is the best so far."""
        better = value > self.best
        self.since = 0 if better else self.since + 1
        self.best = max(self.best, value)
        return better

    @property
    def stop(self) -> bool:
        """Whether the run should end."""
        return self.since >= self.patience


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """State of the optimizer as named tensors on the CPU, which need no pickle."""
    state: Mapping[int, Mapping[str, torch.Tensor]] = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": _copied(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Any]) -> None:
    """Restores the state from :func:`optimizer_tensors`.

    Raises:
        CheckpointError: the tensors belong to another model.
    """
    content = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        prefix, _, rest = key.partition(".")
        if prefix == "optimizer":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = value
    fitting = set(state) == set(range(len(parameters))) and all(
        state[i]["exp_avg"].shape == p.shape for i, p in enumerate(parameters)
    )
    if not fitting:
        raise CheckpointError(
            "the optimizer state of the checkpoint does not fit this model; resume with the same "
            "model config, or start a new run"
        )
    optimizer.load_state_dict({**content, "state": state})
