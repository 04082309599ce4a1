"""One pass of HomNet models over pairs on a device. Imports torch and numpy only.

Shape suffixes: N pairs, K cells (1 here), P homologs, C chromatids, L positions, E width of a pair,
R models, X pairs and models.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from homnet.errors import ConfigError, first_line
from homnet.model.contract import NUM_TYPES
from homnet.model.network import HomNet

Precision = Literal["float32", "bfloat16"]
"""Of matrix products; weights, and sums over the pairs of a bag, are never below float32."""
_PAIRS_ON_GPU: Final = 16_384
"""Largest sub-batch on a GPU: enough to fill it, while the host prepares the next one."""
_BYTES_OF_PAIR: Final = 2**19
"""Bound on the activations of a pair: twice those at merge range 8, which has most regions."""


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Context in which a model computes in a precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def prepare_device(name: str) -> None:
    """Checks that a device computes, and has it compute float32 in full.

    Raises:
        ConfigError: the device is unknown, missing, or cannot be used, such as a GPU that is too
            old for this PyTorch.
    """
    try:
        torch.ones(2, device=name).sum().item()  # waits for the device
    except Exception as error:  # each backend has its own
        raise ConfigError(
            f"device {name!r} cannot be used ({first_line(error)}); mend it or its driver, or do "
            "without (leave out --use-gpu; an endpoint has a setting device)"
        ) from None
    # By default convolutions, those of a reader, have the 10 bits of TF32 on a GPU.
    torch.backends.cudnn.allow_tf32 = False


@torch.inference_mode()
def score_pairs(
    models: Sequence[tuple[HomNet, Precision]],
    model_N: NDArray[np.int64],
    bag_N: NDArray[np.int64],
    pair_NPCL: NDArray[np.uint8],
    chromosome_N: NDArray[np.int64],
    level_N: NDArray[np.int64],
    device: torch.device,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Scores the pairs of whole bags, each bag with its own model.

    The host waits for the device once, at the end.

    Args:
        models: R models on the device, each with its precision.
        model_N: index of the model of each pair.
        bag_N: index of the bag of each pair.
        pair_NPCL: darkness of the pairs.
        chromosome_N: indices of their chromosome types.
        level_N: indices of their band levels.
        device: where the models are.

    Returns:
        The weight of each pair (Eq. 9), its contribution to the logit of its bag (Eq. 10), and the
        bias of each model (R), which makes up the rest of a logit.
    """
    # Sorted by type on the host, because counting them on the device would be waiting for it.
    order_N = np.lexsort((chromosome_N, model_N))
    rows_R = np.split(order_N, np.searchsorted(model_N[order_N], np.arange(1, len(models))))
    size = pairs_at_once(device)
    found = []
    for (model, precision), rows in zip(models, rows_R, strict=True):
        # A model scores whole bags: those of its pairs, renumbered.
        _, own_N, size_B = np.unique(bag_N[rows], return_inverse=True, return_counts=True)
        of_bags = [_sent(values, np.arange(len(values)), device) for values in (own_N, size_B)]
        parts = []
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            x_NPCL, types_N, levels_N = (
                _sent(values, part, device) for values in (pair_NPCL, chromosome_N, level_N)
            )
            count_T = np.bincount(chromosome_N[part], minlength=NUM_TYPES).tolist()
            with autocast(device, precision):
                parts.append(model.contributions(x_NPCL, types_N, levels_N, count_T))
        if not parts:
            continue
        weights, added, ratios = zip(*parts, strict=True)
        added_N = torch.cat(added)
        if model.search is not None and model.search.is_weighted:
            added_N += model.search.contributions(torch.cat(ratios), *of_bags)
        found.append(torch.stack([torch.cat(weights).double(), added_N]))
    # The biases travel along: asking a device for a number waits for all that it does.
    bias_R = torch.cat([model.bag.bag.bias for model, _ in models]).double()
    values_2X = read_back(torch.cat([*found, bias_R.expand(2, -1)], dim=1))
    in_order_2N = np.empty((2, len(order_N)))
    in_order_2N[:, order_N] = values_2X[:, : len(order_N)]
    return in_order_2N[0], in_order_2N[1], values_2X[0, len(order_N) :]


def pairs_at_once(device: torch.device) -> int:
    """Number of pairs of a sub-batch: what a CPU's cache holds, or what fills a GPU."""
    if device.type != "cuda":
        return HomNet.cpu_pairs
    memory = torch.cuda.get_device_properties(device).total_memory
    # A sixteenth: replicas share a GPU, and the models and readers need room.
    return max(HomNet.cpu_pairs, min(_PAIRS_ON_GPU, memory // 16 // _BYTES_OF_PAIR))


def read_back(values: torch.Tensor) -> NDArray[np.float64]:
    """Copies results to the host, for which it waits until the device has computed them."""
    return np.asarray(values.cpu().numpy())


def _sent(values_N: NDArray[Any], rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """The chosen rows on the device.

    To a GPU they go from pinned memory, so that the host can prepare the next sub-batch meanwhile.
    """
    pinned = device.type == "cuda"
    dtype = torch.from_numpy(np.empty(0, values_N.dtype)).dtype
    staged = torch.empty((len(rows), *values_N.shape[1:]), dtype=dtype, pin_memory=pinned)
    # With another mode NumPy would go through a buffer of its own.
    np.take(values_N, rows, axis=0, out=staged.numpy(), mode="clip")
    return staged.to(device, non_blocking=pinned)
