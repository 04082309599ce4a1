"""Adaptation: tells a model what is normal in a laboratory, without training and without labels.

HomNet compares each chromosome with the mean of its type, and its search with the covariance of
normal pairs. Both were measured where it was trained; elsewhere preparation, stain and camera are
others. Here they are measured again, on normal pairs of the laboratory, and nothing else changes.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from homnet.bags.draw import PairBank, rows_of_file
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.locations import Location
from homnet.model.checkpoint import Checkpoint
from homnet.model.shipped import SHIPPED, place_of
from homnet_platform.runs import Run, provenance
from homnet_platform.runtime import local_or_cluster

_MEASURED: Final = ("cms.template_TL", "search.mean_TD", "search.covariance_TXX")
"""Names of the weights that are measured on normal pairs, one row per type."""


@dataclass(frozen=True)
class AdaptConfig:
    """Measures on a laboratory's normal pairs what a model compares with."""

    cohort: str = "cohorts/mine"
    """Cohort of the laboratory. Pairs known to be abnormal are left out; few unknown ones among
    many normal ones do no harm."""
    checkpoint: str = SHIPPED
    """A HomNet with a template, or ``shipped`` for the model that comes with the package."""
    output: str = "runs/adapt"
    """Output directory."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to measure on, together; all by default."""
    split: SplitConfig = SplitConfig()
    """People whose pairs are measured: those for training. The others are left for evaluation."""
    min_pairs: int = 30
    """Fewest normal pairs of a type; for a type with fewer, what the model knows is kept."""

    def __post_init__(self) -> None:
        if self.min_pairs < 2:
            raise ConfigError(f"min_pairs is {self.min_pairs}; give at least 2")


def adapt(config: AdaptConfig) -> Location:
    """Measures, and returns the location of the adapted checkpoint. It is not calibrated.

    Raises:
        CheckpointError: the model has learnt from sequences of another scale.
        ConfigError: the model compares with nothing that was measured.
        CohortError, DataError: no type has enough normal pairs; see their messages.
    """
    cohort = Cohort.open(config.cohort)
    if config.hospitals:
        cohort = cohort.of_hospitals(config.hospitals)
    parent = Checkpoint.load(place_of(config.checkpoint))
    split = split_patients(cohort.patients, config.split)
    # Nobody is validated on.
    known = {**split, VALIDATION: frozenset[str]()}
    origin = provenance(cohort.fingerprint, cohort.scale, config, known, parent)
    run = Run.of(config.output, config, cohort=cohort.fingerprint, parent=parent.version)
    run.claim()
    with local_or_cluster():
        total_TX = _sums(cohort, split[TRAIN], parent)
    if total_TX is None:
        raise ConfigError(
            f"{config.checkpoint}: this form compares with nothing that is measured on normal "
            "pairs; adapt a model with a template, such as the best form"
        )
    few_T = total_TX[:, -1] < config.min_pairs
    if few_T.all():
        raise DataError(
            f"{config.cohort}: no type has {config.min_pairs} normal pairs of people for training; "
            "give more people, or lower --min-pairs"
        )
    model = parent.build()
    model.take_sums(total_TX)
    weights = model.state_dict()
    for name in _MEASURED:
        if name in weights:
            weights[name][few_T] = parent.weights[name][few_T]
    kept = [name for name, few in zip(CHROMOSOMES, few_T.tolist(), strict=True) if few]
    print(
        f"measured on {int(total_TX[:, -1].sum()):,} normal pairs of {len(split[TRAIN]):,} people"
        + (f"; kept as they were, for want of pairs: {', '.join(kept)}" if kept else "")
    )
    return run.publish(
        dataclasses.replace(
            parent, weights=weights, calibration={}, patients={}, provenance=origin, state={}
        )
    )


def _sums(cohort: Cohort, people: frozenset[str], parent: Checkpoint) -> torch.Tensor | None:
    """:meth:`BagModel.template_sums` over the normal pairs of some people, a task for each file."""
    measure = ray.remote(num_cpus=1)(_sums_of_file)
    shared = ray.put(parent)
    waiting = [
        measure.remote(cohort, number, people.intersection(entry.patients), shared)
        for number, entry in enumerate(cohort.files)
        if people.intersection(entry.patients)
    ]
    total_TX: torch.Tensor | None = None
    for one in waiting:  # in the order of the files, so that every cluster adds to the same bits
        found_TX = ray.get(one)
        if found_TX is not None:
            total_TX = found_TX if total_TX is None else total_TX + found_TX
    return total_TX


def _sums_of_file(
    cohort: Cohort, number: int, people: Iterable[str], parent: Checkpoint
) -> torch.Tensor | None:
    torch.set_num_threads(1)
    table = rows_of_file(cohort, number)
    own = pc.is_in(table["patient_id"], pa.array(sorted(people)))
    bank = PairBank.from_table(table.filter(pc.and_(own, pc.invert(table["abnormal"]))))
    return parent.build().template_sums(
        torch.tensor(bank.pair_NPCL), torch.tensor(bank.codes.type_N)
    )
