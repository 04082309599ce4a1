"""Compares candidates with the serving models on live requests, without changing answers."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.bags.assessment import Assessment
from homnet.model.predictor import Evidence, Predictor
from homnet_serve.metrics import Metrics
from homnet_serve.store import ModelStore, Served, Shadow

_LOG: Final = logging.getLogger(__name__)


class ShadowComparison:
    """Scores answered requests with shadow models, one at a time; skips requests while busy."""

    def __init__(self, store: ModelStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    def compare(
        self, assessment: Assessment, evidence: Evidence, served: Mapping[str, Served]
    ) -> None:
        """Starts a comparison if there is a shadow and no comparison is running.

        Args:
            assessment: the bags of the request.
            evidence: the scores of the answer.
            served: models that gave the scores, by hospital.
        """
        shadows = {name: one for name in served if (one := self._store.shadow(name))}
        if not shadows:
            return
        if self._task is not None and not self._task.done():
            self._metrics.shadow_skipped.inc()
            return
        self._task = asyncio.create_task(self._compared(assessment, evidence, served, shadows))

    def cancel(self) -> None:
        """Cancels a running comparison."""
        if self._task is not None:
            self._task.cancel()

    async def _compared(
        self,
        assessment: Assessment,
        evidence: Evidence,
        served: Mapping[str, Served],
        shadows: Mapping[str, Shadow],
    ) -> None:
        try:
            other_B = await asyncio.to_thread(_scored, assessment, evidence.logit_B, shadows)
        except Exception as error:  # a shadow must not affect serving
            _LOG.error("shadow_failed", extra={"error": type(error).__name__})
            return
        logits = zip(
            assessment.types,
            assessment.of_types(evidence.logit_B),
            assessment.of_types(other_B),
            strict=True,
        )
        for kind, logit, shadow_logit in logits:
            hospital = kind.hospital
            if hospital in shadows:
                answering, other = served[hospital].predictor, shadows[hospital].predictor
                probability, abnormal = _judged(answering, hospital, float(logit))
                shadow, other_verdict = _judged(other, hospital, float(shadow_logit))
                tags = {"hospital": hospital}
                self._metrics.shadow_types.inc(tags=tags)
                self._metrics.shadow_difference.observe(abs(probability - shadow), tags=tags)
                if abnormal != other_verdict:
                    self._metrics.shadow_changed.inc(tags=tags)


def _scored(
    assessment: Assessment, logit_B: NDArray[np.float64], shadows: Mapping[str, Shadow]
) -> NDArray[np.float64]:
    """Logits (B) of the shadows; those of the answer for hospitals without one."""
    logit_B = logit_B.copy()
    hospitals = np.array([assessment.types[g].hospital for g in assessment.type_B], object)
    for name, shadow in shadows.items():
        # Types are sorted by hospital, so the bags of a hospital are contiguous.
        own = np.flatnonzero(hospitals == name)
        if len(own) == 0:
            continue
        part = slice(int(own[0]), int(own[-1]) + 1)
        bags = assessment.bags.part(part.start, part.stop)
        logit_B[part] = shadow.predictor.flat_logits(bags)
    return logit_B


def _judged(predictor: Predictor, hospital: str, logit: float) -> tuple[float, bool]:
    probability = float(predictor.probabilities(np.asarray(logit), hospital))
    return probability, probability >= predictor.of(hospital).threshold
