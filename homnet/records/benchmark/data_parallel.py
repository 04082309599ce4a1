"""How long a data-parallel step takes on n workers, and what a full run costs: a model, pure.

A global batch of B bags is cut over n workers, and their gradients are summed over the network:

    compute(n) = ceil(B / n) * bag_s              what grows with a worker's bags
    fixed      = fixed_s                          optimizer, launches: whatever the batch
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
"""Work of scoring a bag, in training steps of it: a forward pass without the backward one, which
takes twice as much."""


@dataclass(frozen=True)
class Network:
    """What joins the workers."""

    latency_s: float
    """Seconds of one hop of a message without content."""
    bytes_per_s: float
    """Bytes that one worker sends in a second."""

    @classmethod
    def fitted(cls, seconds: Mapping[int, float], num_workers: int) -> Self:
        """The network on which all-reduces took so long.

        Args:
            seconds: by payload in bytes; the smallest tells the latency, the largest the bandwidth.
            num_workers: that took part.

        Raises:
            DataError: the larger payload was not slower, or there is only one.
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
    """A training step as a function of workers and batch."""

    bag_s: float
    """Seconds of one bag on one worker, forward and backward."""
    fixed_s: float
    """Seconds of a step whatever its batch."""
    gradient_bytes: int
    """Bytes that are summed over the workers in each step."""
    network: Network
    """What joins the workers."""

    def parts(self, num_workers: int, batch_size: int) -> dict[str, float]:
        """Seconds of compute, fixed and all_reduce of one step."""
        return {
            "compute": math.ceil(batch_size / num_workers) * self.bag_s,
            "fixed": self.fixed_s,
            "all_reduce": self.network.all_reduce_s(num_workers, self.gradient_bytes),
        }

    def step_s(self, num_workers: int, batch_size: int, *, overlap: bool = False) -> float:
        """Seconds of a step: the sum of its parts, or the longest where all overlap."""
        parts = self.parts(num_workers, batch_size).values()
        return max(parts) if overlap else sum(parts)

    def bags_per_s(self, num_workers: int, batch_size: int, *, overlap: bool = False) -> float:
        """Bags of all workers in a second."""
        return batch_size / self.step_s(num_workers, batch_size, overlap=overlap)

    def scaled(self, work: float) -> Self:
        """The same machine with a model that does ``work`` times as much for each bag."""
        return dataclasses.replace(self, bag_s=work * self.bag_s)


@dataclass(frozen=True)
class GpuOptions:
    """A GPU that was not measured: all of this is assumed. Without a peak, nothing is said."""

    name: str = ""
    """What it is, with the precision that the peak is for."""
    peak_flop_per_s: float = 0.0
    """Of matrix products, from its data sheet."""
    share_of_peak: float = 0.0
    """That the model reaches; on a CPU it is the benchmark's ``share_of_matrix_peak``."""
    launch_s: float = 1e-5
    """Of the host for each operator: an order of magnitude for PyTorch without compilation."""
    bytes_per_s: float = 300e9
    """Between GPUs, one way: half of the 600 GB/s of an A100's NVLink (NVIDIA's data sheet)."""
    latency_s: float = 1e-5
    """Of one hop: an order of magnitude for small messages of NCCL within a node."""

    def __post_init__(self) -> None:
        if self.peak_flop_per_s and not (0 < self.share_of_peak <= 1 and self.name):
            raise ConfigError(
                "a GPU with peak_flop_per_s also needs its name and a share_of_peak in (0, 1]: "
                "nobody reaches the data sheet"
            )
        if min(self.launch_s, self.latency_s) < 0 or self.bytes_per_s <= 0:
            raise ConfigError("a GPU's launch_s, latency_s and bytes_per_s must be above zero")

    def step_model(self, *, flops_per_bag: float, operators: int, gradient_bytes: int) -> StepModel:
        """Of a model with so much to compute for a bag and to launch for a step."""
        return StepModel(
            bag_s=flops_per_bag / (self.peak_flop_per_s * self.share_of_peak),
            fixed_s=operators * self.launch_s,
            gradient_bytes=gradient_bytes,
            network=Network(self.latency_s, self.bytes_per_s),
        )


