"""Counters and histograms for the operator, in Prometheus' format.

Each process has its own counters. Every replica returns the metrics of all replicas, labelled with
``replica``. A sum would drop when a replica ends, and Prometheus would take that for a counter
reset. Query ``sum by (route) (rate(homnet_requests_total[5m]))``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ITEMS = (1, 8, 23, 46, 92, 184, 368, 736)


class Metrics:
    """The metrics of one process, in a separate registry; none describes a single patient."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        self.requests = counter("homnet_requests", "Requests", "route", "status")
        self.request_seconds = histogram(
            "homnet_request_seconds", "Seconds to an answer", _SECONDS, "route"
        )
        self.refused = counter("homnet_refused", "Refused requests by the answer's code", "code")
        self.patients = counter("homnet_patients", "Patients answered", "hospital", "decision")
        self.flagged = counter("homnet_flagged_types", "Types called abnormal", "hospital")
        self.batch_items = histogram(
            "homnet_batch_items", "Bags scored, or types read, in one pass", _ITEMS, "step"
        )
        self.batch_seconds = histogram(
            "homnet_batch_seconds", "Seconds of one pass", _SECONDS, "step"
        )
        self.waiting_items = gauge(
            "homnet_waiting_items", "Bags or types that wait for a pass", "step"
        )
        self.models = gauge("homnet_model_info", "1: this model answers", "hospital", "version")
        self.swaps = counter("homnet_model_swaps", "Times a model began to answer for a hospital")
        self.rejected = counter(
            "homnet_models_rejected", "Models that failed their checks", "hospital"
        )
        self.registry_errors = counter("homnet_registry_errors", "Failed reads of the registry")
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

    def exposition(self) -> str:
        """The metrics of this process in text format."""
        return generate_latest(self.registry).decode()


def exposition_of_replicas(expositions: Iterable[tuple[str, str]]) -> bytes:
    """Merges the metrics of all replicas into the text that Prometheus scrapes.

    Args:
        expositions: name and text of :meth:`Metrics.exposition` of each replica.
    """
    families: dict[str, Metric] = {}
    for replica, text in expositions:
        for family in text_string_to_metric_families(text):
            merged = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "replica": replica}))
    registry = CollectorRegistry()
    registry.register(_Families(tuple(families.values())))
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class _Families(Collector):
    """Metrics collected by other replicas. Compared by identity, as a registry requires."""

    families: tuple[Metric, ...]

    def collect(self) -> Iterator[Metric]:
        yield from self.families
