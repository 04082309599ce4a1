"""Reference bags: pairs stored with the logits that a model gave them when it was published.

A process scores them again before it uses a model. If the logits differ, the model is damaged, or
this machine or its packages compute different results, and the model must not be used.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from homnet.bags.assessment import assess
from homnet.cohorts.checks import check_measured
from homnet.cohorts.pairs import MEASURED
from homnet.errors import CheckpointError, DataError
from homnet.model.predictor import Predictor

SCHEMA: Final = MEASURED.append(pa.field("logit", pa.float64(), nullable=False))
"""A pair with the logit of its type in its patient."""
TOLERANCE: Final = 1e-3
"""Largest logit difference that other machines and packages may cause (float32)."""
BFLOAT16_TOLERANCE: Final = 0.02
"""Largest logit difference that bfloat16 may cause: at most .005 of a probability. That of the
shipped model is .011 on its example (LAB.md)."""


def reference_bags(predictor: Predictor, table: pa.Table) -> pa.Table:
    """Makes reference bags from all pairs of the first patient.

    Args:
        predictor: computes the logits.
        table: pairs with the columns of :data:`homnet.cohorts.pairs.MEASURED`. Pairs of the first
            patient are stored unchanged with the model, so prefer a simulated one.

    Returns:
        One row per assessable pair, of :data:`SCHEMA`.

    Raises:
        DataError: no pair can be assessed.
    """
    first = table["patient_id"].slice(0, 1)
    table = table.filter(pc.is_in(table["patient_id"], first)).select(MEASURED.names)
    assessment = assess(table)
    if not assessment.types:
        raise DataError("reference bags need a patient with both homologs of some type")
    logit_G = assessment.of_types(predictor.flat_logits(assessment.bags))
    chosen = table.take(assessment.row_N)
    logit_N = pa.array(logit_G[assessment.type_N])
    return chosen.append_column(SCHEMA.field("logit"), logit_N).cast(SCHEMA)


def check_reference_bags(predictor: Predictor, reference: pa.Table) -> None:
    """Scores reference bags again and compares the logits, with the tolerance of the precision.

    Raises:
        CheckpointError: a logit differs by more than the tolerance, or the table is empty or lacks
            a column.
    """
    lower = predictor.precision == "bfloat16"
    tolerance = BFLOAT16_TOLERANCE if lower else TOLERANCE
    if reference.schema.names != SCHEMA.names or reference.num_rows == 0:
        raise CheckpointError("the reference bags lack a column or are empty; store them again")
    check_measured(reference, "reference bags")
    assessment = assess(reference)
    logit_G = assessment.of_types(predictor.flat_logits(assessment.bags))
    type_N = assessment.type_N
    expected_N = reference["logit"].to_numpy()[assessment.row_N]
    difference_N = np.abs(logit_G[type_N] - expected_N)
    # Written so that a logit of NaN fails.
    if not (difference_N <= tolerance).all():
        worst = int(np.nan_to_num(difference_N, nan=np.inf).argmax())
        raise CheckpointError(
            f"reference bags: type {assessment.types[type_N[worst]].chromosome} has logit "
            f"{logit_G[type_N[worst]]:.4f}, expected {expected_N[worst]:.4f}; "
            + (
                "this model needs float32"
                if lower
                else "the model is damaged or these packages compute something else"
            )
        )
