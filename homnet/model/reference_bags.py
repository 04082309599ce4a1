"""Golden bags: pairs kept with the logits that a model gave them when it was made.

A process that is about to let a model answer scores them again. If the logits differ, the model was
damaged, or this machine or these packages compute something else: it must not answer.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from homnet.bags.assessment import FlatBags, assess
from homnet.cohorts.checks import check_measured
from homnet.cohorts.pairs import MEASURED
from homnet.errors import CheckpointError, DataError
from homnet.model.joint import JointModel, score_jointly
from homnet.model.predictor import Predictor
from homnet.model.whole_bags import whole_logits

SCHEMA: Final = MEASURED.append(pa.field("logit", pa.float64(), nullable=False))
"""A pair with the logit of its patient's type."""
TOLERANCE: Final = 1e-3
"""Largest difference of a logit that other machines and packages may make (float32)."""


def golden_bags(model: JointModel | Predictor, table: pa.Table, num_patients: int = 1) -> pa.Table:
    """Makes golden bags of all pairs of some patients.

    Args:
        model: what gives the logits.
        table: pairs with the columns of :data:`homnet.cohorts.pairs.MEASURED`; the pairs of the
        first
            patients are kept with the model as they are: prefer simulated ones.
        num_patients: how many patients.

    Raises:
        DataError: no pair can be assessed.
    """
    patients = pc.unique(table["patient_id"]).slice(0, num_patients)
    table = table.filter(pc.is_in(table["patient_id"], patients)).select(MEASURED.names)
    assessment = assess(table)
    if not assessment.types:
        raise DataError("golden bags need a patient with both homologs of some type")
    logit_G = assessment.of_types(_logits(model, assessment.bags))
    type_N = assessment.type_N
    chosen = table.take(assessment.row_N)
    return chosen.append_column(SCHEMA.field("logit"), pa.array(logit_G[type_N])).cast(SCHEMA)


def check_golden(
    model: JointModel | Predictor, golden: pa.Table, tolerance: float = TOLERANCE
) -> None:
    """Scores golden bags again.

    Raises:
        CheckpointError: a logit differs by more than the tolerance, or the bags are no golden bags.
    """
    if golden.schema.names != SCHEMA.names or golden.num_rows == 0:
        raise CheckpointError("the golden bags lack a column or are empty; store them again")
    check_measured(golden, "golden bags")
    assessment = assess(golden)
    logit_G = assessment.of_types(_logits(model, assessment.bags))
    type_N = assessment.type_N
    expected_N = golden["logit"].to_numpy()[assessment.row_N]
    difference_N = np.abs(logit_G[type_N] - expected_N)
    # Written so that a logit that is no number fails.
    if not (difference_N <= tolerance).all():
        worst = int(np.nan_to_num(difference_N, nan=np.inf).argmax())
        raise CheckpointError(
            f"golden bags: type {assessment.types[type_N[worst]].chromosome} has logit "
            f"{logit_G[type_N[worst]]:.4f}, expected {expected_N[worst]:.4f}; the model is damaged "
            "or these packages compute something else"
        )


def _logits(model: JointModel | Predictor, bags: FlatBags) -> NDArray[np.float64]:
    if isinstance(model, Predictor):
        return whole_logits(model, bags)
    return score_jointly([model], bags, np.zeros(len(bags), np.int64)).logit_B
