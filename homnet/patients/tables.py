"""Tables of verdicts: one row per patient, one row per type of a patient, and the truth."""

import math
from collections.abc import Sequence
from statistics import median_low
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from homnet.cohorts.pairs import SINGLE_HOMOLOG
from homnet.cohorts.summary import has_flag
from homnet.patients.verdict import PatientVerdict

KEY: Final = ["hospital", "patient_id"]
PATIENTS: Final = pa.schema(
    [
        ("hospital", pa.string()),
        ("patient_id", pa.string()),
        ("decision", pa.string()),
        ("abstentions", pa.list_(pa.string())),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("probability", pa.float64()),
        ("prevalence", pa.float64()),
        ("flagged", pa.list_(pa.string())),
        ("drafts", pa.list_(pa.string())),
        ("notes", pa.list_(pa.string())),
        ("num_cells", pa.int64()),
        ("band_level", pa.int64()),
    ]
)
"""One row per patient; ``band_level`` is the lower median over cells."""
TYPES: Final = pa.schema(
    [
        ("hospital", pa.string()),
        ("patient_id", pa.string()),
        ("chromosome", pa.string()),
        ("probability", pa.float64()),
        ("evidence", pa.float64()),
        ("alone", pa.bool_()),
        ("flagged", pa.bool_()),
        ("kind", pa.string()),
        ("num_cells", pa.int64()),
        ("num_abnormal_cells", pa.int64()),
        ("clone_share", pa.float64()),
        ("clone_low", pa.float64()),
        ("clone_high", pa.float64()),
        ("not_assessed", pa.string()),
    ]
)
"""One row per type of a patient; ``alone`` is whether its evidence alone would reach the patient's
threshold, whatever the verdict."""


def patient_table(verdicts: Sequence[PatientVerdict]) -> pa.Table:
    """Rows of :data:`PATIENTS`."""
    return pa.Table.from_pylist(
        [
            {
                "hospital": one.hospital,
                "patient_id": one.patient_id,
                "decision": one.decision,
                "abstentions": [reason.code for reason in one.abstentions],
                "score": one.score,
                "threshold": one.threshold,
                "probability": one.probability,
                "prevalence": one.prevalence,
                "flagged": [each.chromosome for each in one.flagged],
                # Both types of a translocation have its name.
                "drafts": list(
                    dict.fromkeys(str(each.draft) for each in one.flagged if each.draft is not None)
                ),
                "notes": list(one.notes),
                "num_cells": len(one.cells),
                "band_level": median_low(one.cells.values()) if one.cells else None,
            }
            for one in verdicts
        ],
        PATIENTS,
    )


def type_table(verdicts: Sequence[PatientVerdict]) -> pa.Table:
    """Rows of :data:`TYPES`."""
    lines: list[dict[str, Any]] = []
    for one in verdicts:
        num_counted = sum(each.evidence is not None for each in one.types)
        for each in one.types:
            clone, finding = each.clone, each.finding
            lines.append(
                {
                    "hospital": one.hospital,
                    "patient_id": one.patient_id,
                    "chromosome": each.chromosome,
                    "probability": None if finding is None else finding.probability,
                    "evidence": each.evidence,
                    "alone": each.evidence is not None
                    and one.threshold is not None
                    and each.evidence - math.log(num_counted) >= one.threshold,
                    "flagged": each.flagged,
                    "kind": None if finding is None else finding.kind,
                    "num_cells": 0 if finding is None else len(finding.cells),
                    "num_abnormal_cells": None if clone is None else clone.num_abnormal,
                    "clone_share": None if clone is None else clone.share,
                    "clone_low": None if clone is None else clone.low,
                    "clone_high": None if clone is None else clone.high,
                    "not_assessed": "; ".join(each.not_assessed) or None,
                }
            )
    return pa.Table.from_pylist(lines, TYPES)


def truth_of_types(table: pa.Table) -> pd.DataFrame:
    """Truth of a cohort's rows, one row per type of a patient.

    Returns:
        hospital, patient_id, chromosome, true_abnormal, true_kind, true_size_mb, true_iscn,
        true_share (of the cells with both homologs; of all if none of these is abnormal) and
        variant (names of harmless variants, or None).
    """
    names = ["abnormal", "kind", "size_mb", "iscn", "variant"]
    frame = table.select([*KEY, "chromosome", *names]).to_pandas()
    # A cell in which one homolog is missing says nothing of the clone.
    single = has_flag(pc.struct_field(table["quality"], "flags"), SINGLE_HOMOLOG)
    frame["in_clone"] = frame["abnormal"].astype(float).mask(single.to_numpy(zero_copy_only=False))
    groups = frame.groupby([*KEY, "chromosome"], sort=True)
    # These columns are null for normal pairs, and "first" skips nulls.
    truth = groups.agg(
        true_abnormal=("abnormal", "any"),
        true_share=("in_clone", "mean"),
        share_of_all=("abnormal", "mean"),
        true_kind=("kind", "first"),
        true_size_mb=("size_mb", "max"),
        true_iscn=("iscn", "first"),
        variant=("variant", "first"),
    )
    # A carrier whose abnormal homolog is single in each cell that has it is no mosaic of 0 %.
    truth["true_share"] = truth["true_share"].where(truth["true_share"] > 0, truth["share_of_all"])
    found: pd.DataFrame = truth.drop(columns="share_of_all").reset_index()
    return found


def truth_of_patients(types: pd.DataFrame) -> pd.DataFrame:
    """Truth of patients from that of their types; ``true_share`` is the share of abnormal cells.

    Args:
        types: from :func:`truth_of_types`.
    """
    groups = types.assign(
        carrier_share=types["true_share"].where(types["true_abnormal"]),
        carrier_type=types["chromosome"].where(types["true_abnormal"]),
    ).groupby(KEY, sort=True)
    found: pd.DataFrame = groups.agg(
        true_abnormal=("true_abnormal", "any"),
        true_share=("carrier_share", "max"),
        true_kind=("true_kind", "first"),
        true_size_mb=("true_size_mb", "max"),
        true_iscn=("true_iscn", "first"),
        true_types=("carrier_type", lambda names: sorted(names.dropna())),
    )
    return found.reset_index()
