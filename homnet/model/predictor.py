"""Logits of bags of any size, and the contribution of each pair, for evaluation and serving.

Shape suffixes: N pairs, B bags, K cells of a bag, P homologs, C chromatids, L positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from homnet.bags.assessment import FlatBags
from homnet.bags.epochs import Batch, LoadedEpoch
from homnet.calibration.bags import UNCALIBRATED, Calibration
from homnet.errors import CheckpointError
from homnet.locations import Location
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import BagModel, Form
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.scoring import Precision, autocast, score_pairs

_BAGS_AT_ONCE: Final = 64
"""Bags per forward pass of a model that cannot score single pairs."""


@dataclass(frozen=True)
class Evidence:
    """Scores of bags, and the contribution of each pair."""

    logit_B: NDArray[np.float64]
    """Uncalibrated logits; positive is abnormal."""
    weight_N: NDArray[np.float64]
    """Weight of each pair in its bag, 0..1 (Eq. 9)."""
    added_N: NDArray[np.float64]
    """Contribution of each pair to the logit of its bag; the remainder is the bias (Eq. 10)."""
    bias_B: NDArray[np.float64]
    """Bias of the model of each bag."""

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The scores of all parts, in order; empty for no parts."""
        names = ("logit_B", "weight_N", "added_N", "bias_B")
        empty = [np.zeros(0)]
        return cls(
            **{name: np.concatenate([getattr(p, name) for p in parts] or empty) for name in names}
        )

    def part(self, bags: slice, pairs: slice) -> Self:
        """The scores of some consecutive bags and of their pairs."""
        return type(self)(
            self.logit_B[bags], self.weight_N[pairs], self.added_N[pairs], self.bias_B[bags]
        )


class Predictor:
    """A model with its calibration, on one device."""

    def __init__(
        self,
        model: BagModel,
        calibration: Mapping[str, Calibration],
        *,
        version: str,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        self.model = model.to(device).eval()
        self.calibration = calibration
        self.version = version
        self.device = torch.device(device)
        self.precision = precision

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> Self:
        """Builds the predictor of a checkpoint.

        Raises:
            CheckpointError: the weights do not fit the config.
        """
        return cls(
            checkpoint.build(), checkpoint.calibration, version=checkpoint.version, device=device
        )

    @classmethod
    def load(
        cls,
        path: str | Location,
        device: torch.device | str = "cpu",
        form: Callable[..., Form] = HomNetConfig,
    ) -> Self:
        """Loads a checkpoint; for the form and the errors raised see :meth:`Checkpoint.load`."""
        return cls.of_checkpoint(Checkpoint.load(path, form), device)

    def at(self, precision: Precision) -> "Predictor":
        """The same model with matrix products in another precision; weights stay in float32."""
        return Predictor(
            self.model,
            self.calibration,
            version=self.version,
            device=self.device,
            precision=precision,
        )

    def homnet(self) -> HomNet:
        """The model, if it is HomNet, which gives the contribution of each pair to a logit.

        Raises:
            CheckpointError: the model is not HomNet.
        """
        if not isinstance(self.model, HomNet):
            raise CheckpointError(
                "only HomNet can answer, other models can be shadows; publish a HomNet checkpoint"
            )
        return self.model

    @torch.inference_mode()
    def logits(self, batch: Batch) -> NDArray[np.float64]:
        """Uncalibrated logits (B) of bags on the device."""
        with autocast(self.device, self.precision):
            logit_B = self.model(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
        values_B: NDArray[np.float64] = logit_B.double().cpu().numpy()
        return values_B

    def loaded_logits(self, bags: LoadedEpoch, batch_size: int = 512) -> NDArray[np.float64]:
        """Uncalibrated logits (B) of bags on the device."""
        return np.concatenate([self.logits(batch) for batch in bags.batches(batch_size)])

    def flat_logits(self, bags: FlatBags) -> NDArray[np.float64]:
        """Uncalibrated logits (B) of bags of any size, for any model.

        In models other than HomNet the contribution of a pair depends on the rest of its bag, so
        bags of equal size are scored together.
        """
        if isinstance(self.model, HomNet):
            return self.evidence(bags).logit_B
        logit_B = np.zeros(len(bags))
        first_B = np.cumsum(bags.size_B) - bags.size_B
        for size in np.unique(bags.size_B):
            of_size = np.flatnonzero(bags.size_B == size)
            for at in range(0, len(of_size), _BAGS_AT_ONCE):
                chosen = of_size[at : at + _BAGS_AT_ONCE]
                logit_B[chosen] = self.logits(self._batch(bags, first_B[chosen], size))
        return logit_B

    def _batch(self, bags: FlatBags, first_B: NDArray[np.int64], size: int) -> Batch:
        """Bags of equal size, given the index of their first pair."""
        row_BK = first_B[:, None] + np.arange(size)
        return Batch(
            x_BKPCL=torch.from_numpy(bags.pair_NPCL[row_BK]).to(self.device),
            mask_BK=torch.ones(row_BK.shape, dtype=torch.bool, device=self.device),
            chromosome_B=torch.from_numpy(bags.chromosome_N[first_B]).to(self.device),
            level_BK=torch.from_numpy(bags.level_N[row_BK]).to(self.device),
            label_B=torch.zeros(len(row_BK), device=self.device),
        )

    def evidence(self, bags: FlatBags) -> Evidence:
        """Scores bags with this model; see :func:`score_bags`."""
        return score_bags([self], bags, np.zeros(len(bags), np.int64))

    def probabilities(self, logit_B: NDArray[np.float64], hospital: str) -> NDArray[np.float64]:
        """Calibrated probabilities of abnormality for one hospital."""
        return np.asarray(expit(logit_B / self.of(hospital).temperature))

    def of(self, hospital: str) -> Calibration:
        """Calibration of a hospital; temperature 1 and threshold 0.5 if the hospital is unknown."""
        return self.calibration.get(hospital, UNCALIBRATED)


def score_bags(
    predictors: Sequence[Predictor], bags: FlatBags, predictor_B: NDArray[np.int64]
) -> Evidence:
    """Scores bags of any size, each with its own model, in one pass: the device is read once.

    Every pair is read alone, and the logit of a bag is a sum over its pairs (Eq. 10). Bags
    therefore need no padding and do not affect each other. Only the search compares the pairs of a
    bag (:meth:`homnet.model.search.EventSearch.contributions`).

    Args:
        predictors: predictors with HomNet models on one device.
        bags: B bags.
        predictor_B: index of the predictor of each bag.

    Raises:
        CheckpointError: a model is not HomNet.
    """
    weight_N, added_N, bias_P = score_pairs(
        [(predictor.homnet(), predictor.precision) for predictor in predictors],
        np.repeat(predictor_B, bags.size_B),
        np.repeat(np.arange(len(bags)), bags.size_B),
        bags.pair_NPCL,
        bags.chromosome_N,
        bags.level_N,
        predictors[0].device,
    )
    bias_B = bias_P[predictor_B]
    start_B = np.cumsum(bags.size_B) - bags.size_B
    logit_B = np.add.reduceat(added_N, start_B) + bias_B if len(bags) else np.zeros(0)
    return Evidence(logit_B, weight_N, added_N, bias_B)
