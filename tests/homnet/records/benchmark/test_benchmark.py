"""The yardstick gives the same logits, timing takes turns, and a small benchmark holds together."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from homnet.errors import ConfigError
from homnet.model.network import HomNet, HomNetConfig, best_form, paper_form
from homnet.records.benchmark.figures import draw_scaling
from homnet.records.benchmark.looped import LoopedHomNet
from homnet.records.benchmark.run import BenchmarkConfig, benchmark
from homnet.records.benchmark.timing import in_turns, quantiles, ratio

SMALL = HomNetConfig(merge_range=73, width=6, pair_width=10, num_heads=3)


@pytest.mark.parametrize("attention", ["softmax", "ratio"])
def test_the_looped_model_gives_the_same_logits(attention: str) -> None:
    torch.manual_seed(0)
    model = HomNet(replace(SMALL, attention=attention)).eval()  # type: ignore[arg-type]
    x = torch.randint(0, 256, (3, 5, 2, 2, 512), dtype=torch.uint8)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    bags = (x, mask, torch.tensor([0, 4, 23]), torch.randint(0, 4, (3, 5)))
    torch.testing.assert_close(LoopedHomNet(model)(*bags), model(*bags), rtol=1e-4, atol=1e-5)


def test_the_looped_model_knows_the_papers_form_only() -> None:
    with pytest.raises(ConfigError, match="paper's form"):
        LoopedHomNet(HomNet(best_form()))
    with pytest.raises(ConfigError, match="paper's form"):
        LoopedHomNet(HomNet(replace(SMALL, symmetric=True)))


def test_tasks_take_turns() -> None:
    order: list[str] = []
    tasks = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = in_turns(tasks, repeats=2, device=torch.device("cpu"), warm_up=1)
    assert order == list("ababab")
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_of_the_same_rounds() -> None:
    assert ratio([2.0, 8.0, 6.0], [1.0, 4.0, 2.0])["p50"] == 2.0
    assert quantiles([1.0, 2.0, 9.0])["p50"] == 2.0


@pytest.mark.slow
def test_a_small_benchmark(tmp_path: Path) -> None:
    config = BenchmarkConfig(
        output=tmp_path,
        model=replace(paper_form(), width=8, pair_width=12),
        batch_size=8,
        num_cells=3,
        num_pairs=200,
        num_patients=2,
        repeats=3,
        compile=False,
        device="cpu",
    )
    figures = benchmark(config)
    training = figures["training"]
    assert set(training["seconds"]) >= {"looped", "batched", "batched, batch in memory"}
    assert 0 < training["share_of_matrix_peak"] < 1
    assert training["times_as_fast_as_looped"]["batched"]["p50"] > 0  # how fast is no test's matter
    patient = figures["patient"]
    assert patient["num_pairs"] == 69
    assert patient["largest_change_of_score"]["looped"] < 1e-5
    assert 0 < patient["largest_change_of_score"]["eager, bfloat16"] < 0.05
    assert figures["memory_gib"]["training_cpu"] > 0.1
    assert {entry["what"] for entry in figures["scaling"]} == {
        "merge range",
        "cells per bag",
        "bags per batch",
    }
    assert "aten::" in (tmp_path / "profile.txt").read_text()
    draw_scaling(figures, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 5000


def test_it_imports_no_ray() -> None:
    code = (
        "import sys, homnet.records.benchmark.run, homnet_platform.job; "
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("change", [{"repeats": 1}, {"batch_size": 0}])
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BenchmarkConfig(**change)  # type: ignore[arg-type]
