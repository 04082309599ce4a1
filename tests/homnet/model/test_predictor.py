"""Prediction: batches and company do not matter, calibration does what it says."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit

from homnet.bags.assessment import Assessment, assess
from homnet.bags.draw import BagConfig, Bags, PairBank
from homnet.bags.epochs import DeviceBank, Epoch, draw_epoch
from homnet.bags.events import EventConfig
from homnet.calibration.bags import Calibration
from homnet.cohorts.pairs import MEASURED
from homnet.errors import CheckpointError
from homnet.model import scoring
from homnet.model.contract import BagModel
from homnet.model.network import HomNet, HomNetConfig, best_form, paper_form
from homnet.model.predictor import Predictor, score_bags

TableOf = Callable[..., pa.Table]
FORMS = {
    "default": HomNetConfig(width=8, pair_width=12, num_heads=2),
    "paper": paper_form(),
    "best": best_form(),
    "single": HomNetConfig(width=8, homologs="single"),
    "one alignment": HomNetConfig(width=8, num_alignments=1, alignment="mlp"),
}


class _Largest(BagModel):
    """A model in which a pair's part depends on the others in its bag."""

    def forward(
        self,
        x_BKPCL: torch.Tensor,
        mask_BK: torch.Tensor,
        chromosome_B: torch.Tensor,
        level_BK: torch.Tensor,
    ) -> torch.Tensor:
        darkness_BK = x_BKPCL.float().mean(dim=(2, 3, 4)) + level_BK
        return torch.where(mask_BK, darkness_BK, -torch.inf).amax(dim=1) + chromosome_B


def _models(config: HomNetConfig, num: int) -> list[Predictor]:
    torch.manual_seed(0)
    models = [HomNet(config) for _ in range(num)]
    for model in models:
        if model.cms.template_TL is not None:
            model.cms.template_TL.normal_()
        if model.search is not None:
            model.search.covariance_TXX += 0.1
            model.search._make()
            model.search.weigh(torch.tensor([0.7, 0.4]))
    return [Predictor(model, {}, version=str(i)) for i, model in enumerate(models)]


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
    return predictor.loaded_logits(DeviceBank(bank, "cpu").load(epoch))


def _predictor(calibration: dict[str, Calibration] | None = None) -> Predictor:
    torch.manual_seed(0)
    return Predictor(HomNet(HomNetConfig(width=8)), calibration or {}, version="v")


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_scores_do_not_depend_on_the_batch(table_of: TableOf, batch_size: int) -> None:
    bank = PairBank.from_table(table_of())
    epoch = draw_epoch(bank, BagConfig(num_cells=3), EventConfig(), seed=0, epoch=0)
    expected = _predictor().loaded_logits(DeviceBank(bank, "cpu").load(epoch), 40)
    got = _predictor().loaded_logits(DeviceBank(bank, "cpu").load(epoch), batch_size)
    assert len(got) == len(epoch)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_each_hospital_has_its_own_calibration() -> None:
    predictor = _predictor({"h1": Calibration(threshold=0.2, temperature=2.0, prior=0.1)})
    logit = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(predictor.probabilities(logit, "h1"), expit(logit / 2))
    np.testing.assert_allclose(predictor.probabilities(logit, "unknown"), expit(logit))
    assert predictor.of("h1").threshold == 0.2


@pytest.mark.parametrize("form", FORMS)
def test_flat_bags_score_as_in_batch_evaluation(table_of: TableOf, form: str) -> None:
    table, assessment = _mixed(table_of)
    predictors = _models(FORMS[form], 3)
    expected = np.stack([_batch_evaluation(table, assessment, one) for one in predictors])
    predictor_B = np.random.default_rng(0).integers(0, len(predictors), len(assessment.bags))
    got = score_bags(predictors, assessment.bags, predictor_B)
    np.testing.assert_allclose(
        got.logit_B, expected[predictor_B, np.arange(len(predictor_B))], atol=1e-5, rtol=0
    )


def test_other_models_score_flat_bags_whole(table_of: TableOf) -> None:
    table, assessment = _mixed(table_of)
    predictor = Predictor(_Largest(), {}, version="v")
    expected = _batch_evaluation(table, assessment, predictor)
    np.testing.assert_allclose(predictor.flat_logits(assessment.bags), expected, rtol=1e-6)
    assert len(predictor.flat_logits(assessment.bags.part(0, 0))) == 0
    with pytest.raises(CheckpointError, match="only HomNet can answer"):
        predictor.evidence(assessment.bags)


