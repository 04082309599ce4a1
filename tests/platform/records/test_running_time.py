"""Seconds of all methods, one after the other."""

from dataclasses import replace

import pytest

from homnet.errors import ConfigError
from homnet.model.network import HomNetConfig
from homnet.records.beside_paper import HOMNET, running_time_markdown
from homnet_platform.records import running_time
from homnet_platform.records.method_trials import Method
from homnet_platform.records.plan import ReproduceConfig
from homnet_platform.records.running_time import time_methods


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_times_of_all_methods(
    config: ReproduceConfig,
    bench,
    small: HomNetConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(stage, bank, **_):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(running_time, "TIMED_BATCH", 8)
    methods = {
        "Floor": Method(replace(small, merge_range=128), bench.fit, in_steps=False),
        "Broken": Method(small, broken),
        HOMNET: Method(small, bench.fit),
    }
    found = time_methods(config, methods)
    floor, homnet = found["rows"]
    assert floor["train_100"] is None
    assert floor["converged"]
    assert min(homnet["train_100"]["p10"], homnet["score_100"]["p10"]) > 0
    assert homnet["convergence"] == 1.0
    assert homnet["numbers"] > 1_000
    assert homnet["epochs"] == len(homnet["curve"]) >= 4
    assert [one["name"] for one in found["failed"]] == ["Broken"]
    table = running_time_markdown(found)
    assert "| HomNet | " in table
    assert "| 5.39 | 2,468 |" in table
    assert "as they failed: Broken." in table
    assert "each training has 0.001 minutes of one core" in table
    bench.fits()
    assert time_methods(config, {HOMNET: methods[HOMNET]})["rows"] == [homnet]
    assert bench.fits() == []
    with pytest.raises(ConfigError, match="other settings"):
        time_methods(replace(config, num_batches=2), methods)
    with pytest.raises(ConfigError, match="timed on CPUs"):
        time_methods(replace(config, gpus_per_run=1.0), methods)
