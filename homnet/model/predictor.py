"""Scores of bags: the one path that batch evaluation and serving share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from homnet.bags.epochs import Batch, DeviceBank, Epoch, LoadedEpoch
from homnet.calibration.bags import UNCALIBRATED, Calibration
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import BagModel, Form
from homnet.model.network import HomNetConfig


class Predictor:
    """A model with its calibration, on one device."""

    def __init__(
        self,
        model: BagModel,
        calibration: Mapping[str, Calibration],
        *,
        version: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model.to(device).eval()
        self.calibration = calibration
        self.version = version
        self.device = torch.device(device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        form: Callable[..., Form] = HomNetConfig,
    ) -> Self:
        """Loads a checkpoint; for the form and for what is raised see :meth:`Checkpoint.load`."""
        checkpoint = Checkpoint.load(path, form)
        return cls(
            checkpoint.build(), checkpoint.calibration, version=checkpoint.version, device=device
        )

    @torch.inference_mode()
    def logits(self, batch: Batch) -> NDArray[np.float64]:
        """Uncalibrated logits (B) of bags that are on the device."""
        logit_B = self.model(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
        values_B: NDArray[np.float64] = logit_B.double().cpu().numpy()
        return values_B

    def epoch_logits(
        self, bank: DeviceBank, epoch: Epoch, batch_size: int = 512
    ) -> NDArray[np.float64]:
        """Uncalibrated logits of all bags of an epoch."""
        return self.loaded_logits(bank.load(epoch), batch_size)

    def loaded_logits(self, bags: LoadedEpoch, batch_size: int = 512) -> NDArray[np.float64]:
        """Uncalibrated logits of bags that are on the device."""
        return np.concatenate([self.logits(batch) for batch in bags.batches(batch_size)])

    def probabilities(self, logit_B: NDArray[np.float64], hospital: str) -> NDArray[np.float64]:
        """Calibrated probabilities of abnormality for one hospital."""
        return np.asarray(expit(logit_B / self.of(hospital).temperature))

    def of(self, hospital: str) -> Calibration:
        """The calibration of a hospital; an unknown one gets temperature 1 and threshold 0.5."""
        return self.calibration.get(hospital, UNCALIBRATED)
