"""Model of the time of a data-parallel step on n workers, and of the cost of a full run.

A global batch of B bags is split over n workers, and their gradients are summed over the network:

    compute(n) = ceil(B / n) * bag_s              proportional to a worker's bags
    fixed      = fixed_s                          optimizer, launches: independent of the batch
    reduce(n)  = 2 (n - 1) * latency_s + 2 (n - 1) / n * gradient_bytes / bytes_per_s

The last line is the ring all-reduce (Patarasuk and Yuan 2009, doi 10.1016/j.jpdc.2008.09.002). A
step lasts at most the sum of the three, when nothing overlaps, and at least the longest of them.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from homnet.errors import ConfigError, DataError

_SCORING: float = 1 / 3
"""Cost of scoring a bag, in training steps: a backward pass takes as long as two forward ones."""


@dataclass(frozen=True)
class Network:
    """The network that connects the workers."""

    latency_s: float
    """Seconds per hop of an empty message."""
    bytes_per_s: float
    """Bytes per second sent by one worker."""

    @classmethod
    def fitted(cls, seconds: Mapping[int, float], num_workers: int) -> Self:
        """Fits a network to measured times of all-reduces.

        Args:
            seconds: by payload in bytes; the smallest gives the latency, the largest the bandwidth.
            num_workers: number of workers in the measurement.

        Raises:
            DataError: the larger payload was not slower, or there is only one payload.
        """
        small, large = min(seconds, default=0), max(seconds, default=0)
        longer = seconds.get(large, 0.0) - seconds.get(small, 0.0)
        if num_workers < 2 or longer <= 0:
            raise DataError(
                f"all-reduces of {small} and {large} bytes between {num_workers} workers do not "
                "tell a bandwidth; measure larger payloads on a quieter machine"
            )
        hops = 2 * (num_workers - 1)
        return cls(
            latency_s=seconds[small] / hops,
            bytes_per_s=hops / num_workers * (large - small) / longer,
        )

    def all_reduce_s(self, num_workers: int, num_bytes: int) -> float:
        """Seconds until every worker has the sum."""
        hops = 2 * (num_workers - 1)
        return hops * self.latency_s + hops / num_workers * num_bytes / self.bytes_per_s


@dataclass(frozen=True)
class StepModel:
    """Time of a training step as a function of the number of workers and the batch size."""

    bag_s: float
    """Seconds per bag on one worker, forward and backward."""
    fixed_s: float
    """Seconds per step, independent of the batch."""
    gradient_bytes: int
    """Bytes that are summed over the workers in each step."""
    network: Network
    """The network that connects the workers."""

    def parts(self, num_workers: int, batch_size: int) -> dict[str, float]:
        """Seconds of ``compute``, ``fixed`` and ``all_reduce`` in one step."""
        return {
            "compute": math.ceil(batch_size / num_workers) * self.bag_s,
            "fixed": self.fixed_s,
            "all_reduce": self.network.all_reduce_s(num_workers, self.gradient_bytes),
        }

    def step_s(self, num_workers: int, batch_size: int, *, overlap: bool = False) -> float:
        """Seconds per step: the sum of its parts, or the longest part if all overlap."""
        parts = self.parts(num_workers, batch_size).values()
        return max(parts) if overlap else sum(parts)

    def bags_per_s(self, num_workers: int, batch_size: int, *, overlap: bool = False) -> float:
        """Bags per second over all workers."""
        return batch_size / self.step_s(num_workers, batch_size, overlap=overlap)

    def scaled(self, work: float) -> Self:
        """The same machine with a model that costs ``work`` times as much per bag."""
        return dataclasses.replace(self, bag_s=work * self.bag_s)


@dataclass(frozen=True)
class GpuOptions:
    """An unmeasured GPU: all values are assumptions. Without a peak, nothing is reported."""

    name: str = ""
    """Name of the GPU, with the precision of the peak."""
    peak_flop_per_s: float = 0.0
    """Peak of matrix products in FLOP/s, from its data sheet."""
    share_of_peak: float = 0.0
    """Share of it that the model reaches; on a CPU, the benchmark's ``share_of_matrix_peak``."""
    launch_s: float = 1e-5
    """Host seconds per operator: an order of magnitude for PyTorch without compilation."""
    bytes_per_s: float = 300e9
    """One-way bytes/s between GPUs: half of an A100 NVLink's 600 GB/s (NVIDIA's data sheet)."""
    latency_s: float = 1e-5
    """Seconds per hop: an order of magnitude for small NCCL messages within a node."""

    def __post_init__(self) -> None:
        if self.peak_flop_per_s and not (0 < self.share_of_peak <= 1 and self.name):
            raise ConfigError(
                "a GPU with peak_flop_per_s also needs its name and a share_of_peak in (0, 1]: "
                "nobody reaches the data sheet"
            )
        if min(self.launch_s, self.latency_s) < 0 or self.bytes_per_s <= 0:
            raise ConfigError("a GPU's launch_s, latency_s and bytes_per_s must be above zero")

    def step_model(self, *, flops_per_bag: float, operators: int, gradient_bytes: int) -> StepModel:
        """Step model for the given FLOPs per bag, operators per step and bytes of gradient."""
        return StepModel(
            bag_s=flops_per_bag / (self.peak_flop_per_s * self.share_of_peak),
            fixed_s=operators * self.launch_s,
            gradient_bytes=gradient_bytes,
            network=Network(self.latency_s, self.bytes_per_s),
        )


