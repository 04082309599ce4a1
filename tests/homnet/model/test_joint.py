"""Joint passes: mixed hospitals and sizes of bags get the scores that each model gives alone."""

import copy
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from homnet.bags.assessment import Assessment, assess
from homnet.bags.draw import Bags, PairBank
from homnet.bags.epochs import DeviceBank, Epoch
from homnet.cohorts.pairs import MEASURED
from homnet.errors import CheckpointError
from homnet.model.joint import JointModel, score_jointly
from homnet.model.network import HomNet, HomNetConfig, best_form, paper_form
from homnet.model.predictor import Predictor

TableOf = Callable[..., pa.Table]
FORMS = {
    "default": HomNetConfig(width=8, pair_width=12, num_heads=2),
    "paper": paper_form(),
    "best": best_form(),
    "single": HomNetConfig(width=8, homologs="single"),
    "one alignment": HomNetConfig(width=8, num_alignments=1, alignment="mlp"),
}


def _family(config: HomNetConfig, num: int, seed: int = 0) -> list[JointModel]:
    """Models that were fine-tuned from one pre-training: other heads, the same trunk."""
    torch.manual_seed(seed)
    first = HomNet(config)
    if first.cms.template_TL is not None:
        first.cms.template_TL.normal_()
    family = [first]
    for _ in range(num - 1):
        model = copy.deepcopy(first)
        model.freeze_for_fine_tuning()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.02)
        family.append(model)
    return [JointModel(Predictor(model, {}, version=str(i))) for i, model in enumerate(family)]


def _mixed(table_of: TableOf) -> tuple[pa.Table, Assessment]:
    """Bags of one to six pairs."""
    tables = [
        table_of("h1", num_patients=1, num_cells=1, chromosomes=("1", "9"), seed=1),
        table_of("h2", num_patients=2, num_cells=6, chromosomes=("3", "X"), seed=2),
        table_of("h3", num_patients=1, num_cells=3, chromosomes=("2",), seed=3),
    ]
    table = pa.concat_tables(tables)
    return table, assess(table.select(MEASURED.names))


def _batch_evaluation(
    table: pa.Table, assessment: Assessment, predictor: Predictor
) -> NDArray[np.float64]:
    """The same bags through the padded path of batch evaluation."""
    bank = PairBank.from_table(table)
    place = {
        key: row
        for row, key in enumerate(
            zip(
                bank.frame["hospital"],
                bank.frame["patient_id"],
                bank.frame["cell_id"],
                bank.frame["chromosome"],
                strict=True,
            )
        )
    }
    bags = assessment.bags
    row_BK = np.zeros((len(bags), int(bags.size_B.max())), np.int64)
    mask_BK = np.arange(row_BK.shape[1]) < bags.size_B[:, None]
    kinds = [assessment.types[g] for g in np.repeat(assessment.type_B, bags.size_B)]
    row_BK[mask_BK] = [
        place[kind.hospital, kind.patient_id, cell, int(chromosome)]
        for kind, cell, chromosome in zip(kinds, assessment.cell_N, bags.chromosome_N, strict=True)
    ]
    first = np.cumsum(bags.size_B) - bags.size_B
    none = np.zeros(len(bags), bool)
    epoch = Epoch(
        Bags(row_BK, mask_BK, bags.chromosome_N[first]), None, none, np.full(len(bags), "normal")
    )
    return predictor.epoch_logits(DeviceBank(bank, "cpu"), epoch)


@pytest.mark.parametrize("form", FORMS)
def test_scores_equal_batch_evaluation(table_of: TableOf, form: str) -> None:
    table, assessment = _mixed(table_of)
    models = [*_family(FORMS[form], 3), *_family(FORMS[form], 1, seed=5)]
    assert len({model.trunk for model in models}) == 2
    expected = np.stack([_batch_evaluation(table, assessment, m.predictor) for m in models])
    model_B = np.random.default_rng(0).integers(0, len(models), len(assessment.bags))
    got = score_jointly(models, assessment.bags, model_B)
    np.testing.assert_allclose(
        got.logit_B, expected[model_B, np.arange(len(model_B))], atol=1e-5, rtol=0
    )


def test_company_changes_nothing(table_of: TableOf) -> None:
    _, assessment = _mixed(table_of)
    models = _family(FORMS["best"], 2)
    bags = assessment.bags
    model_B = np.arange(len(bags)) % 2
    together = score_jointly(models, bags, model_B)
    for b in range(len(bags)):
        alone = score_jointly(models, bags.part(b, b + 1), model_B[b : b + 1])
        assert alone.logit_B[0] == pytest.approx(together.logit_B[b], abs=1e-5)


def test_what_pairs_add_makes_the_logit(table_of: TableOf) -> None:
    _, assessment = _mixed(table_of)
    (model,) = _family(FORMS["default"], 1)
    bags = assessment.bags
    got = score_jointly([model], bags, np.zeros(len(bags), np.int64))
    bias = model.model.bag.bag.bias.item()
    bag_N = np.repeat(np.arange(len(bags)), bags.size_B)
    np.testing.assert_allclose(np.bincount(bag_N, got.added_N) + bias, got.logit_B, atol=1e-9)
    assert got.weight_N.min() >= 0
    assert got.weight_N.max() <= 1
    assert len(set(got.weight_N.round(6))) > 1


def test_the_trunk_is_run_once_for_all_hospitals(table_of: TableOf) -> None:
    _, assessment = _mixed(table_of)
    models = _family(FORMS["default"], 4)
    for model in models[1:]:
        model.share(models[0])
        assert model.model.cms is models[0].model.cms
    calls = []
    models[0].model.cms.register_forward_hook(lambda *_: calls.append(1))
    model_B = np.arange(len(assessment.bags)) % 4
    score_jointly(models, assessment.bags, model_B)
    assert len(calls) == 1


def test_other_trunks_are_not_shared() -> None:
    one, other = _family(FORMS["default"], 1), _family(FORMS["default"], 1, seed=9)
    other[0].share(one[0])
    assert other[0].model.cms is not one[0].model.cms


def test_another_kind_of_model_is_refused() -> None:
    predictor = Predictor.__new__(Predictor)
    predictor.model = torch.nn.Linear(1, 1)  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match="only HomNet"):
        JointModel(predictor)
