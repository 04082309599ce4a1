"""What Prometheus gets: every replica's own counts, none of them twice."""

from prometheus_client.parser import text_string_to_metric_families

from homnet_serve.metrics import Metrics, exposition_of_replicas


def _samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = [sample for one in text_string_to_metric_families(text) for sample in one.samples]
    samples = {(s.name, frozenset(s.labels.items())): s.value for s in found}
    assert len(samples) == len(found), "a series is there twice"
    return samples


def test_samples_of_all_replicas_keep_apart() -> None:
    replicas = {"a": Metrics(), "b": Metrics()}
    for number, metrics in enumerate(replicas.values(), 1):
        metrics.requests.labels("/v1/diagnose", "200").inc(number)
        metrics.request_seconds.labels("/v1/diagnose").observe(0.02)
        metrics.waiting_items.labels("score").set(10 * number)
    replicas["b"].models.labels("h1", "v").set(1)
    content = exposition_of_replicas(
        [(name, metrics.exposition()) for name, metrics in replicas.items()]
    ).decode()
    samples = _samples(content)
    for number, name in enumerate(replicas, 1):
        own = {
            (series, labels - {("replica", name)}): value
            for (series, labels), value in samples.items()
            if ("replica", name) in labels
        }
        assert own == _samples(replicas[name].exposition())
        route = frozenset({"route": "/v1/diagnose", "status": "200"}.items())
        assert own["homnet_requests_total", route] == number
        assert own["homnet_waiting_items", frozenset({("step", "score")})] == 10 * number
    # Prometheus wants one block for each metric.
    types = [line.split()[2] for line in content.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