def fit_step(seconds: Mapping[int, float]) -> tuple[float, float]:
    """Seconds per bag and fixed seconds per step, fitted to steps of one worker.

    Args:
        seconds: seconds per step by batch size; at least two sizes.

    Raises:
        DataError: a larger batch was not slower.
    """
    if len(seconds) < 2:
        raise DataError("two batch sizes are needed to tell the fixed part of a step from the rest")
    bag_s, fixed_s = np.polyfit(list(seconds), list(seconds.values()), 1)
    if fixed_s < 0:  # noise: assume that all time grows with the batch
        bag_s, fixed_s = sum(seconds.values()) / sum(seconds), 0.0
    if bag_s <= 0:
        raise DataError(
            "larger batches took no longer, so the machine was busy with something else; measure "
            "again with more steps"
        )
    return float(bag_s), float(fixed_s)


@dataclass(frozen=True)
class FullRun:
    """The paper's whole experiment, with our assumptions where the paper does not state a value."""

    healthy_people: int = 1581
    """Number of people in the pre-training (paper, section 2.1)."""
    patients: tuple[int, ...] = (24, 27, 30, 21)
    """Number of patients per hospital (paper, Table 1)."""
    pretraining_share: float = 0.9
    """Training share of the healthy people; the rest is for validation (paper: 9:1)."""
    fine_tuning_share: float = 0.2
    """Training share of a hospital's patients (paper: train to test 1:4)."""
    batch_size: int = 512
    """Bags per step over all workers (paper: 512)."""
    epochs: int = 100
    """Epochs per pre-training. The paper stops after 10 epochs without improvement but does not
    report the epoch; this is the maximum of our recipe."""
    fine_tuning_epochs: int = 100
    """Epochs per fine-tuning; as above."""
    fine_tuning_rounds: int = 4
    """Number of times that a pair is used per epoch of fine-tuning (our recipe)."""
    validation_rounds: int = 4
    """Number of times that a validation pair is used (our recipe)."""
    merge_ranges: tuple[int, ...] = (8, 16, 32, 48, 64)
    """Merge ranges of the sweep; with the rates below, 45 trials of four hospitals each."""
    pretraining_rates: int = 3
    """Number of pre-training learning rates in the sweep; each pre-training is done once."""
    fine_tuning_rates: int = 3
    """Number of fine-tuning learning rates in the sweep."""
    pruned: float = 0.0
    """Share of the sweep's epochs saved by early stopping of poor trials."""
    epoch_s: float = 2.0
    """Seconds per epoch besides steps and validation. A report waits for the next poll of Ray
    Train's controller, 2 s by default (``RAY_TRAIN_HEALTH_CHECK_INTERVAL_S``, Ray 2.60)."""

    def __post_init__(self) -> None:
        counts = (self.healthy_people, self.batch_size, self.epochs, self.fine_tuning_epochs)
        if min(*counts, *self.patients) < 1 or not self.merge_ranges:
            raise ConfigError("people, batch size, epochs and merge ranges must be above zero")
        if not (0 < self.pretraining_share <= 1 and 0 < self.fine_tuning_share <= 1):
            raise ConfigError("pretraining_share and fine_tuning_share must be in (0, 1]")
        if not 0 <= self.pruned < 1 or self.epoch_s < 0:
            raise ConfigError(
                f"pruned must be in [0, 1) and epoch_s at least 0, got {self.pruned} and "
                f"{self.epoch_s}"
            )


