"""A model that is adapted to a laboratory: only what it compares with changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from homnet.bags.draw import PairBank, rows_of_file
from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.split import TEST, TRAIN, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError, StoreError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet_platform.adaptation import _MEASURED, AdaptConfig, adapt

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
SPLIT = SplitConfig(validation=0.25, test=0.25)
FEWEST = 3


@pytest.fixture
def config(lineage: Any, tmp_path: Path) -> AdaptConfig:
    return AdaptConfig(
        cohort=str(lineage.cohort.root),
        checkpoint=str(lineage.pretrained),
        output=str(tmp_path / "adapted"),
        hospitals=("h1",),
        split=SPLIT,
        min_people=FEWEST,
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
    # Two of the four people have an abnormal chromosome 3, and nobody has X or Y.
    few = torch.tensor([name in {"3", "X", "Y"} for name in CHROMOSOMES])
    enough = ~few
    for name, value in adapted.weights.items():
        if name in _MEASURED:
            torch.testing.assert_close(value[enough], expected.state_dict()[name][enough])
            assert not torch.allclose(value[enough], parent.weights[name][enough], atol=1e-3)
            assert torch.equal(value[few], parent.weights[name][few])
        elif name == "search.any_D":  # all types together
            torch.testing.assert_close(value, expected.state_dict()[name])
        else:
            assert torch.equal(value, parent.weights[name]), name
    pairs = int(torch.bincount(type_N, minlength=len(CHROMOSOMES))[enough].sum())
    said = capsys.readouterr().out
    assert f"measured on {pairs} normal pairs of 4 people; too few, unchanged: 3, X, Y" in said

    # Those who were measured are not to be tested with it, and others may be.
    known = set(adapted.provenance["learnt_from"])
    assert set(patient_digests(split[TRAIN])) | set(parent.provenance["learnt_from"]) == known
    assert not known & set(patient_digests(split[TEST]))
    assert adapted.provenance["parent"] == parent.version
    # The parent's training and calibration were of other weights.
    assert adapted.calibration == {}
    assert adapted.metrics == {"history": []}
    assert adapted.build().search.is_weighted == parent.build().search.is_weighted


def test_the_same_command_is_refused_when_it_is_done(config: AdaptConfig) -> None:
    first = Checkpoint.load(adapt(config)).version
    with pytest.raises(ConfigError, match="this run is finished"):
        adapt(config)
    again = adapt(replace(config, output=f"{config.output}-again"))
    assert Checkpoint.load(again).version == first


def test_an_output_that_cannot_be_written_is_noticed_before_the_work(
    config: AdaptConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("homnet_platform.adaptation._measured")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/out: cannot be written"):
        adapt(replace(config, output=str(tmp_path / "file" / "out")))


def test_too_few_people_are_refused_and_the_advice_can_be_followed(config: AdaptConfig) -> None:
    with pytest.raises(DataError, match=r"0 chromosome types .* of 5 people for .* --min-people"):
        adapt(replace(config, min_people=5))
    adapt(config)
    with pytest.raises(ConfigError, match="give at least 2"):
        replace(config, min_people=1)


def test_files_without_a_normal_pair_of_two_homologs_add_nothing(
    table_of: Callable[..., pa.Table], config: AdaptConfig, tmp_path: Path
) -> None:
    table = table_of("h1", num_patients=8, abnormal="3")
    last = pc.equal(table["patient_id"], "h1-p6")
    files = [
        table.filter(pc.invert(last)),
        table.filter(pc.and_(last, pc.equal(table["chromosome"], "3"))),  # all are abnormal
    ]
    adapted = []
    for name, tables in (("with", files), ("without", files[:1])):
        cohort = write_cohort(tmp_path / name, tables, scale={"h1": 3.0}, provenance={})
        whole = SplitConfig(validation=0.0, test=0.0)
        one = replace(config, cohort=str(cohort.root), output=str(tmp_path / f"{name}-out"))
        adapted.append(Checkpoint.load(adapt(replace(one, split=whole))))
    assert adapted[0].version == adapted[1].version


def test_a_form_that_compares_with_nothing_is_refused(
    lineage: Any, config: AdaptConfig, tmp_path: Path
) -> None:
    parent = Checkpoint.load(lineage.pretrained)
    form = replace(parent.config, template=False, search_positions=0)
    plain = replace(parent, config=form, weights=form.build().state_dict())
    with pytest.raises(ConfigError, match="adapt a model with a template"):
        adapt(replace(config, checkpoint=str(plain.save(tmp_path / "plain"))))
