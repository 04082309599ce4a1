"""What an operator sees: counters and histograms in Prometheus' format, of this process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BAGS = (1, 8, 23, 46, 92, 184, 368, 736)


class Metrics:
    """All metrics of one endpoint, in a registry of their own. Nothing in them is of a patient."""

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
            "Requests that were refused, by the code of the answer",
            ["code"],
            registry=own,
        )
        self.models = Gauge(
            "homnet_model_info", "1: this model answers", ["hospital", "version"], registry=own
        )
        self.swaps = Counter("homnet_model_swaps", "Models that came to answer", registry=own)
        self.rejected = Counter(
            "homnet_models_rejected", "Models that were not let answer", ["hospital"], registry=own
        )
        self.registry_errors = Counter(
            "homnet_registry_errors", "Looks into the registry that failed", registry=own
        )
        self.shadow_types = Counter(
            "homnet_shadow_types",
            "Types a shadow model scored too",
            ["hospital"],
            registry=own,
        )
        self.shadow_changed = Counter(
            "homnet_shadow_verdicts_changed", "Of those, other verdicts", ["hospital"], registry=own
        )
        self.shadow_difference = Histogram(
            "homnet_shadow_probability_difference",
            "Absolute difference of probabilities",
            ["hospital"],
            buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0),
            registry=own,
        )
        self.shadow_skipped = Counter(
            "homnet_shadow_skipped", "Requests that no shadow model saw, to save time", registry=own
        )

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
