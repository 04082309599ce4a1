"""A replica has made its largest passes before it is ready."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from homnet.bags.assessment import assess
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet_serve import service, warm_up
from homnet_serve.batching import ReadWork, ScoreWork
from homnet_serve.metrics import Metrics
from homnet_serve.store import ModelStore

TableOf = Callable[..., pa.Table]


@pytest.mark.parametrize("num_bags", [1, 100])
def test_all_models_and_readers_take_part_in_a_full_pass(
    start_endpoint: Any,
    tmp_path: Path,
    table_of: TableOf,
    findings: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_bags: int,
) -> None:
    endpoint = start_endpoint(tmp_path, findings=str(findings))
    served = endpoint.service.store.loaded()
    checkpoint = endpoint.checkpoints["h1"]
    table = reference_bags(Predictor.of_checkpoint(checkpoint), table_of(num_patients=1))
    scored: list[Sequence[ScoreWork]] = []
    read: list[Sequence[ReadWork]] = []
    monkeypatch.setattr(warm_up, "score", scored.append)
    monkeypatch.setattr(warm_up, "read", read.append)
    warm_up.warm_up(served, table, num_bags=num_bags, num_types=50)
    num_types = len(assess(table).types)
    first, full = scored
    assert sum(map(len, first)) == num_types
    assert num_bags <= sum(map(len, full)) < max(num_bags, 2 * num_types) + num_types
    asked = {predictor for work in full for predictor in work.predictor_B}
    assert asked == {one.predictor for one in served}
    assert sum(map(len, read[1])) >= 50


@pytest.mark.parametrize("stored", [True, False])
def test_the_warm_up_is_over_before_the_replica_is_ready(
    start_endpoint: Any,
    tmp_path: Path,
    table_of: TableOf,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stored: bool,
) -> None:
    endpoint = start_endpoint(tmp_path, run=False, max_bags=50)
    checkpoint: Checkpoint = endpoint.checkpoints["h2"]
    if stored:
        table = reference_bags(Predictor.of_checkpoint(checkpoint), table_of("h2", num_patients=1))
        version = endpoint.registry.promoted("h2").version
        endpoint.registry.keep_reference_bags(version, table)
        endpoint.registry.promote("h2", version)
    seen: list[tuple[bool, str]] = []
    real = service.warm_up

    def spy(*args: Any, **options: Any) -> None:
        seen.append((endpoint.service.ready, threading.current_thread().name))
        assert options["num_bags"] == 50
        real(*args, **options)

    monkeypatch.setattr(service, "warm_up", spy)
    caplog.set_level("INFO")
    endpoint.run(endpoint.service.start())
    assert endpoint.service.ready
    assert seen == ([(False, "homnet-pass_0")] if stored else [])
    assert ("no_warm_up" in caplog.messages) != stored
    endpoint.run(endpoint.service.close())


def test_reference_bags_of_any_loaded_model_will_do(
    start_endpoint: Any, tmp_path: Path, table_of: TableOf
) -> None:
    endpoint = start_endpoint(tmp_path, run=False)
    store = ModelStore(endpoint.registry, Metrics())
    store.refresh()
    assert store.reference_bags() is None
    predictor = Predictor.of_checkpoint(endpoint.checkpoints["h2"])
    table = reference_bags(predictor, table_of())
    endpoint.registry.keep_reference_bags(endpoint.registry.promoted("h2").version, table)
    assert store.reference_bags().equals(table)  # type: ignore[union-attr]
