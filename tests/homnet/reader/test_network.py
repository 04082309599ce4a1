"""The reader's symmetries, and the verdict that it must leave alone."""

import dataclasses

import pytest
import torch

from homnet.errors import ConfigError
from homnet.model.network import HomNet, HomNetConfig, best_form
from homnet.reader.network import Reader, ReaderConfig, Reading

FORM = dataclasses.replace(best_form(), width=16, pair_width=24, num_heads=2)
B, K = 3, 5


def _random_template(homnet: HomNet) -> None:
    assert homnet.cms.template_TL is not None
    homnet.cms.template_TL.normal_()


def _reader() -> Reader:
    torch.manual_seed(0)
    reader = ReaderConfig(model=FORM, width=16, num_positions=64).build()
    _random_template(reader.homnet)
    return reader.eval()


def _bags() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    x_BKPCL = torch.zeros(B, K, 2, 2, 512, dtype=torch.uint8)
    for b in range(B):
        for k in range(K):
            for p in range(2):
                length = 90 + 20 * b + 7 * k + 11 * p
                x_BKPCL[b, k, p, :, :length] = torch.randint(1, 255, (2, length))
    mask_BK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    return x_BKPCL, mask_BK, torch.tensor([0, 4, 20]), torch.arange(B * K).view(B, K) % 4


def _close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def _read(reader: Reader, *bags: torch.Tensor) -> Reading:
    return reader.read(*bags)


def test_shapes() -> None:
    reading = _read(_reader(), *_bags())
    assert reading.kind_BX.shape == (B, 8)
    assert reading.segment_B2G.shape == (B, 2, 66)
    assert reading.cell_BKX.shape == reading.first_cell_BKX.shape == (B, K, 3)
    assert reading.extent_BKPL.shape == (B, K, 2, 64)


def test_swapping_the_homologs_of_some_cells_swaps_what_is_said_of_them() -> None:
    reader, (x, mask, chromosome, level) = _reader(), _bags()
    one = _read(reader, x, mask, chromosome, level)
    swap = torch.zeros(B, K, dtype=torch.bool)
    swap[:, ::2] = True
    swapped = torch.where(swap[:, :, None, None, None], x.flip(2), x)
    other = _read(reader, swapped, mask, chromosome, level)
    _close(one.kind_BX, other.kind_BX)
    _close(one.segment_B2G, other.segment_B2G)
    back = torch.where(swap[:, :, None], other.cell_BKX[:, :, [0, 2, 1]], other.cell_BKX)
    _close(one.cell_BKX[mask], back[mask])
    extent = other.extent_BKPL
    extent = torch.where(swap[:, :, None, None], extent.flip(2), extent)
    _close(one.extent_BKPL[mask], extent[mask])
    # And the homologs are told apart.
    assert not torch.allclose(one.extent_BKPL[0, 0, 0], one.extent_BKPL[0, 0, 1], atol=1e-3)


def test_permuting_cells_permutes_what_is_said_of_them() -> None:
    reader, (x, mask, chromosome, level) = _reader(), _bags()
    one = _read(reader, x, mask, chromosome, level)
    order = torch.tensor([3, 0, 4, 2, 1])
    other = _read(reader, x[:, order], mask[:, order], chromosome, level[:, order])
    _close(one.kind_BX, other.kind_BX)
    _close(one.segment_B2G, other.segment_B2G)
    _close(one.cell_BKX[:, order][mask[:, order]], other.cell_BKX[mask[:, order]])
    _close(one.extent_BKPL[:, order][mask[:, order]], other.extent_BKPL[mask[:, order]])


def test_what_lies_in_empty_places_changes_nothing() -> None:
    reader, (x, mask, chromosome, level) = _reader(), _bags()
    one = _read(reader, x, mask, chromosome, level)
    other_x = torch.where(mask[:, :, None, None, None], x, 255 - x)
    other = _read(reader, other_x, mask, chromosome, torch.where(mask, level, 0))
    _close(one.kind_BX, other.kind_BX)
    _close(one.segment_B2G, other.segment_B2G)
    _close(one.cell_BKX[mask], other.cell_BKX[mask])
    fewer = _read(reader, x[2:, :1], mask[2:, :1], chromosome[2:], level[2:, :1])
    _close(one.kind_BX[2:], fewer.kind_BX)
    _close(one.extent_BKPL[2:, :1], fewer.extent_BKPL)


def test_cells_help_each_other() -> None:
    reader, (x, mask, chromosome, level) = _reader(), _bags()
    one = _read(reader, x, mask, chromosome, level)
    changed = x.clone()
    changed[0, 1] = x[0, 2]
    other = _read(reader, changed, mask, chromosome, level)
    assert not torch.equal(one.extent_BKPL[0, 0], other.extent_BKPL[0, 0])
    # But not those of another bag.
    _close(one.extent_BKPL[1], other.extent_BKPL[1])


def test_the_verdict_is_that_of_the_homnet_below_to_the_bit() -> None:
    torch.manual_seed(3)
    homnet = HomNet(FORM).eval()
    _random_template(homnet)
    reader = _reader()
    reader.take_homnet(homnet.state_dict())
    bags = _bags()
    before = homnet(*bags)
    optimizer = torch.optim.AdamW([p for p in reader.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        reading = reader.train().read(*bags)
        loss = reading.kind_BX.square().sum() + reading.segment_B2G[..., 1:-1].square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(reader.eval()(*bags), before)
    assert torch.equal(homnet(*bags), before)
    for name, tensor in homnet.state_dict().items():
        assert torch.equal(tensor, reader.state_dict()[f"homnet.{name}"]), name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": HomNetConfig()}, "compares homologs in the stretched view"),
        ({"width": 20}, "width must be a multiple of 16, got 20"),
        ({"num_positions": 100}, "num_positions must be a multiple of 8, got 100"),
    ],
)
def test_forms_that_cannot_be(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReaderConfig(**config)  # type: ignore[arg-type]


def test_a_form_comes_back_from_json() -> None:
    config = ReaderConfig(model=FORM, width=32)
    assert ReaderConfig.of_json(**dataclasses.asdict(config)) == config
