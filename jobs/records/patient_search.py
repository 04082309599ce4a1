r"""Says what a search over events finds in patients, beside verdicts on the same patients.

python jobs/records/patient_search.py --cohort cohorts/patients \
    --diagnoses HomNet=runs/diagnose 'HomNet and reader=runs/diagnose-read' \
    --cells cohorts/patients-cells --others cohorts/others

The search knows the laboratory's normal pairs, from other people, and no abnormal chromosome. The
oracle is told each patient's abnormality.
"""

import pandas as pd

from homnet.bags.draw import PairBank
from homnet.cohorts.cohort import Cohort
from homnet.locations import in_memory, to_location
from homnet.patients.tables import KEY, truth_of_patients, truth_of_types
from homnet.records.known_events import EVENT_KNOWN, TYPE_UNKNOWN, known_events
from homnet.records.patient_search import (
    PatientSearchConfig,
    beside_verdicts,
    patient_scores,
    patient_search_markdown,
    search_types,
)
from homnet_platform.job import run_job


def _oracles(cohort: Cohort, config: PatientSearchConfig) -> dict[str, pd.DataFrame]:
    """What the oracle finds, in the form of diagnoses."""
    found = []
    for hospital in sorted({entry.hospital for entry in cohort.files}):
        banks = (
            PairBank.from_table(one.of_hospitals([hospital]).read())
            for one in (cohort, Cohort.open(config.cells), Cohort.open(config.others))
        )
        found.append(known_events(*banks, specificity=config.specificity, seed=config.seed))
    both = pd.concat(found, ignore_index=True)
    return {name: both[KEY].assign(score=both[name]) for name in (EVENT_KNOWN, TYPE_UNKNOWN)}


def main(config: PatientSearchConfig) -> None:
    """Searches, prints the table, and writes the result of record if one was asked for."""
    cohort = Cohort.open(config.cohort)
    diagnoses = _oracles(cohort, config) if config.cells else {}
    types, truth = [], []
    for hospital in sorted({entry.hospital for entry in cohort.files}):
        table = cohort.of_hospitals([hospital]).read()
        types.append(search_types(PairBank.from_table(table), config))
        truth.append(truth_of_patients(truth_of_types(table)))
    for one in config.diagnoses:
        name, _, place = one.partition("=")
        diagnoses[name] = pd.read_parquet(in_memory(to_location(place) / "patients.parquet"))
    figures = beside_verdicts(
        patient_scores(pd.concat(types, ignore_index=True)),
        diagnoses,
        pd.concat(truth),
        config.specificity,
    )
    config.record.write(
        {"patient_search": figures},
        recipe=f"search at {config.num_positions} positions",
        seed=config.seed,
    )
    print(patient_search_markdown(figures))


if __name__ == "__main__":
    run_job(PatientSearchConfig, main, description=__doc__)
