"""Tables of verdicts, with the truth beside them."""

import math
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from homnet.cohorts.pairs import SINGLE_HOMOLOG
from homnet.patients.tables import patient_table, truth_of_patients, truth_of_types, type_table
from homnet.patients.verdict import PatientVerdict

Judge = Callable[..., list[PatientVerdict]]
TableOf = Callable[..., pa.Table]


def test_tables_hold_a_line_per_patient_and_per_type(forced: Judge, table_of: TableOf) -> None:
    table = table_of("h1", num_patients=2, abnormal="3")
    verdicts = forced(table)
    patients = patient_table(verdicts).to_pandas()
    types = type_table(verdicts).to_pandas()
    assert len(patients) == 2
    assert len(types) == 2 * 23
    assert patients["band_level"].tolist() == [400, 400]
    assert set(patients["flagged"][0]) == set(
        types["chromosome"][types["flagged"] & (types["patient_id"] == "h1-p0")]
    )
    truth = truth_of_types(table)
    assert truth["true_abnormal"].sum() == 1
    carriers = truth_of_patients(truth)
    assert carriers["true_types"].tolist() == [["3"], []]
    assert carriers["true_kind"].tolist()[0] == "deletion"


def test_a_cell_without_the_second_homolog_says_nothing_of_the_clone(table_of: TableOf) -> None:
    rows = table_of("h1", num_patients=1, abnormal="3").to_pylist()
    for row in [row for row in rows if row["chromosome"] == "3"][1:2]:
        row["quality"] = {"flags": [SINGLE_HOMOLOG]}
        row["abnormal"] = False
    table = pa.Table.from_pylist(rows, table_of("h1").schema)
    shares = truth_of_types(table).set_index("chromosome")["true_share"]
    assert shares["3"] == 1.0
    assert shares["4"] == 0.0
    # Of a carrier whose abnormal homolog is single wherever it is seen, all cells say more.
    for row in rows:
        if row["chromosome"] == "3":
            row["quality"] = {"flags": [SINGLE_HOMOLOG] * row["abnormal"]}
    shares = truth_of_types(pa.Table.from_pylist(rows, table.schema))
    num_cells = sum(row["chromosome"] == "3" for row in rows)
    assert shares.set_index("chromosome")["true_share"]["3"] == 1 - 1 / num_cells


def test_alone_is_what_would_reach_the_threshold_without_the_other_types(
    judge: Judge, table_of: TableOf
) -> None:
    table = table_of("h1", num_patients=1)
    (verdict,) = judge(table)
    evidence = sorted(one.evidence for one in verdict.types if one.evidence is not None)
    assert len(evidence) == 22
    # If all others had a likelihood ratio of 0, that of the patient would be its 22nd part.
    between = (evidence[10] + evidence[11]) / 2 - math.log(22)
    types = type_table([replace(verdict, threshold=between)]).to_pylist()
    alone = [one["evidence"] for one in types if one["alone"]]
    assert sorted(alone) == evidence[11:]
    (lonely,) = judge(table, min_cells=99, threshold=-99.0)
    assert not any(type_table([lonely])["alone"].to_pylist())
