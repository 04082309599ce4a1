"""A model that is told what is normal elsewhere: only what is compared with changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import PairBank, rows_of_file
from homnet.cohorts.split import TEST, TRAIN, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet_platform.adaptation import _MEASURED, AdaptConfig, adapt

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
SPLIT = SplitConfig(validation=0.25, test=0.25)
FEWEST = 8


@pytest.fixture
def config(lineage: Any, tmp_path: Path) -> AdaptConfig:
    return AdaptConfig(
        cohort=str(lineage.cohort.root),
        checkpoint=str(lineage.pretrained),
        output=str(tmp_path / "adapted"),
        hospitals=("h1",),
        split=SPLIT,
        min_pairs=FEWEST,
    )


def test_means_and_covariances_are_those_of_the_laboratory(
    lineage: Any, config: AdaptConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = Checkpoint.load(lineage.pretrained)
    adapted = Checkpoint.load(adapt(config))
    cohort = lineage.cohort.of_hospitals(["h1"])
    split = split_patients(cohort.patients, SPLIT)
    table = pa.concat_tables([rows_of_file(cohort, number) for number in range(len(cohort.files))])
    bank = PairBank.from_table(table).of_patients(split[TRAIN]).normal()
    expected = parent.build()
    type_N = torch.tensor(bank.codes.type_N)
    expected.take_sums(expected.template_sums(torch.tensor(bank.pair_NPCL), type_N))
    count = torch.bincount(type_N, minlength=len(CHROMOSOMES))
    enough, few = count >= FEWEST, count < FEWEST
    assert enough.any()
    assert few.tolist() == [name in {"X", "Y"} for name in CHROMOSOMES]
    for name, value in adapted.weights.items():
        if name in _MEASURED:
            torch.testing.assert_close(value[enough], expected.state_dict()[name][enough])
            assert not torch.allclose(value[enough], parent.weights[name][enough], atol=1e-3)
            assert torch.equal(value[few], parent.weights[name][few])
        elif name != "search.any_D":
            assert torch.equal(value, parent.weights[name]), name
    assert "kept as they were, for want of pairs: X, Y" in capsys.readouterr().out

    # Those who were measured are not to be tested with it, and others may be.
    known = set(adapted.provenance["learnt_from"])
    assert set(patient_digests(split[TRAIN])) | set(parent.provenance["learnt_from"]) == known
    assert not known & set(patient_digests(split[TEST]))
    assert adapted.provenance["parent"] == parent.version
    assert adapted.calibration == {}
    assert adapted.build().search.is_weighted == parent.build().search.is_weighted


def test_the_same_command_is_refused_when_it_is_done(config: AdaptConfig) -> None:
    first = Checkpoint.load(adapt(config)).version
    with pytest.raises(ConfigError, match="this run is finished"):
        adapt(config)
    again = adapt(replace(config, output=f"{config.output}-again"))
    assert Checkpoint.load(again).version == first


def test_too_few_pairs_are_refused(config: AdaptConfig) -> None:
    with pytest.raises(DataError, match="no type has 1000 normal pairs"):
        adapt(replace(config, min_pairs=1000))
    with pytest.raises(ConfigError, match="give at least 2"):
        replace(config, min_pairs=1)


def test_a_form_that_compares_with_nothing_is_refused(
    lineage: Any, config: AdaptConfig, tmp_path: Path
) -> None:
    parent = Checkpoint.load(lineage.pretrained)
    form = replace(parent.config, template=False, search_positions=0)
    plain = replace(parent, config=form, weights=form.build().state_dict())
    with pytest.raises(ConfigError, match="adapt a model with a template"):
        adapt(replace(config, checkpoint=str(plain.save(tmp_path / "plain"))))
