"""The model of data-parallel steps against arithmetic by hand, and what it must obey."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homnet.errors import ConfigError, DataError
from homnet.model.network import flops_per_bag, paper_form
from homnet.records.benchmark.cost import num_operators, training_flops_per_bag
from homnet.records.benchmark.data_parallel import (
    FullRun,
    GpuOptions,
    Network,
    StepModel,
    Training,
    fine_tunings,
    fit_step,
    full_run_s,
    pretraining,
)

NETWORK = Network(latency_s=0.001, bytes_per_s=1e6)
MODEL = StepModel(bag_s=0.01, fixed_s=0.5, gradient_bytes=300_000, network=NETWORK)


def test_a_ring_sends_almost_two_gradients_whatever_its_size() -> None:
    assert NETWORK.all_reduce_s(1, 300_000) == 0
    # Two workers: two hops, each half of the bytes.
    assert NETWORK.all_reduce_s(2, 300_000) == pytest.approx(2 * 0.001 + 0.3)
    assert NETWORK.all_reduce_s(3, 300_000) == pytest.approx(4 * 0.001 + 0.4)


@given(workers=st.integers(2, 16), latency=st.floats(1e-6, 1e-2), rate=st.floats(1e5, 1e11))
def test_a_network_is_found_again_from_its_all_reduces(
    workers: int, latency: float, rate: float
) -> None:
    truth = Network(latency, rate)
    # A payload of nothing tells the latency; one of many bytes the rate.
    payloads = (0, int(rate))
    found = Network.fitted({b: truth.all_reduce_s(workers, b) for b in payloads}, workers)
    assert found.latency_s == pytest.approx(latency, rel=1e-6)
    assert found.bytes_per_s == pytest.approx(rate, rel=1e-3)


def test_all_reduces_that_tell_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="do not tell a bandwidth"):
        Network.fitted({4: 0.002, 4000: 0.001}, 2)
    with pytest.raises(DataError, match="between 1 workers"):
        Network.fitted({4: 0.001, 4000: 0.002}, 1)


def test_a_step_lasts_between_its_longest_part_and_their_sum() -> None:
    # 7 bags over 2 workers: the slower one has 4.
    parts = MODEL.parts(2, 7)
    assert parts == pytest.approx({"compute": 0.04, "fixed": 0.5, "all_reduce": 0.302})
    assert MODEL.step_s(2, 7) == pytest.approx(0.842)
    assert MODEL.step_s(2, 7, overlap=True) == pytest.approx(0.5)
    assert MODEL.bags_per_s(2, 7) == pytest.approx(7 / 0.842)


@given(
    workers=st.integers(1, 64),
    batch=st.integers(64, 4096),
    bag_s=st.floats(1e-6, 1),
    fixed_s=st.floats(0, 1),
)
def test_more_workers_never_beat_as_many_times_the_speed(
    workers: int, batch: int, bag_s: float, fixed_s: float
) -> None:
    model = replace(MODEL, bag_s=bag_s, fixed_s=fixed_s)
    one, several = model.step_s(1, batch), model.step_s(workers, batch)
    assert several >= one / workers * (1 - 1e-9)
    assert model.step_s(workers, batch, overlap=True) <= several


@given(bag_s=st.floats(1e-6, 1), fixed_s=st.floats(0, 10))
def test_a_step_is_found_again_from_two_batch_sizes(bag_s: float, fixed_s: float) -> None:
    found = fit_step({size: size * bag_s + fixed_s for size in (64, 128)})
    assert found[0] == pytest.approx(bag_s, rel=1e-3, abs=1e-9)
    assert found[1] == pytest.approx(fixed_s, rel=1e-3, abs=1e-6)


def test_noise_gives_no_negative_fixed_part() -> None:
    # A line through both would start at -0.2 s.
    assert fit_step({100: 0.8, 200: 1.8}) == (pytest.approx(2.6 / 300), 0.0)
    with pytest.raises(DataError, match="larger batches took no longer"):
        fit_step({100: 1.8, 200: 0.8})
    with pytest.raises(DataError, match="two batch sizes"):
        fit_step({100: 1.0})


def test_a_run_is_its_steps_its_validation_and_its_epochs() -> None:
    run = Training(epochs=3, bags=21, validation_bags=12, epoch_s=2.0)
    # 3 steps of 10 bags at most, 4 bags scored by each of 3 workers at a third of the price.
    by_hand = 3 * (3 * MODEL.step_s(3, 10) + 4 * 0.01 / 3 + 2.0)
    assert run.seconds(MODEL, 3, 10) == pytest.approx(by_hand)


def test_the_papers_run_has_the_papers_people() -> None:
    run = FullRun(validation_rounds=4)
    # 6.3 pairs of each of 23 types are about two bags of each: 46 bags a person.
    first = pretraining(run, 46.0)
    assert (first.bags, first.validation_bags) == (65453, 29090)
    tuned = fine_tunings(replace(run, patients=(10, 20)), 69.0)
    assert [one.bags for one in tuned] == [552, 1104]


def test_a_sweep_is_shared_out_until_its_longest_trial_is_left() -> None:
    run = FullRun(
        merge_ranges=(8, 32), pretraining_rates=2, fine_tuning_rates=3, patients=(10,), epoch_s=0
    )
    bags = {"bags_per_person": 1.0, "bags_per_patient": 5.0, "work_of": {8: 4.0, 32: 1.0}}
    hours = {n: full_run_s(run, MODEL, n, **bags) for n in (1, 2, 1000)}  # type: ignore[arg-type]
    first, (second,) = pretraining(run, 1.0), fine_tunings(run, 5.0)
    trials = [
        t.seconds(MODEL.scaled(work), 1, 512)
        for work in (4.0, 1.0)
        for t in (first, first, *[second] * 6)
    ]
    assert hours[1]["sweep"] == pytest.approx(sum(trials))
    assert hours[2]["sweep"] == pytest.approx(sum(trials) / 2)
    assert hours[1000]["sweep"] == pytest.approx(max(trials))
    assert hours[1]["pre-training"] == pytest.approx(first.seconds(MODEL, 1, 512))
    half = full_run_s(replace(run, pruned=0.5), MODEL, 1, **bags)  # type: ignore[arg-type]
    assert half["sweep"] == pytest.approx(sum(trials) / 2)
    assert half["fine-tuning"] == hours[1]["fine-tuning"]


def test_a_gpu_is_what_was_stated_of_it() -> None:
    gpu = GpuOptions("G", peak_flop_per_s=1e13, share_of_peak=0.1, launch_s=1e-5)
    model = gpu.step_model(flops_per_bag=7e7, operators=800, gradient_bytes=4)
    assert model.bag_s == pytest.approx(7e-5)
    assert model.fixed_s == pytest.approx(8e-3)
    with pytest.raises(ConfigError, match="nobody reaches the data sheet"):
        GpuOptions("G", peak_flop_per_s=1e13)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretraining_share": 0.0}, "pretraining_share"),
        ({"pruned": 1.0}, "pruned"),
        ({"epochs": 0}, "above zero"),
        ({"merge_ranges": ()}, "above zero"),
    ],
)
def test_impossible_runs_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(FullRun(), **changes)


def test_both_passes_are_about_three_times_the_forward_one() -> None:
    # Not quite: no gradient of the bag itself is needed.
    config = paper_form()
    forward = flops_per_bag(config, 4)
    assert 2.8 * forward < training_flops_per_bag(config, 4) < 3 * forward
    # What is launched does not depend on how many pairs there are.
    assert num_operators(config, 4) == num_operators(config, 2) > 100
