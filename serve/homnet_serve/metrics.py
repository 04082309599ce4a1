"""Counters and histograms for the operator, in Prometheus' format.

Each process counts for itself. Every replica returns the metrics of all, each sample with the label
``replica``: a sum would fall whenever a replica ends, and Prometheus would take that for a counter
that starts again. Query ``sum by (route) (rate(homnet_requests_total[5m]))``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BAGS = (1, 8, 23, 46, 92, 184, 368, 736)


class Metrics:
    """The metrics of one process, in a registry of their own; none concerns a single patient."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter(
            "homnet_requests", "Requests by route and status", ["route", "status"], registry=own
        )
        self.request_seconds = Histogram(
            "homnet_request_seconds",
            "Seconds to an answer",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self.patients = Counter("homnet_patients", "Patients answered", ["hospital"], registry=own)
        self.flagged = Counter(
            "homnet_flagged_types", "Types called abnormal", ["hospital"], registry=own
        )
        self.batch_bags = Histogram(
            "homnet_batch_bags", "Bags of one pass", buckets=_BAGS, registry=own
        )
        self.batch_seconds = Histogram(
            "homnet_batch_seconds", "Seconds of one pass", buckets=_SECONDS, registry=own
        )
        self.waiting_bags = Gauge("homnet_waiting_bags", "Bags that wait for a pass", registry=own)
        self.refused = Counter(
            "homnet_refused",
            "Refused requests by the code of the answer",
            ["code"],
            registry=own,
        )
        self.models = Gauge(
            "homnet_model_info", "1: this model answers", ["hospital", "version"], registry=own
        )
        self.swaps = Counter(
            "homnet_model_swaps", "Times a model began to answer for a hospital", registry=own
        )
        self.rejected = Counter(
            "homnet_models_rejected", "Models that failed their checks", ["hospital"], registry=own
        )
        self.registry_errors = Counter(
            "homnet_registry_errors", "Failed reads of the registry", registry=own
        )
        self.shadow_types = Counter(
            "homnet_shadow_types",
            "Types that a shadow model scored too",
            ["hospital"],
            registry=own,
        )
        self.shadow_changed = Counter(
            "homnet_shadow_verdicts_changed",
            "Types with another verdict by the shadow model",
            ["hospital"],
            registry=own,
        )
        self.shadow_difference = Histogram(
            "homnet_shadow_probability_difference",
            "Absolute difference of probabilities",
            ["hospital"],
            buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0),
            registry=own,
        )
        self.shadow_skipped = Counter(
            "homnet_shadow_skipped",
            "Requests that no shadow model scored, to save time",
            registry=own,
        )

    def exposition(self) -> str:
        """The metrics of this process as text."""
        return generate_latest(self.registry).decode()


def exposition_of_replicas(expositions: Iterable[tuple[str, str]]) -> bytes:
    """The text that Prometheus scrapes.

    Args:
        expositions: for each replica its name and the text of :meth:`Metrics.exposition`.
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
    """Metrics that were collected elsewhere. Compared by identity, as a registry requires."""

    families: tuple[Metric, ...]

    def collect(self) -> Iterator[Metric]:
        yield from self.families
