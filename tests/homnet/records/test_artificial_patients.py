"""Artificial abnormalities as patients: nothing but the named homolog is changed, and a reader who
knows the truth is right everywhere."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from homnet.bags.assessment import Assessment
from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import Epoch, draw_epoch
from homnet.bags.events import EventConfig
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import SHOWN
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding
from homnet.reader.measures import cases_of, measure
from homnet.records.artificial_patients import ArtificialPatients
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig


@pytest.fixture(scope="module")
def bank() -> PairBank:
    healthy = HospitalConfig("healthy", abnormal_fraction=0.0)
    return PairBank.from_table(
        pa.concat_tables(simulate_person(0, healthy, number, 3.0) for number in range(5))
    )


@pytest.fixture(scope="module")
def epoch(bank: PairBank) -> Epoch:
    bags = BagConfig(num_cells=4, over="people")
    return draw_epoch(bank, bags, EventConfig(sham_share=0.3), seed=3, epoch=0)


@pytest.fixture(scope="module")
def patients(bank: PairBank, epoch: Epoch) -> ArtificialPatients:
    return ArtificialPatients.of(bank, epoch)


def test_every_bag_but_mix_ups_is_a_patient(patients: ArtificialPatients, epoch: Epoch) -> None:
    kept = np.nonzero(epoch.kind_B != "wrong_pair")[0]
    assert 0 < len(kept) < len(epoch)
    assert [who.patient_id for who in patients.assessment.types] == [f"bag-{b:06d}" for b in kept]
    assert [who.chromosome for who in patients.assessment.types] == [
        CHROMOSOMES[t] for t in epoch.bags.chromosome_B[kept]
    ]
    assert len(patients.truth) == epoch.bags.mask_BK[kept].sum() == len(patients.assessment.row_N)
    # Bags over people hold the pairs of several.
    assert max(len(people) for people in patients.people.values()) > 1


def test_only_the_named_homolog_is_changed(
    patients: ArtificialPatients, bank: PairBank, epoch: Epoch
) -> None:
    number = {f"bag-{b:06d}": b for b in range(len(epoch))}
    changed = 0
    for n, row in enumerate(patients.truth.to_dict("records")):
        cell = int(row["cell_id"].removeprefix("cell-")) - 1
        before = bank.pair_NPCL[epoch.bags.row_BK[number[row["patient_id"]], cell]]
        after = patients.assessment.bags.pair_NPCL[n]
        same_P = [(before[p] == after[p]).all() for p in (0, 1)]
        if row["abnormal"]:
            assert same_P[1 - int(row["homolog"])]
            changed += not same_P[int(row["homolog"])]
        else:
            assert pd.isna(row["kind"])
            assert np.isnan(row["homolog"])
    assert changed > 0.9 * patients.truth["abnormal"].sum() > 0


def _told(assessment: Assessment, patients: ArtificialPatients) -> list[Finding]:
    """Findings of somebody who knows."""
    findings = []
    by_type = patients.truth.groupby(["hospital", "patient_id", "chromosome"])
    for who in assessment.types:
        rows = by_type.get_group(tuple(who))
        first = rows.iloc[0]
        kind = first["shown_kind"] if pd.notna(first["shown_kind"]) else "none"
        length_mb = band_table(FINEST_LEVEL)[who.chromosome].length_bp / 1e6

        def place(mb: float, tip: float, chromosome: str) -> BreakpointEstimate | None:
            if np.isnan(mb) or abs(mb - tip) < 1e-3:
                return None
            return BreakpointEstimate.at(chromosome, mb, mb - 1, mb + 1, 550)

        findings.append(
            Finding(
                hospital=who.hospital,
                patient_id=who.patient_id,
                chromosome=who.chromosome,
                probability=0.5,
                cells=tuple(
                    CellFinding(row["cell_id"], 550, 0.5, int(np.nan_to_num(row["homolog"])), 1.0)
                    for row in rows.to_dict("records")
                ),
                kinds={name: float(name == kind) for name in SHOWN},
                start=place(first["segment_start_mb"], 0.0, who.chromosome),
                stop=place(first["segment_stop_mb"], length_mb, who.chromosome),
            )
        )
    return findings


def test_who_knows_the_truth_is_right_everywhere(patients: ArtificialPatients) -> None:
    told = _told(patients.assessment, patients)
    cases = cases_of(told, patients.truth, set(patients.assessment.types))
    overall = measure(cases, seed=0, num_bootstrap=0)["overall"]
    abnormal = patients.truth.groupby("patient_id")["abnormal"].any()
    assert overall["num_cases"] == overall["num_detected"] == abnormal.sum() > 10
    assert overall["kind"]["value"] == overall["homolog"]["value"] == 1
    assert overall["median_iou"]["value"] == pytest.approx(1)
    assert overall["median_breakpoint_error_mb"]["value"] == pytest.approx(0, abs=1e-6)
    assert overall["breakpoint_in_interval"]["value"] == 1
