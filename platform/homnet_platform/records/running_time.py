"""The paper's Table 5: running times of all methods, one after the other on one machine."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from homnet.bags.epochs import DeviceBank
from homnet.errors import ConfigError
from homnet.model.predictor import Predictor
from homnet.records.benchmark.timing import in_turns, quantiles
from homnet.training.learning import METRIC
from homnet.training.optimisation import make_optimizer, train_step
from homnet_platform.data import Participants
from homnet_platform.records.budget import short_stage
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.method_trials import Method, line_of
from homnet_platform.records.plan import ReproduceConfig
from homnet_platform.records.reproduction import chosen_methods, run_methods
from homnet_platform.records.side_by_side import MethodRun

TIMED_BATCH: Final = 512
"""Number of bags in a timed batch, as in the paper's Table 5."""
_WARM_UP: Final = 2
"""Number of untimed batches at the start, to select kernels and fill caches."""


def time_methods(config: ReproduceConfig, methods: Mapping[str, Method]) -> dict[str, Any]:
    """Times every method, or those that an earlier call left undone, alone on the machine.

    Args:
        config: people and minutes of the pre-training whose convergence is timed, and the number
            of timed batches.
        methods: lines of the table by name; the first trial of each is timed.

    Returns:
        JSON-able: ``rows``, one per method (see :func:`time_method`), the setting, and the result
        of :func:`homnet_platform.records.reproduction.run_methods`.

    Raises:
        CohortError, ConfigError, DataError: see
            :func:`homnet_platform.records.reproduction.run_methods`; ConfigError also if GPUs are
            requested.
    """
    if config.gpus_per_run:
        raise ConfigError("methods are timed on CPUs; leave gpus_per_run at 0")
    methods = chosen_methods(config, methods)
    seed = config.comparison.seeds[0]
    done, figures = run_methods(
        config,
        methods,
        # One at a time: no other process may use the machine's memory bandwidth.
        [partial(_alone, name, seed) for name in methods],
        {"timing": partial(time_method, config.num_batches)},
        num_batches=config.num_batches,
    )
    return {
        "rows": [{"method": name, **line.record("timing", seed)} for name, line in done.items()],
        "batch_size": TIMED_BATCH,
        "num_batches": config.num_batches,
        "learning_batch_size": config.comparison.training.batch_size,
        "threads": config.cpus_per_run,
        **figures,
    }


def time_method(
    num_batches: int, line: MethodRuns, shared: Participants, seed: int
) -> dict[str, Any]:
    """Times one method: training on and scoring of 100 batches of 512 bags, and convergence.

    Args:
        num_batches: number of timed batches, after two untimed ones.
        line: the method.
        shared: pairs and people.
        seed: seed of the pre-training.

    Returns:
        ``train_100`` (None for methods that do not train in steps) and ``score_100``, each the
        median and the 10 and 90 % quantiles in seconds; ``convergence`` (seconds to the epoch that
        was kept), ``converged`` (whether a later epoch was no better; always true for methods
        fitted in one go), ``epochs``, the record of the training (see
        :func:`homnet_platform.records.method_trials.line_of`), and ``numbers``, the number of
        values stored in the model.
    """
    method, bank = line.method, shared.bank
    # A short training first: it imports libraries and selects kernels before timing starts.
    stage = line.sized(shared, ("seed", seed), 0, line.comparison.minutes)
    method.fit(short_stage(stage, bank)[0], bank)
    checkpoint = method.fit(stage, bank)
    train_bank, _ = stage.parts(bank)
    epoch = stage.train_epoch(train_bank.index, 0)
    bags = DeviceBank(train_bank, "cpu").load(epoch)
    drawn = iter(
        np.random.default_rng(0).integers(
            0, len(epoch), (2 * (num_batches + _WARM_UP), TIMED_BATCH)
        )
    )
    predictor = Predictor(checkpoint.build(), {}, version="")
    found = {"score_100": _timed(lambda: predictor.logits(bags.batch(next(drawn))), num_batches)}
    if method.in_steps:
        # Not of the checkpoint, in which the search counts; in training it does not.
        model = stage.model.build().train()
        optimizer = make_optimizer(model, stage.training)

        def step() -> None:
            train_step(
                model,
                optimizer,
                bags.batch(next(drawn)),
                learning_rate=stage.training.learning_rate,
                clip_norm=stage.training.clip_norm,
                loss_scale=1 / TIMED_BATCH,
                loss_of=model.loss,
                cpu_pairs=model.cpu_pairs,
            )

        found["train_100"] = _timed(step, num_batches)
    metrics = checkpoint.metrics
    values = [one[METRIC] for one in metrics["history"]]
    return {
        "train_100": None,
        **found,
        "convergence": metrics["seconds_to_best"],
        "converged": not method.in_steps or int(np.argmax(values)) < len(values) - 1,
        "epochs": len(values),
        **line_of(checkpoint, stage, bank),
        "numbers": sum(value.numel() for value in checkpoint.weights.values()),
    }


def _alone(name: str, seed: int, lines: Mapping[str, MethodRuns]) -> list[MethodRun]:
    return [(name, "timing", seed)] if name in lines else []


def _timed(batch: Callable[[], object], num_batches: int) -> dict[str, float]:
    """Seconds of 100 batches, extrapolated from ``num_batches`` after a warm-up."""
    seconds = in_turns(
        {"": batch}, repeats=num_batches, device=torch.device("cpu"), warm_up=_WARM_UP
    )[""]
    return quantiles([100 * one for one in seconds])