@dataclass(frozen=True)
class Training:
    """One training run."""

    epochs: int
    bags: int
    """Training bags per epoch."""
    validation_bags: int
    """Bags scored after each epoch."""
    epoch_s: float
    """Seconds per epoch besides training and scoring."""

    def seconds(
        self, model: StepModel, num_workers: int, batch_size: int, *, overlap: bool = False
    ) -> float:
        """Seconds of the run, without its start and its checkpoints."""
        steps = math.ceil(self.bags / batch_size)
        scoring = math.ceil(self.validation_bags / num_workers) * model.bag_s * _SCORING
        return self.epochs * (
            steps * model.step_s(num_workers, batch_size, overlap=overlap) + scoring + self.epoch_s
        )


def pretraining(run: FullRun, bags_per_person: float) -> Training:
    """The pre-training, given the number of bags per person in one round."""
    everybody = run.healthy_people * bags_per_person
    return Training(
        epochs=run.epochs,
        bags=round(everybody * run.pretraining_share),
        validation_bags=round(everybody * (1 - run.pretraining_share) * run.validation_rounds),
        epoch_s=run.epoch_s,
    )


def fine_tunings(run: FullRun, bags_per_patient: float) -> list[Training]:
    """One training per hospital; the few validation patients are counted as training patients."""
    return [
        Training(
            epochs=run.fine_tuning_epochs,
            bags=round(
                patients * run.fine_tuning_share * bags_per_patient * run.fine_tuning_rounds
            ),
            validation_bags=0,
            epoch_s=run.epoch_s,
        )
        for patients in run.patients
    ]


def full_run_s(
    run: FullRun,
    model: StepModel,
    num_workers: int,
    *,
    bags_per_person: float,
    bags_per_patient: float,
    work_of: Mapping[int, float],
    overlap: bool = False,
) -> dict[str, float]:
    """Seconds of the pre-training, all fine-tunings and the sweep on n workers.

    Pre-training and fine-tuning split each batch over the workers. Each trial of the sweep runs on
    one worker.

    Args:
        run: the full run.
        model: time of a step.
        num_workers: number of workers, for example GPUs.
        bags_per_person: number of bags of a healthy person in one round.
        bags_per_patient: number of bags of a patient in one round.
        work_of: cost per bag by merge range, relative to the merge range of ``model``.
        overlap: returns the lower bound instead of the upper one.
    """

    def seconds(trainings: Iterable[Training], model: StepModel, workers: int) -> float:
        return sum(t.seconds(model, workers, run.batch_size, overlap=overlap) for t in trainings)

    first, second = pretraining(run, bags_per_person), fine_tunings(run, bags_per_patient)

    def trials() -> Iterator[float]:
        for merge_range in run.merge_ranges:
            one = model.scaled(work_of[merge_range])
            pretrained = run.pretraining_rates
            yield from [seconds([first], one, 1)] * pretrained
            yield from [seconds(second, one, 1)] * (pretrained * run.fine_tuning_rates)

    times = list(trials())
    # Perfectly balanced, but no shorter than the longest trial.
    sweep = max(sum(times) * (1 - run.pruned) / num_workers, max(times))
    return {
        "pre-training": seconds([first], model, num_workers),
        "fine-tuning": seconds(second, model, num_workers),
        "sweep": sweep,
    }
