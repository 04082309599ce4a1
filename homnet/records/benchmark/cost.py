"""Cost of a training step: floating point operations and launched operators."""

from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from homnet.karyotype.chromosomes import SEQUENCE_LENGTH
from homnet.model.network import HomNet, HomNetConfig
from homnet.training.optimisation import TrainingConfig, make_optimizer


def training_flops_per_bag(config: HomNetConfig, num_cells: int) -> int:
    """Floating point operations of both passes over one bag (two per multiply-add)."""
    with FlopCounterMode(display=False) as counter:
        _both_passes(HomNet(config), num_cells)
    return int(counter.get_total_flops())


def num_operators(config: HomNetConfig, num_cells: int) -> int:
    """Number of operators in a training step, each launched by the host; independent of the batch.

    Counted on a CPU, whose optimizer updates parameters one by one; a GPU updates them together,
    so this is an upper bound.
    """
    model = HomNet(config)
    optimizer = make_optimizer(model, TrainingConfig())
    count = _Count()
    with count:
        _both_passes(model, num_cells)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return count.operators


def _both_passes(model: HomNet, num_cells: int) -> None:
    logit_B = model(
        # Sequences without padding: the model may compute padded positions only once.
        torch.ones(1, num_cells, 2, 2, SEQUENCE_LENGTH, dtype=torch.uint8),
        torch.ones(1, num_cells, dtype=torch.bool),
        torch.zeros(1, dtype=torch.long),
        torch.zeros(1, num_cells, dtype=torch.long),
    )
    F.binary_cross_entropy_with_logits(logit_B, torch.ones(1)).backward()


class _Count(TorchDispatchMode):
    """Counts dispatched operators while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        return func(*args, **(kwargs or {}))