def test_company_changes_nothing(table_of: TableOf) -> None:
    _, assessment = _mixed(table_of)
    predictors = _models(FORMS["best"], 2)
    bags = assessment.bags
    predictor_B = np.arange(len(bags)) % 2
    together = score_bags(predictors, bags, predictor_B)
    for b in range(len(bags)):
        alone = predictors[predictor_B[b]].evidence(bags.part(b, b + 1))
        assert alone.logit_B[0] == pytest.approx(together.logit_B[b], abs=1e-5)


def test_what_pairs_add_makes_the_logit(table_of: TableOf) -> None:
    _, assessment = _mixed(table_of)
    (predictor,) = _models(FORMS["default"], 1)
    bags = assessment.bags
    got = predictor.evidence(bags)
    bias = predictor.homnet().bag.bag.bias.item()
    bag_N = np.repeat(np.arange(len(bags)), bags.size_B)
    np.testing.assert_allclose(np.bincount(bag_N, got.added_N) + bias, got.logit_B, atol=1e-9)
    assert got.weight_N.min() >= 0
    assert got.weight_N.max() <= 1
    assert len(set(got.weight_N.round(6))) > 1


@pytest.mark.parametrize("pairs_at_once", [1, 5, 10_000])
@pytest.mark.parametrize("form", FORMS)
def test_sub_batches_change_no_score_and_no_order(
    table_of: TableOf, form: str, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, assessment = _mixed(table_of)
    predictors, bags = _models(FORMS[form], 3), assessment.bags
    predictor_B = np.random.default_rng(1).integers(0, len(predictors), len(bags))
    monkeypatch.setattr(scoring, "pairs_at_once", lambda _: pairs_at_once)
    got = score_bags(predictors, bags, predictor_B)
    at = 0
    for b, size in enumerate(bags.size_B):
        rows = slice(at, at + size)
        model = predictors[predictor_B[b]].homnet()
        with torch.inference_mode():
            x, level = (torch.tensor(v[None, rows]) for v in (bags.pair_NPCL, bags.level_N))
            chromosome = torch.tensor(bags.chromosome_N[at : at + 1])
            weight_BK, added_BK = model.bag.evidence(
                model._pairs(*model._view(x), chromosome, level)
            )
            together = model(x, torch.ones(1, size, dtype=torch.bool), chromosome, level).item()
            if model.search is not None:
                ratio_KH = model.search.ratios(model._view(x)[0], chromosome)[0]
                one_bag = torch.zeros(size, dtype=torch.long)
                added_BK += model.search.contributions(ratio_KH, one_bag, torch.tensor([size]))
        # The form that scores homologs alone has two columns for each pair.
        weight_N = weight_BK.view(size, -1).amax(dim=1).double().numpy()
        added_N = added_BK.view(size, -1).double().sum(dim=1).numpy()
        np.testing.assert_allclose(got.weight_N[rows], weight_N, atol=1e-6)
        np.testing.assert_allclose(got.added_N[rows], added_N, atol=2e-5)
        assert got.bias_B[b] == model.bag.bag.bias.item()
        assert got.logit_B[b] == pytest.approx(together, abs=1e-4)
        at += size


@pytest.mark.parametrize("form", FORMS)
def test_a_pass_reads_the_device_once(
    table_of: TableOf, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be read from the device "meta": whoever tries to raises an error."""
    _, assessment = _mixed(table_of)
    bags, read = assessment.bags, []
    predictors = [
        Predictor(one.model, {}, version="", device="meta") for one in _models(FORMS[form], 2)
    ]

    def read_back(values: torch.Tensor) -> NDArray[np.float64]:
        read.append(tuple(values.shape))
        return np.zeros(values.shape)

    monkeypatch.setattr(scoring, "read_back", read_back)
    monkeypatch.setattr(scoring, "pairs_at_once", lambda _: 4)
    score_bags(predictors, bags, np.arange(len(bags)) % 2)
    assert read == [(2, int(bags.size_B.sum()) + len(predictors))]


def test_bfloat16_is_near_and_shares_the_weights(table_of: TableOf) -> None:
    bags = _mixed(table_of)[1].bags
    (predictor,) = _models(FORMS["best"], 1)
    lower = predictor.at("bfloat16")
    assert lower.model is predictor.model
    logit_B = predictor.flat_logits(bags)
    assert 1e-6 < np.abs(lower.flat_logits(bags) - logit_B).max() < 0.1
    np.testing.assert_array_equal(lower.at("float32").flat_logits(bags), logit_B)
