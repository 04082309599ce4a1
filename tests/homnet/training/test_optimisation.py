"""The parts of a training loop."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank, LoadedEpoch, draw_epoch
from homnet.errors import CheckpointError, ConfigError
from homnet.model.network import HomNet, HomNetConfig
from homnet.training.optimisation import (
    EarlyStopping,
    TrainingConfig,
    Weights,
    descend,
    learning_rate_at,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    train_step,
)

TableOf = Callable[..., pa.Table]
MODEL = HomNetConfig(width=8, pair_width=12)


@pytest.fixture
def drawn(table_of: TableOf) -> LoadedEpoch:
    bank = PairBank.from_table(table_of())
    config = TrainingConfig()
    epoch = draw_epoch(bank, BagConfig(num_cells=3), config.events, seed=0, epoch=0)
    return DeviceBank(bank, "cpu").load(epoch)


def _model() -> HomNet:
    torch.manual_seed(0)
    return HomNet(MODEL)


def _step(model: HomNet, optimizer: torch.optim.Optimizer, drawn: LoadedEpoch) -> float:
    batch = drawn.batch(slice(0, 64))
    scale = 1 / 64
    loss = train_step(model, optimizer, batch, learning_rate=3e-3, clip_norm=1.0, loss_scale=scale)
    return float(loss)


def test_steps_learn_a_fixed_batch(drawn: LoadedEpoch) -> None:
    model = _model()
    optimizer = make_optimizer(model, TrainingConfig())
    losses = [_step(model, optimizer, drawn) for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_loss_scale_makes_parts_add_up_to_the_global_batch(
    drawn: LoadedEpoch,
) -> None:
    """Averaged over two workers, gradients equal those of the whole batch, whatever the cut."""
    gradients = {}
    for name, parts in {"one": [slice(0, 64)], "two": [slice(0, 20), slice(20, 64)]}.items():
        model = _model()
        total = [torch.zeros_like(p) for p in model.parameters()]
        for part in parts:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            train_step(
                model,
                optimizer,
                drawn.batch(part),
                learning_rate=0.0,
                clip_norm=1e9,
                loss_scale=len(parts) / 64,
            )
            for sum_, parameter in zip(total, model.parameters(), strict=True):
                if parameter.grad is not None:
                    sum_ += parameter.grad / len(parts)
        gradients[name] = total
    for one, two in zip(gradients["one"], gradients["two"], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


class _Synchronised(nn.Module):
    """Counts the backward passes that workers would synchronise, as DDP decides."""

    def __init__(self, model: HomNet) -> None:
        super().__init__()
        self.model, self.alone, self.exchanges = model, False, 0

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.alone = True
        yield
        self.alone = False

    def forward(self, *bags: torch.Tensor) -> torch.Tensor:
        logit_B = self.model(*bags)
        logit_B.register_hook(self._count)
        return logit_B

    def _count(self, gradient: torch.Tensor) -> None:
        self.exchanges += not self.alone


def test_parts_that_fit_a_cache_add_up_to_the_batch(drawn: LoadedEpoch) -> None:
    found = {}
    for cpu_pairs in (None, 1, 30, 63, 10_000):
        model = _Synchronised(_model())
        loss = train_step(
            model,
            torch.optim.SGD(model.parameters(), lr=0.0),
            drawn.batch(slice(0, 64)),
            learning_rate=0.0,
            clip_norm=1e9,
            loss_scale=1 / 64,
            cpu_pairs=cpu_pairs,
        )
        assert model.exchanges == 1
        found[cpu_pairs] = [loss, *(p.grad for p in model.parameters())]
    whole = found.pop(None)
    for parts in found.values():
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_lower_precision_learns_the_same_with_full_weights(drawn: LoadedEpoch) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = _model()
        optimizer = make_optimizer(model, TrainingConfig())
        losses[precision] = [
            float(
                train_step(
                    model,
                    optimizer,
                    drawn.batch(slice(0, 64)),
                    learning_rate=3e-3,
                    clip_norm=1.0,
                    loss_scale=1 / 64,
                    precision=precision,  # type: ignore[arg-type]
                )
            )
            for _ in range(40)
        ]
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses["bfloat16"] != losses["float32"]
    # Later steps drift apart, as they do from any other rounding; both learn.
    assert losses["bfloat16"][:5] == pytest.approx(losses["float32"][:5], rel=0.03)
    assert all(of[-1] < 0.8 * of[0] for of in losses.values())


def test_frozen_parts_do_not_move(drawn: LoadedEpoch) -> None:
    model = _model()
    model.freeze_for_fine_tuning()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.1))
    for _ in range(3):
        _step(model, optimizer, drawn)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert not any(name.startswith(("cms.", "hom.alignments.0.")) for name in moved)


def test_only_matrices_decay() -> None:
    model = nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.5, weight_decay=0.2))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.weight, before["weight"] * (1 - 0.5 * 0.2))
    assert torch.equal(model.bias, before["bias"])


@pytest.mark.parametrize(("clip_norm", "moved"), [(0.1, 0.1), (10.0, 5.0)])
def test_a_large_gradient_is_scaled_down_to_the_largest_norm(
    clip_norm: float, moved: float
) -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    loss = (model.weight * torch.tensor([[3.0, 4.0]])).sum()  # a gradient of norm 5
    optimizer = torch.optim.SGD(model.parameters(), lr=9.0)
    descend(model, optimizer, [loss], learning_rate=1.0, clip_norm=clip_norm)
    step = before - model.weight.detach()
    torch.testing.assert_close(step, moved * torch.tensor([[0.6, 0.8]]))


def test_the_average_forgets_earlier_weights_at_the_decay() -> None:
    model = nn.Linear(1, 1, bias=False)
    weights = Weights(model, TrainingConfig(averaging=0.75))
    expected = []
    for value in (8.0, 4.0, 0.0):
        with torch.no_grad():
            model.weight.fill_(value)
        weights.average()
        expected.append(float(weights.copies()["weight"]))
    # The average begins with the weights after the first step.
    assert expected == pytest.approx([8.0, 0.75 * 8 + 0.25 * 4, 0.75 * 7 + 0.25 * 0])
    assert model.weight.item() == 0.0  # training goes on from the weights themselves


def test_without_averaging_the_weights_themselves_are_kept() -> None:
    model = nn.Linear(1, 1)
    weights = Weights(model, TrainingConfig(averaging=0.0))
    weights.average()
    assert weights.scored is model


def test_schedules() -> None:
    constant = TrainingConfig(learning_rate=0.5)
    assert {learning_rate_at(s, 100, constant) for s in range(100)} == {0.5}
    cosine = replace(constant, schedule="cosine")
    rates = [learning_rate_at(s, 100, cosine) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[5] == pytest.approx(0.5)
    assert rates[-1] < 0.01
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_early_stopping_counts_epochs_without_improvement() -> None:
    stopping = EarlyStopping(patience=2)
    seen = []
    for value in (0.5, 0.7, 0.7, 0.6):
        assert not stopping.stop
        seen.append(stopping.update(value))
    assert seen == [True, True, False, False]
    assert stopping.stop
    assert (stopping.best, stopping.since) == (0.7, 2)


def test_optimizer_state_survives_as_tensors(drawn: LoadedEpoch) -> None:
    """Three steps, or two and one after a restart: the same weights to the bit."""
    config = TrainingConfig(weight_decay=0.01)
    straight = _model()
    optimizer = make_optimizer(straight, config)
    for _ in range(2):
        _step(straight, optimizer, drawn)
    restarted = HomNet(MODEL)
    restarted.load_state_dict(straight.state_dict())
    restored = make_optimizer(restarted, config)
    restore_optimizer(restored, optimizer_tensors(optimizer))
    _step(straight, optimizer, drawn)
    _step(restarted, restored, drawn)
    for one, two in zip(straight.parameters(), restarted.parameters(), strict=True):
        assert torch.equal(one, two)


def test_state_of_another_model_is_refused(drawn: LoadedEpoch) -> None:
    model = _model()
    optimizer = make_optimizer(model, TrainingConfig())
    _step(model, optimizer, drawn)
    other = make_optimizer(HomNet(replace(MODEL, pair_width=9)), TrainingConfig())
    with pytest.raises(CheckpointError, match="does not fit this model"):
        restore_optimizer(other, optimizer_tensors(optimizer))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0},
        {"batch_size": 0},
        {"max_epochs": 0},
        {"averaging": 1.0},
        {"clip_norm": 0.0},
        {"learning_rate": math.nan},
        {"weight_decay": math.nan},
        {"patience": 0},
        {"labels": "artifical"},
        {"schedule": "linear"},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TrainingConfig(**change)  # type: ignore[arg-type]


def test_cohort_labels_need_bags_of_one_patient() -> None:
    with pytest.raises(ConfigError, match="mix patients"):
        TrainingConfig(labels="cohort", bags=BagConfig(over="people"))


def test_what_is_kept_of_a_model_on_a_gpu_is_on_the_cpu() -> None:
    # A driver without a GPU gets it. Fake tensors have a device and no content.
    with FakeTensorMode():
        model = nn.Module()
        model.weight = nn.Parameter(torch.empty(3, 2, device="cuda"))
        weights = Weights(model, TrainingConfig(averaging=0.0))
        model.weight.grad = torch.empty(3, 2, device="cuda")
        weights.optimizer.step()
        kept = {**weights.copies(), **weights.state()}
        assert {name: value.device.type for name, value in kept.items()} == {
            "weight": "cpu",
            "raw.weight": "cpu",
            "optimizer.0.step": "cpu",
            "optimizer.0.exp_avg": "cpu",
            "optimizer.0.exp_avg_sq": "cpu",
        }
