"""Bags of many hospitals in one pass: the frozen part of their models runs once for all.

Fine-tuning freezes CMSBlock and the first alignment (paper, section 4.1), so the models of
hospitals that started from one pre-training differ in their heads only. Every pair is computed by
itself and a bag's logit is a sum over its pairs (Eq. 10), so bags of any sizes go through without
padding, and what rides in the same pass changes nothing.

Shape suffixes: N pairs, B bags, P homologs, C chromatids, M regions, D width, E width of a pair,
L positions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from homnet.bags.assessment import FlatBags
from homnet.errors import CheckpointError
from homnet.model.network import HomNet
from homnet.model.predictor import Predictor

_PAIRS_AT_ONCE: Final = 256
"""Pairs of one forward pass: enough to be efficient, and their activations stay in the cache."""


@dataclass(frozen=True)
class Evidence:
    """Scores of bags, and what each pair had to do with them."""

    logit_B: NDArray[np.float64]
    """Uncalibrated logits, as :meth:`homnet.model.predictor.Predictor.logits` gives them."""
    weight_N: NDArray[np.float64]
    """Weight of each pair in its bag, 0..1 (Eq. 9)."""
    added_N: NDArray[np.float64]
    """What each pair adds to the logit of its bag; the rest is a bias (Eq. 10)."""


class JointModel:
    """A model that can share its frozen part with others."""

    def __init__(self, predictor: Predictor) -> None:
        """Takes a predictor.

        Raises:
            CheckpointError: its model has no such part.
        """
        if not isinstance(predictor.model, HomNet):
            raise CheckpointError(
                "only HomNet can answer, other models can be shadows; publish a HomNet checkpoint"
            )
        self.predictor = predictor
        self.model: HomNet = predictor.model
        self.trunk = trunk_digest(self.model)

    def share(self, other: "JointModel") -> None:
        """Uses the frozen part of another model with the same digest, and frees its own."""
        if self.trunk == other.trunk:
            self.model.cms = other.model.cms
            self.model.hom.alignments[0] = other.model.hom.alignments[0]


def trunk_digest(model: HomNet) -> str:
    """Digest of the form of a model and of what fine-tuning freezes: equal parts run together."""
    digest = hashlib.sha256(repr(model.config).encode())
    for part in (model.cms, model.hom.alignments[0]):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def score_jointly(
    models: Sequence[JointModel], bags: FlatBags, model_B: NDArray[np.int64]
) -> Evidence:
    """Scores bags, each by its own model.

    Args:
        models: the models, all on one device.
        bags: B bags.
        model_B: index of the model of each bag.
    """
    model_N = np.repeat(model_B, bags.size_B)
    trunks = list(dict.fromkeys(model.trunk for model in models))
    trunk_N = np.array([trunks.index(model.trunk) for model in models])[model_N]
    weight_N, added_N = np.zeros(len(model_N)), np.zeros(len(model_N))
    # Pairs of one trunk together, and within it those of one head.
    order_N = np.lexsort((model_N, trunk_N))
    starts = np.flatnonzero(np.diff(trunk_N[order_N], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(order_N)], strict=True):
        for at in range(int(start), int(stop), _PAIRS_AT_ONCE):
            rows = order_N[at : min(at + _PAIRS_AT_ONCE, int(stop))]
            weight_N[rows], added_N[rows] = _evidence(models, model_N[rows], bags, rows)
    bias_B = np.array([model.model.bag.bag.bias.item() for model in models])[model_B]
    start_B = np.cumsum(bags.size_B) - bags.size_B
    logit_B = np.add.reduceat(added_N, start_B) + bias_B if len(bags) else np.zeros(0)
    return Evidence(logit_B, weight_N, added_N)


def _evidence(
    models: Sequence[JointModel],
    model_N: NDArray[np.int64],
    bags: FlatBags,
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of pairs of one trunk, and what they add; pairs of one head lie side by side."""
    first = models[model_N[0]]
    device = first.predictor.device
    # A pair is a bag of one here: (N, 1, ...).
    aligned_MN, number = first.model.trunk(
        torch.from_numpy(bags.pair_NPCL[rows]).to(device)[:, None],
        torch.from_numpy(bags.chromosome_N[rows]).to(device),
        torch.from_numpy(bags.level_N[rows]).to(device)[:, None],
    )
    weights, added = [], []
    begins = np.flatnonzero(np.diff(model_N, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(model_N)], strict=True):
        model = models[model_N[begin]].model
        own = None if number is None else number[begin:end]
        weight_NK, added_NK = model.bag.evidence(model.head(aligned_MN[:, begin:end], own))
        # One column, or one for each homolog where they are judged by themselves.
        weights.append(weight_NK.amax(dim=1))
        added.append(added_NK.double().sum(dim=1))
    return (
        torch.cat(weights).double().cpu().numpy(),
        torch.cat(added).cpu().numpy(),
    )
