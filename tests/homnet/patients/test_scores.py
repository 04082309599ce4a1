"""Scores of types and of single cells, before any calibration."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from homnet.bags.assessment import assess
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.patients.scores import PatientScores, labelled_scores, score_patients

TableOf = Callable[..., pa.Table]


def _scores(predictor: Predictor, table: pa.Table) -> PatientScores:
    assessment = assess(table)
    return score_patients(assessment, predictor.evidence(assessment.bags))


def test_scores_are_those_of_types_and_of_single_cells(
    checkpoint: Checkpoint, table_of: TableOf
) -> None:
    table = table_of("h1", num_patients=2, num_cells=3, chromosomes=("1", "9"), abnormal="9")
    predictor = Predictor.of_checkpoint(checkpoint)
    scores = _scores(predictor, table)
    one_cell = table.filter(pc.equal(table["cell_id"], "c1"))
    alone = _scores(predictor, one_cell)
    cells = np.array(scores.assessment.cell_N)
    np.testing.assert_allclose(scores.logit_N[cells == "c1"], alone.logit_N, atol=1e-5)
    assert scores.num_cells_G.tolist() == [3, 3, 3, 3]
    labelled = labelled_scores(scores, np.zeros(4), table)
    assert labelled.abnormal_J.tolist() == [True, False]
    assert labelled.abnormal_G.tolist() == [False, True, False, False]
    assert labelled.abnormal_N.sum() == 3
    assert labelled.patient_G.tolist() == [0, 0, 1, 1]


def test_a_type_counts_as_the_root_of_its_cells(checkpoint: Checkpoint, table_of: TableOf) -> None:
    predictor = Predictor.of_checkpoint(checkpoint)
    bias = float(predictor.homnet().bag.bag.bias.item())
    for num_cells in (1, 5, 23):
        table = table_of("h1", num_patients=1, num_cells=num_cells, chromosomes=("1",))
        scores = _scores(predictor, table)
        added = (scores.logit_N - bias).mean()
        np.testing.assert_allclose(scores.logit_G, added * np.sqrt(5 * num_cells) + bias)
        if num_cells == 5:  # as many as the bags that models learn from: the bag's own logit
            bags = scores.assessment.bags
            assert len(bags) == 1
            np.testing.assert_allclose(scores.logit_G, predictor.flat_logits(bags))


def test_types_keep_their_own_cells(checkpoint: Checkpoint, table_of: TableOf) -> None:
    predictor = Predictor.of_checkpoint(checkpoint)
    parts = [
        table_of("h1", num_patients=2, num_cells=13, chromosomes=("1",)),
        table_of("h1", num_patients=2, num_cells=4, chromosomes=("9",), seed=1),
    ]
    together = _scores(predictor, pa.concat_tables(parts))
    alone = [_scores(predictor, part).logit_G for part in parts]
    assert together.num_cells_G.tolist() == [13, 4, 13, 4]
    np.testing.assert_allclose(together.logit_G, np.stack(alone, axis=1).ravel(), atol=1e-5)
