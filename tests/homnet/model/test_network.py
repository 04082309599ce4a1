"""Each block against the paper's equations written as loops, and the symmetries of the whole.

All dimensions differ from each other, so that a swapped axis fails.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from homnet.errors import ConfigError
from homnet.model.network import (
    Alignment,
    HomNet,
    HomNetConfig,
    _distinct_regions,
    best_form,
    flops_per_bag,
    num_parameters,
    paper_form,
)

B, K = 3, 5
SMALL = HomNetConfig(merge_range=73, width=6, pair_width=10, num_heads=3)  # M = 8 regions
FORMS = {
    "default": SMALL,
    "paper": replace(SMALL, attention="ratio"),
    "best": replace(
        best_form(73, search_positions=0),
        width=6,
        pair_width=10,
        num_heads=3,
        stretched_length=88,
        search_positions=44,
    ),
    "mlp": replace(SMALL, alignment="mlp"),
    "convolution": replace(SMALL, alignment="convolution"),
    "single": replace(SMALL, homologs="single"),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _bags(num_cells: int = K) -> tuple[torch.Tensor, ...]:
    x = torch.randint(1, 256, (B, num_cells, 2, 2, 512), dtype=torch.uint8)
    for b in range(B):
        for k in range(num_cells):
            for p in range(2):
                x[b, k, p, :, 150 + 31 * b + 17 * k + 41 * p :] = 0
    mask = torch.ones(B, num_cells, dtype=torch.bool)
    return x, mask, torch.tensor([4, 0, 23]), torch.randint(0, 4, (B, num_cells))


def _model(config: HomNetConfig) -> HomNet:
    model = HomNet(config).eval()
    for parameter in model.parameters():  # away from the small initial values
        torch.nn.init.normal_(parameter, std=0.3)
    if model.cms.template_TL is not None:
        model.cms.template_TL.normal_()
    if model.search is not None:
        size = 2 * model.search.num_positions
        # Any symmetric positive covariance that is the same in either order.
        model.search.covariance_TXX.copy_(0.4 * torch.eye(size) + 0.1)
        model.search._make()
        model.search.weigh(torch.tensor([0.7, 0.4]))
    return model


def test_cms_block_is_equations_1_to_4() -> None:
    model = _model(SMALL)
    cms, k_mg, num_regions = model.cms, 73, 8
    x, _, chromosome, level = _bags()
    x = F.pad(x.float() / 255, (0, num_regions * k_mg - 512))
    got = cms(x[..., :512], chromosome, level)
    assert got.shape == (num_regions, B, K, 2, 6)
    for b, i, j in ((0, 0, 0), (1, 3, 1), (2, 4, 0)):
        rows = []
        for e in range(num_regions):
            # Eq. 1: the kernel covers both chromatids and k_mg positions.
            patch = x[b, i, j, :, e * k_mg : (e + 1) * k_mg]
            merged = torch.stack(
                [
                    (patch * cms.merge.weight[d].view(2, k_mg)).sum() + cms.merge.bias[d]
                    for d in range(6)
                ]
            )
            # Eq. 2: W_info times the concatenated one-hots is a sum of two of its columns.
            info = cms.info_type.weight[chromosome[b]] + cms.info_level.weight[level[b, i]]
            rows.append(merged + info.view(num_regions, 6)[e])
        r = torch.stack(rows)
        w1, w2 = cms.local[0].weight.T, cms.local[2].weight.T
        r1 = torch.relu(r @ w1) @ w2 + r  # Eq. 3
        w3, w4 = cms.across[0].weight.T, cms.across[2].weight.T
        r2 = (torch.relu(r1.T @ w3) @ w4).T + r1  # Eq. 4
        torch.testing.assert_close(got[:, b, i, j], r2)


@pytest.mark.parametrize("form", FORMS)
def test_equal_regions_are_computed_once_and_change_nothing(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Initial weights: larger ones bring Eq. 6's raw ratio near its pole, where roundings grow.
    model = HomNet(FORMS[form])
    x, mask, chromosome, level = _bags()
    x[2, 1, 0] = 0  # a chromosome without content
    x[1, 2, 1, :, 80:160] = 0  # and one with a gap inside

    def run() -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        model.zero_grad()
        logit = model(x, mask, chromosome, level)
        torch.nn.functional.softplus(logit).sum().backward()
        return logit.detach(), [p.grad for p in model.parameters()]

    logit, gradients = run()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    dense_logit, dense_gradients = run()
    torch.testing.assert_close(logit, dense_logit, rtol=1e-4, atol=1e-5)
    for gradient, dense in zip(gradients, dense_gradients, strict=True):
        if gradient is None or dense is None:
            assert gradient is dense
        else:
            scale = float(dense.abs().max()) + 1e-6
            torch.testing.assert_close(gradient, dense, rtol=0, atol=1e-3 * scale)


def test_distinct_regions_stand_for_all() -> None:
    patch = torch.randint(1, 256, (8, B, K, 2, 146), dtype=torch.uint8)
    patch[3:] = 0
    kind = torch.randint(0, 3, (B, K))
    place, row = _distinct_regions(patch, kind)
    assert len(place) == 3 * B * K * 2 + 5 * len(kind.unique())
    chosen = place[row]
    for values in (patch.flatten(0, 3), torch.arange(8).repeat_interleave(B * K * 2)):
        assert torch.equal(values[chosen.flatten()], values)
    kinds = kind[None, ..., None].expand(8, B, K, 2).flatten()
    empty = (patch == 0).all(-1).flatten()
    assert torch.equal(kinds[chosen.flatten()][empty], kinds[empty])


@pytest.mark.parametrize("attention", ["softmax", "ratio"])
def test_alignment_is_equations_5_to_7(attention: str) -> None:
    block = Alignment(replace(SMALL, attention=attention)).eval()  # type: ignore[arg-type]
    r = torch.rand(8, B, K, 2, 6) + 0.5
    with torch.no_grad():
        # Keeps the ratio's denominator away from its pole.
        for layer in (block.align.query, block.align.key):
            layer.weight.abs_()
    got = block(r)
    for b, i, j in ((0, 1, 0), (2, 4, 1)):
        own, other = r[:, b, i, j], r[:, b, i, 1 - j]
        for e in range(8):
            heads = []
            for h in range(3):
                part = slice(2 * h, 2 * h + 2)
                q = (block.align.query.weight @ own[e])[part]
                a = torch.stack(
                    [q @ (block.align.key.weight @ other[z])[part] / math.sqrt(2) for z in range(8)]
                )
                v = torch.stack([(block.align.value.weight @ other[z])[part] for z in range(8)])
                weight = torch.softmax(a, 0) if attention == "softmax" else a / a.sum()
                heads.append((weight[:, None] * v).sum(0))
            aligned = block.align.head.weight @ torch.cat(heads)
            expected = block.difference.weight @ (own[e] + aligned) + block.difference.bias
            torch.testing.assert_close(got[e, b, i, j], expected, rtol=1e-4, atol=1e-5)


def test_the_ratio_stays_finite_at_its_pole() -> None:
    block = Alignment(replace(SMALL, attention="ratio"))
    assert torch.isfinite(block(torch.zeros(8, B, K, 2, 6))).all()


def test_hom_block_ends_with_equation_8() -> None:
    model = _model(SMALL)
    r = torch.randn(8, B, K, 2, 6)
    got = model.hom(r)
    for alignment in model.hom.alignments:
        r = alignment(r)
    flat = torch.cat([r[:, 1, 2, 0].reshape(-1), r[:, 1, 2, 1].reshape(-1)])
    expected = torch.relu(model.hom.pair.weight @ flat + model.hom.pair.bias)
    torch.testing.assert_close(got[1, 2], expected, rtol=1e-4, atol=1e-4)


def test_bag_block_is_equations_9_and_10() -> None:
    block = _model(SMALL).bag
    pair, mask = torch.rand(B, K, 10), torch.ones(B, K, dtype=torch.bool)
    mask[1, 3:] = False
    got = block(pair, mask)
    for b in range(B):
        members = [pair[b, i] for i in range(K) if mask[b, i]]
        total = sum(torch.sigmoid(block.weight(member)) * member for member in members)
        torch.testing.assert_close(got[b], (block.bag.weight @ total + block.bag.bias)[0])


@pytest.mark.parametrize("form", FORMS)
def test_what_fills_an_empty_place_changes_nothing(form: str) -> None:
    model = _model(FORMS[form])
    x, mask, chromosome, level = _bags()
    expected = model(x, mask, chromosome, level)
    padded_x = torch.cat([x, torch.randint(0, 256, (B, 2, 2, 2, 512), dtype=torch.uint8)], 1)
    padded_mask = F.pad(mask, (0, 2))
    got = model(padded_x, padded_mask, chromosome, F.pad(level, (0, 2)))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_cells_changes_nothing(form: str) -> None:
    model = _model(FORMS[form])
    x, mask, chromosome, level = _bags()
    mask[0, 4] = False
    order = torch.tensor([3, 0, 4, 1, 2])
    got = model(x[:, order], mask[:, order], chromosome, level[:, order])
    expected = model(x, mask, chromosome, level)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_swapping_homologs_changes_nothing_in_the_symmetric_form() -> None:
    x, mask, chromosome, level = _bags()
    for form, symmetric in (("best", True), ("single", True), ("default", False)):
        model = _model(FORMS[form])
        change = model(x.flip(2), mask, chromosome, level) - model(x, mask, chromosome, level)
        assert (change.abs().max() < 1e-4) == symmetric, form


def test_the_symmetric_form_is_the_mean_of_both_orders() -> None:
    x, _, chromosome, level = _bags()
    symmetric = _model(FORMS["best"])
    one_order = _model(replace(FORMS["best"], symmetric=False))
    one_order.load_state_dict(symmetric.state_dict())
    there, back = (one_order._pairs(*one_order._view(y), chromosome, level) for y in (x, x.flip(2)))
    assert (there - back).abs().max() > 1e-3
    got = symmetric._pairs(*symmetric._view(x), chromosome, level)
    torch.testing.assert_close(got, (there + back) / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_cells", [1, 3, 30])
def test_any_number_of_cells(form: str, num_cells: int) -> None:
    logit = _model(FORMS[form])(*_bags(num_cells))
    assert logit.shape == (B,)
    assert torch.isfinite(logit).all()


@pytest.mark.parametrize("form", FORMS)
def test_one_bag_does_not_see_the_others(form: str) -> None:
    model = _model(FORMS[form])
    x, mask, chromosome, level = _bags()
    alone = model(x[1:2], mask[1:2], chromosome[1:2], level[1:2])
    torch.testing.assert_close(alone, model(x, mask, chromosome, level)[1:2], rtol=1e-4, atol=1e-4)


def test_templates_are_the_mean_profile_of_each_type() -> None:
    model = HomNet(FORMS["best"])
    x, _, _, _ = _bags()
    pairs, types = x.flatten(0, 1), torch.tensor([0] * 5 + [7] * 10)
    model.fit_template(pairs, types)
    template = model.cms.template_TL
    assert template is not None
    for chromosome in (0, 7):
        profiles = []
        for pair in pairs[types == chromosome]:
            for homolog in pair:
                size = int((homolog[0] > 0).sum())
                grey = F.interpolate(homolog[None, :, :size].float() / 255, 88, mode="linear")[0]
                profiles.append(((grey - grey.mean()) / grey.std(correction=0)).mean(0))
        torch.testing.assert_close(
            template[chromosome], torch.stack(profiles).mean(0), atol=2e-2, rtol=0
        )
    assert not template[3].any()


def test_fine_tuning_freezes_cms_block_and_the_first_alignment() -> None:
    model = HomNet(SMALL)
    model.freeze_for_fine_tuning()
    learnt = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("cms.", "hom.alignments.0.")) for name in learnt)
    assert {"hom.alignments.1.align.query.weight", "hom.pair.weight", "bag.bag.weight"} <= learnt


@pytest.mark.parametrize(("merge_range", "regions"), [(8, 64), (32, 16), (48, 11), (64, 8)])
def test_merge_ranges_cover_the_sequence(merge_range: int, regions: int) -> None:
    assert paper_form(merge_range).num_regions == regions
    assert best_form(merge_range).num_regions == regions
    assert best_form(merge_range).region_length * regions >= 128


def test_flops_are_counted() -> None:
    config = HomNetConfig()
    one, five = (flops_per_bag(config, k) for k in (1, 5))
    assert five == pytest.approx(5 * one, rel=0.02)
    dense = 2 * 5 * (2 * 16 * 64 * (64 + 4 * 64 + 2 * 5 * 64) + 2 * 16 * 64 * 128)
    assert one == pytest.approx(dense / 5, rel=0.35)
    assert num_parameters(HomNet(config)) > 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"merge_range": 0},
        {"width": 65},
        {"num_heads": 0},
        {"width": 0},
        {"num_alignments": 0},
        {"template": True},
        {"search_positions": 32},
        {"search_positions": 16, "view": "stretched", "standardise": True, "template": True},
        {"search_positions": 32, "view": "stretched", "standardise": True},
        {"homologs": "single", "symmetric": True},
        {"view": "strecthed"},
        {"attention": "soft"},
    ],
)
def test_impossible_forms_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        HomNetConfig(**change)  # type: ignore[arg-type]
