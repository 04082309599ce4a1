"""Compares candidates with the models that answer, on what is really asked. Nothing is returned."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import numpy as np

from homnet.assessment import Assessment
from homnet.joint import Evidence, score_jointly
from homnet_serve.metrics import Metrics
from homnet_serve.store import ModelStore, Served

_LOG: Final = logging.getLogger(__name__)


class ShadowComparison:
    """Lets shadow models score answered requests, one at a time; the others are skipped."""

    def __init__(self, store: ModelStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    def compare(
        self, assessment: Assessment, evidence: Evidence, served: Mapping[str, Served]
    ) -> None:
        """Begins a comparison, if there is a shadow and none is under way.

        Args:
            assessment: what was asked.
            evidence: the scores of the answer.
            served: by hospital, the models that gave them.
        """
        shadows = {name: one for name in served if (one := self._store.shadow(name))}
        if not shadows:
            return
        if self._task is not None and not self._task.done():
            self._metrics.shadow_skipped.inc()
            return
        self._task = asyncio.create_task(self._compared(assessment, evidence, served, shadows))

    def cancel(self) -> None:
        """Ends a comparison that is under way."""
        if self._task is not None:
            self._task.cancel()

    async def _compared(
        self,
        assessment: Assessment,
        evidence: Evidence,
        served: Mapping[str, Served],
        shadows: Mapping[str, Served],
    ) -> None:
        judges = {**served, **shadows}
        names = sorted(judges)
        model_B = np.array(
            [names.index(assessment.types[g].hospital) for g in assessment.type_B], np.int64
        )
        models = [judges[name].model for name in names]
        try:
            other = await asyncio.to_thread(score_jointly, models, assessment.bags, model_B)
        except Exception as error:  # a shadow must not disturb what answers
            _LOG.error("shadow_failed", extra={"error": type(error).__name__})
            return
        logits = zip(
            assessment.types,
            assessment.of_types(evidence.logit_B),
            assessment.of_types(other.logit_B),
            strict=True,
        )
        for kind, logit, shadow_logit in logits:
            hospital = kind.hospital
            if hospital in shadows:
                probability, abnormal = _judged(served[hospital], float(logit))
                shadow, other_verdict = _judged(shadows[hospital], float(shadow_logit))
                self._metrics.shadow_types.labels(hospital).inc()
                self._metrics.shadow_difference.labels(hospital).observe(abs(probability - shadow))
                self._metrics.shadow_changed.labels(hospital).inc(abnormal != other_verdict)


def _judged(served: Served, logit: float) -> tuple[float, bool]:
    predictor = served.model.predictor
    probability = float(predictor.probabilities(np.asarray(logit), served.hospital))
    return probability, probability >= predictor.of(served.hospital).threshold
