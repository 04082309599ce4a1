"""A simulated patient, and what is said of them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from homnet.karyotype.kinds import SHOWN
from homnet.patients.clonality import estimate_clone
from homnet.patients.finding import (
    NOT_READ,
    BreakpointEstimate,
    CellFinding,
    Finding,
    NotAnswered,
)
from homnet.patients.naming import draft_name
from homnet.patients.verdict import PatientVerdict, TypeVerdict
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import hospitals


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """One simulated healthy man or woman with three cells."""
    hospital = replace(hospitals()[0], abnormal_fraction=0.0)
    return simulate_person(3, hospital, 0, 3.0)


@pytest.fixture(scope="session")
def verdict(table: pa.Table) -> PatientVerdict:
    """A deletion of 5p, found by a reader; 7 was not read, X not assessed."""
    patient = table["patient_id"][0].as_py()
    cells = dict(
        sorted(zip(table["cell_id"].to_pylist(), table["band_level"].to_pylist(), strict=True))
    )
    scores_PL = np.zeros((2, 512), np.float32)
    scores_PL[1, 40:80] = 0.8
    kinds = {kind: 0.93 if kind == "deletion" else 0.01 for kind in SHOWN}
    finding = Finding(
        "hospital-1",
        patient,
        "5",
        0.97,
        tuple(CellFinding(name, level, 0.9, 1, 0.8, scores_PL) for name, level in cells.items()),
        kinds,
        stop=BreakpointEstimate.at("5", 22.0, 19.0, 27.0, 400),
        reader="r",
    )
    five = TypeVerdict(
        "5",
        finding,
        6.0,
        flagged=True,
        clone=estimate_clone(np.full(len(cells), 2.0)),
        draft=draft_name(finding),
    )
    unread = Finding(
        "hospital-1",
        patient,
        "7",
        0.01,
        tuple(CellFinding(name, level, 0.3) for name, level in cells.items()),
        not_answered=(NotAnswered("kind", NOT_READ), NotAnswered("breakpoints", NOT_READ)),
    )
    seven = TypeVerdict(
        "7",
        unread,
        -3.0,
        flagged=False,
        clone=estimate_clone(np.full(len(cells), -0.8)),
        draft=None,
    )
    missing = TypeVerdict(
        "X",
        None,
        None,
        flagged=False,
        clone=None,
        draft=None,
        not_assessed=("no <second> homolog",),
    )
    return PatientVerdict(
        hospital="hospital-1",
        patient_id=patient,
        decision="abnormal",
        abstentions=(),
        score=5.5,
        threshold=4.0,
        specificity=0.99,
        supported_specificity=0.995,
        probability=0.81,
        prevalence=0.03,
        types=(five, seven, missing),
        cells=cells,
        notes=("A note & more.",),
        versions={"model": "abc", "calibration": "def", "reader": "r"},
    )
