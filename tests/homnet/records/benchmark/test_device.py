"""The benchmark of a device: the same fields everywhere, whatever fits into its time."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from homnet.errors import ConfigError
from homnet.model.network import HomNetConfig, best_form
from homnet.records.benchmark import device
from homnet.records.benchmark.device import (
    FIELDS,
    PRECISIONS,
    DeviceBenchmarkConfig,
    device_benchmark,
)

SMALL = {
    "paper": HomNetConfig(merge_range=128, width=4, pair_width=6, num_heads=2, attention="ratio"),
    "best": replace(best_form(128), width=4, pair_width=6, num_heads=2),
}
NUM_PATIENTS, PASSES = (1, 2), (23, 31)
CONFIG = DeviceBenchmarkConfig(device="cpu", budget_s=3, batch_size=8, num_batches=3, num_cells=2)
PLACES = {
    *product(["training"], SMALL, PRECISIONS, ["eager", "compiled"]),
    *product(["patients"], SMALL, PRECISIONS, ["1"], ["eager", "compiled"]),
    *product(["patients"], SMALL, PRECISIONS, ["2"], ["eager"]),
    *product(["passes"], SMALL, PRECISIONS, map(str, PASSES)),
}


def _leaves(figures: dict[str, Any], *place: str) -> dict[tuple[str, ...], dict[str, Any]]:
    if set(figures) == set(FIELDS):
        return {place: figures}
    found = {}
    for key, value in figures.items():
        assert isinstance(value, dict), f"{place} {key}: not a leaf with all fields"
        found |= _leaves(value, *place, key)
    return found


class _Uncompiled(torch.nn.Module):
    """What torch makes of a model where there is no compiler: it fails when it is called."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no compiler")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(device, "FORMS", SMALL)
    monkeypatch.setattr(device, "PASSES", PASSES)
    monkeypatch.setattr(device, "NUM_PATIENTS", NUM_PATIENTS)
    monkeypatch.setattr(
        device,
        "limits",
        lambda _: {"float32_gflop_per_s": 1.0, "bfloat16_gflop_per_s": 2.0, "copy_gib_per_s": 4.0},
    )
    return monkeypatch


@pytest.mark.slow
@pytest.mark.parametrize(
    "compiles",
    ["at once", "not in time", "never"],
)
def test_every_leaf_is_there_with_the_same_fields(small: pytest.MonkeyPatch, compiles: str) -> None:
    def compile_model(model: torch.nn.Module, **_: Any) -> torch.nn.Module:
        return _Uncompiled(model) if compiles == "never" else model

    small.setattr(torch, "compile", compile_model)
    small.setattr(device, "_COMPILATION_S", 1e9 if compiles == "not in time" else 0.0)
    small.setattr(device, "_time_left", lambda *_: 1.0)
    figures = device_benchmark(CONFIG)
    assert set(figures) == {
        *("device", "threads", "settings", "limits", "training", "patients", "passes"),
        "peak_memory_gib",
    }
    parts = {name: figures[name] for name in ("training", "patients", "passes")}
    leaves = _leaves(parts)
    assert set(leaves) == PLACES
    for place, leaf in leaves.items():
        if place[-1] == "compiled" and compiles != "at once":
            assert leaf["skipped"]
            assert set(leaf.values()) == {None, leaf["skipped"]}
            continue
        assert leaf["skipped"] is None, place
        assert 0 < leaf["share_measured"] <= 1
        assert leaf["share_of_roofline"] >= leaf["share_of_peak"] > 0
        assert leaf["bytes"] > 0


def test_the_work_is_scaled_and_its_share_said(small: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    clock = iter(range(10_000))
    small.setattr(device.time, "perf_counter", lambda: float(next(clock)))
    task = device._Task(("a",), "float32", whole=100, least=5, step=10, do=asked.append, share=1)
    # Every call takes a second: 4 s of 8 are for a round, 20 bags of a second each 5.
    found = device._measured(task, 8.0, torch.device("cpu"))
    assert set(asked) == {5, 20}
    assert found["share_measured"] == 0.2
    assert found["seconds"] == 5.0


def test_bytes_of_views_do_not_count() -> None:
    x = torch.zeros(10, 20)
    with device._Traffic() as traffic:
        y = x.view(200).expand(3, 200)
        y + 1  # reads 800 bytes, not 2,400, and writes 2,400
    assert traffic.total == 800 + 2400


def test_the_sizes_are_those_of_the_endpoint() -> None:
    assert (device.NUM_PATIENTS, device.PASSES) == ((1, 1000), (23, 184, 1000, 10_000))


@pytest.mark.parametrize("change", [{"budget_s": 0}, {"device": "cuda"}])
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    if change == {"device": "cuda"} and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError):
        DeviceBenchmarkConfig(**change)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "homnet.records.benchmark", "--budget-s", "-1"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("error: budget_s")


def test_it_needs_little() -> None:
    code = (
        "import sys, homnet.records.benchmark.device as _; "
        "print([n for n in ('ray', 'scipy', 'sklearn', 'skimage', 'matplotlib', 'safetensors')"
        " if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout.replace("'", '"')) == []
