"""Adaptation of a model to a laboratory, by its normal pairs and without training.

HomNet compares each chromosome with the mean of its type, and its search with the covariance of
normal pairs. Both were measured where it was trained; elsewhere preparation, stain and camera are
others. Here they are measured again, on normal pairs of the laboratory, and nothing else changes.

Shape suffixes: T chromosome types, X sums.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.compute as pc
import ray
import torch

from homnet.bags.draw import PairBank, rows_of_file
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.files import is_published, require_writable
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.locations import Location
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import NUM_TYPES
from homnet.model.shipped import SHIPPED, place_of
from homnet.training.supply import no_sums
from homnet_platform.data import files_of, rows_of
from homnet_platform.progress import driver_bar
from homnet_platform.runs import Run, provenance
from homnet_platform.runtime import local_or_cluster

_MEASURED: Final = ("cms.template_TL", "search.mean_TD", "search.covariance_TXX")
"""Names of the weights that are measured on normal pairs, one row per type."""
_FEWEST_TYPES: Final = NUM_TYPES // 2
"""Fewest types that must be measured: the search compares foreign segments with those of any type,
and a few types do not stand for all."""


@dataclass(frozen=True)
class AdaptConfig:
    """Measures on a laboratory's normal pairs what a model compares with."""

    cohort: str = "cohorts/mine"
    """Cohort of the laboratory. Pairs marked as abnormal are left out."""
    checkpoint: str = SHIPPED
    """A HomNet with a template, or ``shipped`` for the model that comes with the package."""
    output: str = "runs/adapt"
    """Output directory."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to measure on, together; all by default."""
    split: SplitConfig = SplitConfig()
    """The people of its training part are measured; the others are left for evaluation. Give the
    same split to all jobs that use the adapted model."""
    min_people: int = 10
    """Fewest people with normal pairs of a type. A type with fewer stays as it was: the variants of
    a few people must not count as normal."""

    def __post_init__(self) -> None:
        if self.min_people < 2:
            raise ConfigError(f"min_people is {self.min_people}; give at least 2")


def adapt(config: AdaptConfig) -> Location:
    """Measures, and returns the location of the adapted checkpoint. It is not calibrated.

    Raises:
        CheckpointError: the model has learnt from sequences of another scale.
        CohortError: a file is damaged.
        ConfigError: the model compares with nothing that was measured, or the output is taken.
        DataError: too few types have normal pairs of enough people, or another run with this output
            was faster.
        StoreError: the output is not writable.
    """
    cohort = Cohort.open(config.cohort)
    if config.hospitals:
        cohort = cohort.of_hospitals(config.hospitals)
    parent = Checkpoint.load(place_of(config.checkpoint))
    split = split_patients(cohort.patients, config.split)
    # No people are used for validation.
    used = {**split, VALIDATION: frozenset[str]()}
    origin = provenance(cohort.fingerprint, cohort.scale, config, used, parent)
    run = Run.of(config.output, config, cohort=cohort.fingerprint, parent=parent.version)
    if is_published(run.checkpoint):
        run.claim()  # refuses
    require_writable(run.output)
    model = parent.build()
    total_TX = no_sums(model)
    if total_TX is None:
        raise ConfigError(
            f"{config.checkpoint}: this form compares with nothing that is measured on normal "
            "pairs; adapt a model with a template, such as the best form"
        )
    people_T = torch.zeros(NUM_TYPES, dtype=torch.int64)
    with local_or_cluster():
        for found_TX, found_T in _measured(cohort, split[TRAIN], parent):
            total_TX += found_TX
            people_T += found_T
    few_T = people_T < config.min_people
    if (~few_T).sum() < _FEWEST_TYPES:
        raise DataError(
            f"{config.cohort}: {int((~few_T).sum())} chromosome types have normal pairs of "
            f"{config.min_people} people for training, and {_FEWEST_TYPES} are needed; give more "
            "people, or lower --min-people"
        )
    model.take_sums(total_TX)
    weights = model.state_dict()
    for name in _MEASURED:
        if name in weights:
            weights[name][few_T] = parent.weights[name][few_T]
    kept = [name for name, few in zip(CHROMOSOMES, few_T.tolist(), strict=True) if few]
    print(
        f"measured on {int(total_TX[~few_T, -1].sum()):,} normal pairs of "
        f"{len(split[TRAIN]):,} people"
        + (f"; too few, unchanged: {', '.join(kept)}" if kept else "")
    )
    run.claim()
    return run.publish(
        dataclasses.replace(
            parent,
            weights=weights,
            # What was measured on other weights: the training, calibrations, how to go on.
            metrics={"history": []},
            calibration={},
            patients={},
            state={},
            provenance=origin,
        )
    )


def _measured(cohort: Cohort, people: frozenset[str], parent: Checkpoint) -> Any:
    """Sums and numbers of people of each file with some of the people, a task for each file.

    In the order of the files, so that every cluster adds to the same bits.
    """
    task = ray.remote(num_cpus=1)(_measured_in_file)
    cohort_ref, people_ref, parent_ref = ray.put(cohort), ray.put(people), ray.put(parent)
    waiting = [
        task.remote(cohort_ref, number, people_ref, parent_ref)
        for number in files_of(cohort, people)
    ]
    with driver_bar(len(waiting), "adapt", " files") as bar:
        for one in waiting:
            yield ray.get(one)
            bar.update()


def _measured_in_file(
    cohort: Cohort, number: int, people: frozenset[str], parent: Checkpoint
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """:meth:`BagModel.template_sums` over normal pairs (T, X), and the people of each type (T)."""
    torch.set_num_threads(1)
    model = parent.build()
    table = rows_of(rows_of_file(cohort, number), people)
    try:
        bank = PairBank.from_table(table.filter(pc.invert(table["abnormal"])))
    except DataError:  # nobody has both homologs of a type, all of them normal
        return no_sums(model), torch.zeros(NUM_TYPES, dtype=torch.int64)
    type_N = torch.tensor(bank.codes.type_N)
    found_TX = model.template_sums(torch.tensor(bank.pair_NPCL), type_N)
    own = bank.frame[["patient_id", "chromosome"]].drop_duplicates()["chromosome"]
    # No one is in two files.
    return found_TX, torch.bincount(torch.tensor(own.to_numpy()), minlength=NUM_TYPES)
