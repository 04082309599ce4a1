"""Floors: one number of each pair, averaged over the bag."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import PairBank
from homnet.realism.length_only import length_bags, length_table
from homnet_baselines.features import aligned_correlation
from homnet_baselines.floors import Floor, FloorForm


def scores(floor: Floor, x_BKPCL: torch.Tensor) -> torch.Tensor:
    whole = torch.ones(x_BKPCL.shape[:2], dtype=torch.bool)
    nothing = torch.zeros(len(x_BKPCL), dtype=torch.long)
    return floor(x_BKPCL, whole, nothing, nothing)


def test_the_length_floor_is_that_of_the_realism_page(table_of) -> None:
    """Mean absolute log ratio of bags of five, as :mod:`homnet.realism.length_only` has it."""
    table: pa.Table = table_of(num_cells=5, chromosomes=("1", "7"))
    frame = length_table(table)
    expected = length_bags(frame, np.random.default_rng(0)).set_index(["patient_id", "chromosome"])
    bank = PairBank.from_table(table)
    floor = FloorForm("Length ratio").build()
    for (patient, chromosome), rows in bank.frame.groupby(
        ["patient_id", "chromosome"]
    ).indices.items():
        name = str(chromosome + 1)
        found = scores(floor, torch.tensor(bank.pair_NPCL[rows])[None]).item()
        assert found == pytest.approx(expected.loc[(patient, name), "score"], rel=1e-4)


def test_the_correlation_floor_is_what_two_profiles_lack_to_be_one(table_of) -> None:
    bank = PairBank.from_table(table_of(num_patients=1, num_cells=3, chromosomes=("4",)))
    pair_NPCL = torch.tensor(bank.pair_NPCL)
    found = scores(FloorForm("Aligned correlation").build(), pair_NPCL[None])
    assert found.item() == pytest.approx(1 - aligned_correlation(pair_NPCL).mean().item(), rel=1e-5)
    alike = pair_NPCL[:, :1].repeat(1, 2, 1, 1)
    found = scores(FloorForm("Aligned correlation").build(), alike[None])
    assert found.item() == pytest.approx(0.0, abs=1e-4)
