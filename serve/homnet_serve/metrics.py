"""Counters, gauges and histograms for the operator, through Ray's exporter.

Ray adds ``deployment``, ``replica`` and ``application`` to the tags here, the prefix ``ray_`` to
the names, and ``_total`` to those of counters. Every node exports what its replicas record
(docs/endpoint.md says where). No metric describes a single patient.
"""

from collections.abc import Sequence
from typing import Final

from ray.serve.metrics import Counter, Gauge, Histogram

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ITEMS: Final = (1, 8, 23, 46, 92, 184, 368, 736, 1472)


class Metrics:
    """The metrics of one process. Without a running Ray they go nowhere."""

    def __init__(self) -> None:
        # Ray's hints say a tuple of one tag.
        def histogram(name: str, text: str, buckets: Sequence[float], *tags: str) -> Histogram:
            return Histogram(name, text, list(buckets), tags)  # type: ignore[arg-type]

        def counter(name: str, text: str, *tags: str) -> Counter:
            return Counter(name, text, tags)  # type: ignore[arg-type]

        def gauge(name: str, text: str, *tags: str) -> Gauge:
            return Gauge(name, text, tags)  # type: ignore[arg-type]

        self.requests = counter("homnet_requests", "Requests", "route", "status")
        self.request_seconds = histogram(
            "homnet_request_seconds", "Seconds to an answer", _SECONDS, "route"
        )
        self.refused = counter("homnet_refused", "Refused requests by the answer's code", "code")
        self.patients = counter("homnet_patients", "Patients answered", "hospital", "decision")
        self.flagged = counter("homnet_flagged_types", "Types called abnormal", "hospital")
        self.karyograms = counter(
            "homnet_karyograms", "Pictures of karyograms, read or refused", "outcome"
        )
        self.batch_items = histogram(
            "homnet_batch_items", "Bags scored, or types read, in one pass", _ITEMS, "step"
        )
        self.batch_seconds = histogram(
            "homnet_batch_seconds", "Seconds of one pass", _SECONDS, "step"
        )
        self.waiting_items = gauge(
            "homnet_waiting_items", "Bags or types that wait for a pass", "step"
        )
        self.models = gauge(
            "homnet_model_info", "1: this model answers; 0: no longer", "hospital", "version"
        )
        self.swaps = counter("homnet_model_swaps", "Times a model began to answer for a hospital")
        self.rejected = counter(
            "homnet_models_rejected", "Models that failed their checks", "hospital"
        )
        self.registry_errors = counter(
            "homnet_registry_errors",
            "Failed reads of the registry, and failed loads that are tried again",
        )
        self.registry_damage = gauge(
            "homnet_registry_damage",
            "1: a decision of the hospital (if empty, of an unknown one) is damaged or missing",
            "hospital",
        )
        self.shadow_types = counter(
            "homnet_shadow_types", "Types that a shadow model scored too", "hospital"
        )
        self.shadow_changed = counter(
            "homnet_shadow_verdicts_changed",
            "Types with another verdict by the shadow model",
            "hospital",
        )
        self.shadow_difference = histogram(
            "homnet_shadow_probability_difference",
            "Absolute difference of probabilities",
            (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0),
            "hospital",
        )
        self.shadow_skipped = counter(
            "homnet_shadow_skipped", "Requests that no shadow model scored, to save time"
        )
