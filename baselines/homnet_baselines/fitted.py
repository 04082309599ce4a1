"""Models that are fitted in one call instead of by gradient steps.

Fitted parameters are buffers, so checkpoints store tensors, never pickles. Digests, calibration and
prediction work as for HomNet.
"""

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from homnet.bags.draw import PairBank
from homnet.bags.epochs import DeviceBank
from homnet.errors import DivergedError
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import BagModel
from homnet.model.predictor import Predictor
from homnet.training.learning import METRIC, calibrations, train
from homnet.training.stage import Stage


class FittedModel(BagModel, ABC):
    """A model whose fitted parameters are buffers; their sizes may depend on the data."""

    @abstractmethod
    def fit(self, stage: Stage, bank: PairBank) -> None:
        """Fits the model to the training pairs, starting from the parent if one was loaded.

        Args:
            stage: seeds, bags and labels.
            bank: pairs of the stage's training people.
        """

    def keep(self, **values: torch.Tensor | NDArray[Any] | float) -> None:
        """Registers values as buffers, replacing buffers of the same name."""
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Buffers take the loaded shapes: the number of support vectors varies.
        for name, value in self.named_buffers(recurse=False):
            loaded = state_dict.get(prefix + name)
            if loaded is not None:
                self.register_buffer(name, torch.empty_like(loaded, device=value.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def fit(stage: Stage, bank: PairBank, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Trains or fits any bag model and returns its best checkpoint, calibrated.

    Args:
        stage: what to train: ``stage.model`` is a form of :mod:`homnet_baselines.methods` or of
            HomNet.
        bank: pairs of its training and validation people.
        device: for gradient steps; fitted models always use the CPU.

    Returns:
        The checkpoint. Its metrics hold the validation AUC, the ``history``, the total ``seconds``
        and ``seconds_to_best``, the time until the best epoch.

    Raises:
        DataError, CheckpointError: see :class:`homnet.training.learning.Learner`.
    """
    started = time.perf_counter()
    model = stage.model.build()
    if not isinstance(model, FittedModel):
        at: list[float] = []
        best = train(
            stage, bank, device=device, report=lambda line: at.append(time.perf_counter() - started)
        )
        values = [line[METRIC] for line in best.metrics["history"]]
        spent = {"seconds": at[-1], "seconds_to_best": at[int(np.argmax(values))]}
        return dataclasses.replace(best, metrics={**best.metrics, **spent})
    train_bank, validation_bank = stage.parts(bank)
    validation = stage.validation_epoch(validation_bank)
    stage.require_classes(validation.label_B)
    if stage.parent is not None:
        parent = Checkpoint.load(stage.parent, type(stage.model))
        model.load_state_dict(dict(parent.weights))
    model.fit(stage, train_bank)
    predictor = Predictor(model, {}, version="")
    logit_B = predictor.epoch_logits(DeviceBank(validation_bank, "cpu"), validation)
    label_B = validation.label_B
    hospital_N = validation_bank.frame["hospital"].to_numpy(object)
    hospital_B = hospital_N[validation.bags.row_BK[:, 0]]
    if not np.isfinite(logit_B).all():
        raise DivergedError(f"{stage.name}: scores of validation bags are not all finite")
    seconds = time.perf_counter() - started
    line = {"epoch": 0, METRIC: float(roc_auc_score(label_B, logit_B))}
    return Checkpoint(
        config=stage.model,
        weights={name: value.clone() for name, value in model.state_dict().items()},
        metrics={
            "history": [line],
            METRIC: line[METRIC],
            "seconds": seconds,
            "seconds_to_best": seconds,
        },
        provenance=stage.provenance,
        calibration=calibrations(logit_B, label_B, hospital_B),
    )