def fit_step(seconds: Mapping[int, float]) -> tuple[float, float]:
    """Seconds of a bag and of a step's fixed part, from steps of one worker.

    Args:
        seconds: of a step, by batch size; at least two sizes.

    Raises:
        DataError: a larger batch was not slower.
    """
    if len(seconds) < 2:
        raise DataError("two batch sizes are needed to tell the fixed part of a step from the rest")
    bag_s, fixed_s = np.polyfit(list(seconds), list(seconds.values()), 1)
    if fixed_s < 0:  # noise: then all of it grows with the batch
        bag_s, fixed_s = sum(seconds.values()) / sum(seconds), 0.0
    if bag_s <= 0:
        raise DataError(
            "larger batches took no longer, so the machine was busy with something else; measure "
            "again with more steps"
        )
    return float(bag_s), float(fixed_s)


@dataclass(frozen=True)
class FullRun:
    """The paper's whole experiment, as far as it says it; what it does not say is assumed here."""

    healthy_people: int = 1581
    """People of the pre-training (paper, section 2.1)."""
    patients: tuple[int, ...] = (24, 27, 30, 21)
    """Patients of each hospital (paper, Table 1)."""
    pretraining_share: float = 0.9
    """Of the healthy people, learnt from; the rest validates (paper: 9:1)."""
    fine_tuning_share: float = 0.2
    """Of a hospital's patients, learnt from (paper: train to test 1:4)."""
    batch_size: int = 512
    """Bags of a step over all workers (paper: 512)."""
    epochs: int = 100
    """Of each pre-training. The paper stops after 10 epochs without improvement and does not say
    when that was; this is where our recipe ends at the latest."""
    fine_tuning_epochs: int = 100
    """Of each fine-tuning; as above."""
    fine_tuning_rounds: int = 4
    """How often a pair is used in an epoch of fine-tuning (our recipe)."""
    validation_rounds: int = 4
    """How often a validation pair is used (our recipe)."""
    merge_ranges: tuple[int, ...] = (8, 16, 32, 48, 64)
    """Of the sweep; with the rates below, 45 trials of four hospitals each."""
    pretraining_rates: int = 3
    """Learning rates of the pre-training in the sweep; each pre-training is done once."""
    fine_tuning_rates: int = 3
    """Learning rates of the fine-tuning in the sweep."""
    pruned: float = 0.0
    """Share of the sweep's epochs that early stopping of poor trials saves."""
    epoch_s: float = 2.0
    """Seconds of an epoch beside its steps and its validation. A report waits for the next poll of
    Ray Train's controller, 2 s by default (``RAY_TRAIN_HEALTH_CHECK_INTERVAL_S``, Ray 2.60)."""

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
    """Learnt from in one epoch."""
    validation_bags: int
    """Scored after each epoch."""
    epoch_s: float
    """Seconds of an epoch beside both."""

    def seconds(
        self, model: StepModel, num_workers: int, batch_size: int, *, overlap: bool = False
    ) -> float:
        """Time of the run; its start and its checkpoints are not counted."""
        steps = math.ceil(self.bags / batch_size)
        scoring = math.ceil(self.validation_bags / num_workers) * model.bag_s * _SCORING
        return self.epochs * (
            steps * model.step_s(num_workers, batch_size, overlap=overlap) + scoring + self.epoch_s
        )


def pretraining(run: FullRun, bags_per_person: float) -> Training:
    """The pre-training; ``bags_per_person`` in one round."""
    everybody = run.healthy_people * bags_per_person
    return Training(
        epochs=run.epochs,
        bags=round(everybody * run.pretraining_share),
        validation_bags=round(everybody * (1 - run.pretraining_share) * run.validation_rounds),
        epoch_s=run.epoch_s,
    )


def fine_tunings(run: FullRun, bags_per_patient: float) -> list[Training]:
    """One for each hospital; the few patients that validate are counted as learnt from."""
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
    """Seconds of pre-training, of all fine-tunings, and of the sweep, on n workers.

    Pre-training and fine-tuning cut each batch over the workers. Trials of the sweep run side by
    side, each on one worker.

    Args:
        run: what is trained.
        model: of a step.
        num_workers: workers, for example GPUs.
        bags_per_person: of a healthy person in one round.
        bags_per_patient: of a patient in one round.
        work_of: work of a bag by merge range, as a multiple of what ``model`` was made for.
        overlap: the lower bound instead of the upper one.
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
    # As even as it can be, and no shorter than the longest trial.
    sweep = max(sum(times) * (1 - run.pruned) / num_workers, max(times))
    return {
        "pre-training": seconds([first], model, num_workers),
        "fine-tuning": seconds(second, model, num_workers),
        "sweep": sweep,
    }
