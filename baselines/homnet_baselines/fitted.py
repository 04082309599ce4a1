"""Models with fitted parameters, and the one function that trains or fits any model.

Fitted parameters are buffers, so checkpoints store tensors, never pickles. Digests, calibration and
prediction work as for HomNet.
"""

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

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

    in_steps: ClassVar[bool] = False
    """Whether it has weights, too, that are trained in steps before it is fitted."""

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


def fit(
    stage: Stage,
    bank: PairBank,
    *,
    device: torch.device | str = "cpu",
    kept: Path | None = None,
) -> Checkpoint:
    """Trains or fits any bag model and returns its best checkpoint, calibrated.

    Args:
        stage: what to train: ``stage.model`` is a form of :mod:`homnet_baselines.methods` or of
            HomNet.
        bank: pairs of its training and validation people.
        device: for gradient steps; what is fitted in one go always uses the CPU.
        kept: directory from which an interrupted training in steps resumes; see
            :func:`homnet.training.learning.train`.

    Returns:
        The checkpoint. Its metrics hold the validation AUC, the ``history``, the total ``seconds``
        and ``cpu_seconds``, and ``seconds_to_best``, the time until the best epoch.

    Raises:
        DataError, CheckpointError: see :class:`homnet.training.learning.Learner`.
    """
    clock = _Clock()
    model = stage.model.build()
    learnt: Checkpoint | None = None
    if not isinstance(model, FittedModel) or (model.in_steps and stage.parent is None):
        learnt = train(stage, bank, device=device, kept=kept, report=clock.count)
        if not isinstance(model, FittedModel):
            spent = clock.spent(learnt.metrics["history"])
            return dataclasses.replace(learnt, metrics={**learnt.metrics, **spent})
    train_bank, validation_bank = stage.parts(bank)
    validation = stage.validation_epoch(validation_bank)
    stage.require_classes(validation.label_B)
    before = learnt
    if stage.parent is not None:
        before = Checkpoint.load(stage.parent, type(stage.model))
    if before is not None:
        model.load_state_dict(dict(before.weights))
    model.fit(stage, train_bank)
    predictor = Predictor(model, {}, version="")
    logit_B = predictor.loaded_logits(DeviceBank(validation_bank, "cpu").load(validation))
    label_B = validation.label_B
    hospital_N = validation_bank.frame["hospital"].to_numpy(object)
    hospital_B = hospital_N[validation.bags.row_BK[:, 0]]
    if not np.isfinite(logit_B).all():
        raise DivergedError(f"{stage.name}: scores of validation bags are not all finite")
    auc = float(roc_auc_score(label_B, logit_B))
    history = learnt.metrics["history"] if learnt else [{"epoch": 0, METRIC: auc}]
    return Checkpoint(
        config=stage.model,
        weights={name: value.clone() for name, value in model.state_dict().items()},
        metrics={"history": history, METRIC: auc, **clock.spent(history)},
        provenance=stage.provenance,
        calibration=calibrations(logit_B, label_B, hospital_B),
    )


class _Clock:
    """Time of a training; epochs before an interruption count as those after it."""

    def __init__(self) -> None:
        self._started, self._cpu_started = time.perf_counter(), time.process_time()
        self._num_epochs = 0

    def count(self, line: object) -> None:
        """Counts an epoch of this process."""
        self._num_epochs += 1

    def spent(self, history: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Seconds of all epochs, of the CPU too, and until the best one."""
        share = len(history) / max(self._num_epochs, 1)
        seconds = (time.perf_counter() - self._started) * share
        best = int(np.argmax([line[METRIC] for line in history])) + 1
        return {
            "seconds": seconds,
            "cpu_seconds": (time.process_time() - self._cpu_started) * share,
            "seconds_to_best": seconds * best / len(history),
        }
