"""Verdicts on patients: what is called, what is flagged, and when nothing is said."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import logsumexp

from homnet.bags.assessment import Assessment, assess
from homnet.calibration.likelihood_ratios import Scale
from homnet.calibration.patients import ALL_HOSPITALS, PatientCalibration
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.karyotype.kinds import SHOWN
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import best_form
from homnet.model.predictor import Predictor
from homnet.patients.diagnostician import Diagnostician, diagnose
from homnet.patients.finding import (
    NOT_READ,
    BreakpointEstimate,
    CellFinding,
    Finding,
    NotAnswered,
)
from homnet.patients.tables import patient_table
from homnet.patients.verdict import PatientVerdict, VerdictConfig
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader

Judge = Callable[..., list[PatientVerdict]]
TableOf = Callable[..., pa.Table]


class FixedReader:
    """A reader that says the same kinds and places of the same types, whoever it reads."""

    version = "fixed"

    def __init__(self, findings: dict[str, dict[str, Any]], probability: float = 0.9) -> None:
        self.findings, self.probability = findings, probability
        self.asked: list[str] = []

    def __call__(self, assessment: Assessment) -> Sequence[Finding]:
        self.asked += [who.chromosome for who in assessment.types]
        type_N = np.repeat(assessment.type_B, assessment.bags.size_B)
        found = []
        for g, who in enumerate(assessment.types):
            known = self.findings.get(who.chromosome, {})
            cells = tuple(
                CellFinding(
                    assessment.cell_N[n],
                    550,
                    self.probability if known else 0.02,
                    1,
                    0.9,
                    np.full((2, 512), 0.25, np.float32),
                )
                for n in np.flatnonzero(type_N == g)
            )
            kind = known.get("kind", "none")
            kinds = {one: 1.0 if one == kind else 0.0 for one in SHOWN}
            places = {name: place for name, place in known.items() if name != "kind"}
            found.append(Finding(*who, None, cells, kinds, reader="fixed", **places))
        return found


def test_a_verdict_names_no_other_hospital(judge: Judge, table_of: TableOf) -> None:
    """Its calibration may be that of all hospitals."""
    table = table_of("h1", num_patients=1)
    (verdict,) = judge(table, hospitals=("h1", "clinic-b", "clinic-c"))
    assert verdict.versions["calibrated_on"] == "h1 and 2 other hospitals"
    assert "clinic" not in json.dumps(verdict.to_json())


def test_the_threshold_decides_and_truth_is_not_looked_at(
    forced: Judge, judge: Judge, table_of: TableOf
) -> None:
    table = table_of("h1", num_patients=2, abnormal="3")
    called = forced(table)
    silent = judge(table, threshold=20.0)
    assert [one.decision for one in called] == ["abnormal"] * 2
    assert [one.decision for one in silent] == ["no_abnormality_found"] * 2
    assert all(not one.flagged for one in silent)
    measured = table.select(["hospital", "patient_id", "cell_id", "chromosome", "band_level"])
    measured = measured.append_column("pair", table["pair"])
    for with_truth, without in zip(called, forced(measured), strict=True):
        assert with_truth.to_json() == without.to_json()


def test_order_of_rows_changes_nothing(forced: Judge, table_of: TableOf) -> None:
    table = table_of("h1", num_patients=1, chromosomes=("1", "2", "3"))
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    config = VerdictConfig(min_types=2)
    first, again = (forced(part, config=config)[0].to_json() for part in (table, shuffled))
    assert json.dumps(first) == json.dumps(again)


def test_prevalence_moves_probabilities_and_not_the_verdict(
    forced: Judge, table_of: TableOf
) -> None:
    table = table_of("h1", num_patients=1)
    own, rare = (
        forced(table, config=VerdictConfig(prevalence=prevalence))[0] for prevalence in (None, 0.01)
    )
    assert own.prevalence == pytest.approx(0.2)
    assert own.decision == rare.decision
    assert own.score == rare.score
    assert own.probability is not None
    assert rare.probability is not None
    assert rare.probability < own.probability
    with pytest.raises(ConfigError, match="prevalence"):
        VerdictConfig(prevalence=0.0)


def test_too_few_cells_or_poor_bands_are_answers(forced: Judge, table_of: TableOf) -> None:
    (lonely,) = forced(table_of("h1", num_patients=1, num_cells=1))
    assert lonely.decision == "not_assessed"
    assert [one.code for one in lonely.abstentions] == ["too_few_cells"]
    assert all("too few cells" in one.not_assessed[0] for one in lonely.types[:22])
    table = table_of("h1", num_patients=1)
    (poor,) = forced(table, config=VerdictConfig(min_band_level=550))
    assert poor.decision == "abnormal"
    (worse,) = forced(table, config=VerdictConfig(min_band_level=700))
    assert [one.code for one in worse.abstentions] == ["poor_bands"]
    assert worse.flagged


def test_a_type_with_fewer_cells_than_needed_neither_counts_nor_is_flagged(
    forced: Judge, table_of: TableOf
) -> None:
    table = table_of("h1", num_patients=1, num_cells=4, chromosomes=("1", "5", "9"))
    # Two cells are a clone, so that nothing else takes chromosome 9 out.
    num_cells = {"1": 4, "5": 3, "9": 2}
    kept = [
        int(cell[1:]) < num_cells[name]
        for name, cell in zip(
            table["chromosome"].to_pylist(), table["cell_id"].to_pylist(), strict=True
        )
    ]
    settings = {
        "config": VerdictConfig(min_types=2),
        # Chromosome 9 would decide alone if it counted.
        "type_offsets": tuple(40.0 if number == 8 else 0.0 for number in range(24)),
        "threshold": -20.0,
    }
    (verdict,) = forced(table.filter(pa.array(kept)), min_cells=3, **settings)
    types = {one.chromosome: one for one in verdict.types}
    assert types["9"].evidence is None
    assert "both homologs in 2, and 3 are needed" in types["9"].not_assessed[0]
    # Exactly as many as are needed is enough.
    assert {one.chromosome for one in verdict.flagged} == {"1", "5"}
    counted = [one.evidence for one in verdict.types if one.evidence is not None]
    assert len(counted) == 2
    assert verdict.score == pytest.approx(float(logsumexp(counted)) - np.log(2))
    assert verdict.decision == "abnormal"


def test_one_cell_is_no_clone(forced: Judge, table_of: TableOf) -> None:
    (single,) = forced(table_of("h1", num_patients=1), cell_scale=Scale(1e-6, -3.0))
    assert single.decision == "not_assessed"
    assert [one.code for one in single.abstentions] == ["one_cell_only"]
    assert "no clone" in single.abstentions[0].text


def test_what_has_one_homolog_or_none_is_said_to_be_so(forced: Judge, table_of: TableOf) -> None:
    table = table_of("h1", num_patients=1, chromosomes=("1", "2", "21", "X", "Y"))
    pair = np.stack([np.frombuffer(one, np.uint8) for one in table["pair"].to_pylist()])
    single = np.isin(table["chromosome"].to_pylist(), ["21", "X", "Y"])
    pair[single, pair.shape[1] // 2 :] = 0
    column = pa.array([one.tobytes() for one in pair], table["pair"].type)
    table = table.set_column(table.schema.get_field_index("pair"), "pair", column)
    (verdict,) = forced(table, config=VerdictConfig(min_types=2))
    types = {one.chromosome: one for one in verdict.types}
    assert list(types) == [*(str(n) for n in range(1, 23)), "X", "Y"]
    assert types["Y"].not_assessed == (
        "there is no second homolog to compare with, as with a male X or Y",
    )
    assert "no chromosome of this type was sent" in types["7"].not_assessed
    assert types["21"].finding is None
    assert types["21"].not_assessed == ("one homolog only in 4 cells, left out",)
    assert any("Chromosome 21 has one homolog only in 4 of 4 cells" in n for n in verdict.notes)
    assert not any("Chromosome X" in note for note in verdict.notes)


def test_no_reader_changes_a_verdict(forced: Judge, table_of: TableOf) -> None:
    table = table_of("h1", num_patients=2, num_cells=4, chromosomes=("1", "5", "21"))
    torch.manual_seed(0)
    real = CalibratedReader(
        ReaderConfig(model=replace(best_form(), width=16, pair_width=16), width=16).build(),
        {"kind": 1.0, "segment": 1.0, "cell": 1.0},
        version="real",
    )
    config = VerdictConfig(min_types=2)
    # Single cells are weak here, a reader that is sure of them must not make a clone of them.
    weak = Scale(1e-6, -3.0)
    plain = forced(table, config=config, cell_scale=weak)
    for reader in (FixedReader({"5": {"kind": "deletion"}}), real):
        read = forced(table, config=config, cell_scale=weak, reader=reader)
        for one, other in zip(plain, read, strict=True):
            assert one.decision == other.decision == "not_assessed"
            assert one.score == other.score
            assert [t.clone for t in one.types] == [t.clone for t in other.types]
        # A reader that does not count reads what the verdict rests on, and nothing else.
        kinds = {t.chromosome: t.finding.kinds for t in read[0].types if t.finding is not None}
        assert set(kinds) == {"1", "5", "21"}
        flagged = {t.chromosome for t in read[0].flagged}
        assert {name for name, kind in kinds.items() if kind} == flagged
        assert flagged


def test_a_calibrated_reader_counts_and_no_other_can_stand_in(
    judge: Judge, table_of: TableOf
) -> None:
    table = table_of("h1", num_patients=1, chromosomes=("1", "5"))
    reader = FixedReader({"5": {"kind": "deletion"}})
    config = VerdictConfig(min_types=1)
    plain, told = (
        judge(table, reader, config=config, reader_version=version, read_weight=weight)
        for version, weight in (("none", 0.0), ("fixed", 0.5))
    )
    before, after = (
        {one.chromosome: one.evidence for one in verdict.types} for (verdict,) in (plain, told)
    )
    # Sure to a millionth, either way: half of the log odds of that is added.
    moved = 0.5 * np.log((1 - 1e-6) / 1e-6)
    assert after["5"] == pytest.approx(before["5"] + moved, abs=1e-6)
    assert after["1"] == pytest.approx(before["1"] - moved, abs=1e-6)
    with pytest.raises(CheckpointError, match=r"together with the reader fixed.*given is none"):
        judge(table, reader_version="fixed", read_weight=0.5)


class UnsureReader(FixedReader):
    """A reader that cannot tell a loss from an exchange, on any type."""

    def __call__(self, assessment: Assessment) -> Sequence[Finding]:
        kinds = dict.fromkeys(SHOWN, 0.0) | {"deletion": 0.4, "insertion_translocation": 0.4}
        kinds |= {"none": 0.2}
        return [replace(one, kinds=kinds) for one in super().__call__(assessment)]


def test_kinds_know_of_the_other_types(forced: Judge, table_of: TableOf) -> None:
    table = table_of("h1", num_patients=1, chromosomes=("1", "5", "9", "21"))

    def kind_of_5(abnormal: Sequence[int]) -> str | None:
        offsets = tuple(40.0 if number in abnormal else -40.0 for number in range(24))
        config = VerdictConfig(min_types=1)
        (verdict,) = forced(table, reader=UnsureReader({}), config=config, type_offsets=offsets)
        (five,) = (one for one in verdict.types if one.chromosome == "5")
        assert five.finding is not None
        return five.finding.abnormal_kind

    assert kind_of_5([4, 8]) == "insertion_translocation"
    assert kind_of_5([4]) == "deletion"


def _at(chromosome: str, mb: float) -> BreakpointEstimate:
    return BreakpointEstimate.at(chromosome, mb, mb - 0.1, mb + 0.1, 400)


def test_two_exchanged_ends_suggest_a_translocation(forced: Judge, table_of: TableOf) -> None:
    kind = "insertion_translocation"
    reader = FixedReader(
        {
            "9": {"kind": kind, "start": _at("9", 132)},
            "22": {"kind": kind, "start": _at("22", 23)},
        }
    )
    table = table_of("h1", num_patients=1, chromosomes=("9", "22"))
    config = VerdictConfig(min_types=2)
    (verdict,) = forced(table, reader=reader, config=config)
    assert {one.chromosome for one in verdict.flagged} == {"9", "22"}
    assert "t(9;22)(q34;q11.2) draft, to be confirmed" in verdict.notes[0]
    # The name of one side alone would be that of another abnormality.
    assert {str(one.draft) for one in verdict.flagged} == {
        "t(9;22)(q34;q11.2) draft, to be confirmed"
    }
    assert patient_table([verdict])["drafts"].to_pylist() == [
        ["t(9;22)(q34;q11.2) draft, to be confirmed"]
    ]
    inserted = FixedReader(
        {
            "9": {"kind": kind, "start": _at("9", 100), "stop": _at("9", 100)},
            "22": {"kind": "deletion", "start": _at("22", 23), "stop": _at("22", 35)},
        }
    )
    (moved,) = forced(table, reader=inserted, config=config)
    assert [one.draft for one in moved.flagged] == [None, None]
    assert "(translocation or insertion) is suggested" in moved.notes[0]
    inverted = FixedReader({"9": {"kind": "inversion"}, "22": {"kind": "inversion"}})
    (other,) = forced(table, reader=inverted, config=config)
    assert other.notes == ()
    # Without a reader the same cells showing two types are reason enough to say so.
    (unread,) = forced(table, config=config)
    assert "an exchange between them, or two abnormalities of one clone" in unread.notes[0]


def test_a_missing_acrocentric_beside_an_abnormal_one_suggests_a_fusion(
    forced: Judge, table_of: TableOf
) -> None:
    table = table_of("h1", num_patients=1, chromosomes=("13", "14"))
    pair = np.stack([np.frombuffer(one, np.uint8) for one in table["pair"].to_pylist()])
    pair[np.array(table["chromosome"].to_pylist()) == "14", pair.shape[1] // 2 :] = 0
    column = pa.array([one.tobytes() for one in pair], table["pair"].type)
    table = table.set_column(table.schema.get_field_index("pair"), "pair", column)
    config = VerdictConfig(min_types=1)
    (verdict,) = forced(table, config=config)
    assert "a Robertsonian translocation of both is possible" in verdict.notes[0]
    for kind, said in (
        ("robertsonian", "rob(13;14)(q10;q10) draft, to be confirmed"),
        ("deletion", "or one whose image was not used"),
    ):
        (read,) = forced(table, reader=FixedReader({"13": {"kind": kind}}), config=config)
        assert said in read.notes[0]


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("third_copy", "Chromosome 21 has more than two copies in 2 of 3 cells"),
        ("turned", "Chromosomes were upside down and were turned: chromosome 21 in 2 cells."),
        (
            "same_pixels",
            "Images have the same pixels as images under other names: chromosome 21 in 2 cells.",
        ),
        (
            "band_level_doubted",
            "The bands of cells c0, c2 are not those of the stated band level; poorer ones count "
            "as they look if the cell has 16 images or more.",
        ),
        ("band_level_estimated", None),
    ],
)
def test_what_was_seen_in_the_images_is_said(
    forced: Judge, table_of: TableOf, flag: str, sentence: str | None
) -> None:
    table = table_of("h1", num_patients=1, num_cells=3, chromosomes=("1", "21"))
    quality = [
        {"flags": [flag] if (name, cell) in {("21", "c0"), ("21", "c2")} else []}
        for name, cell in zip(
            table["chromosome"].to_pylist(), table["cell_id"].to_pylist(), strict=True
        )
    ]
    column = table.schema.get_field_index("quality")
    field = table.schema.field(column)
    table = table.set_column(column, field, pa.array(quality, field.type))
    (verdict,) = forced(table, config=VerdictConfig(min_types=1))
    said = [note for note in verdict.notes if not note.startswith("Chromosomes 21 and 1 look")]
    assert len(said) == (sentence is not None)
    assert all(note.startswith(sentence or "") for note in said)
    quality = verdict.quality()
    assert quality["turned"] == ({"21": 2} if flag == "turned" else {})
    assert quality["num_levels_estimated"] == (2 if flag == "band_level_estimated" else 0)


def test_a_reader_without_evidence_of_cells_gets_that_of_the_model(
    forced: Judge, table_of: TableOf
) -> None:
    class Silent(FixedReader):
        def __call__(self, assessment: Assessment) -> Sequence[Finding]:
            missing = (NotAnswered("cells", "not asked"),)
            return [Finding(*who, None, not_answered=missing) for who in assessment.types]

    table = table_of("h1", num_patients=1, chromosomes=("1",))
    (verdict,) = forced(table, reader=Silent({}), config=VerdictConfig(min_types=1))
    clone = verdict.flagged[0].clone
    assert clone is not None
    assert clone.num_abnormal == 4


def test_json_of_a_verdict_gives_the_findings_back(
    forced: Judge, checkpoint: Checkpoint, table_of: TableOf
) -> None:
    (verdict,) = forced(table_of("h1", num_patients=1))
    content = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert content["use"].startswith("Research use only")
    kept = Finding.from_json(content["types"][0]["finding"])
    assert kept.cells[0].cell_id == "c0"
    assert content["versions"]["model"] == checkpoint.version


def test_a_hospital_without_a_calibration_takes_that_of_all_or_is_not_assessed(
    checkpoint: Checkpoint, calibration: PatientCalibration, table_of: TableOf
) -> None:
    table = table_of("elsewhere", num_patients=1)
    predictor = Predictor.of_checkpoint(checkpoint)
    for one in (checkpoint, replace(checkpoint, patients={})):
        (verdict,) = diagnose(Diagnostician(one), predictor, table)
        assert verdict.decision == "not_assessed"
        (reason,) = verdict.abstentions
        assert reason.code == "not_calibrated"
        assert "elsewhere" in reason.text
        assert (verdict.score, verdict.probability, verdict.flagged) == (None, None, ())
        json.dumps(verdict.to_json(), allow_nan=False)
    pooled = Diagnostician(replace(checkpoint, patients={ALL_HOSPITALS: calibration}))
    (verdict,) = diagnose(pooled, predictor, table)
    assert verdict.score is not None
    mixed = pa.concat_tables([table, table_of("h1", num_patients=1)])
    with pytest.raises(DataError, match="one hospital"):
        diagnose(pooled, predictor, mixed)


def test_model_and_reader_are_those_that_were_calibrated(
    checkpoint: Checkpoint, calibration: PatientCalibration, table_of: TableOf
) -> None:
    table, reader = table_of("h1", num_patients=1), FixedReader({})
    reads = replace(calibration, reader=reader.version, read_from=-99.0, unread_evidence=-5.0)
    model = replace(checkpoint, patients={"h1": reads})
    judge = Diagnostician(model, reader=reader.version)
    predictor = Predictor.of_checkpoint(model)
    with pytest.raises(CheckpointError, match="for the reader fixed, and given is none"):
        diagnose(judge, predictor, table)
    other = Predictor(predictor.model, {}, version="another")
    with pytest.raises(CheckpointError, match=r"for the model .*, and given is another"):
        diagnose(judge, other, table, reader)
    assessment = assess(table)
    with pytest.raises(DataError, match="the reader has to read this type"):
        judge.judge("h1", assessment, predictor.evidence(assessment.bags))


def test_patients_of_two_hospitals_in_one_assessment_are_judged_as_if_alone(
    checkpoint: Checkpoint, calibration: PatientCalibration, table_of: TableOf
) -> None:
    parts = [table_of(name, num_patients=2, seed=n) for n, name in enumerate(("h1", "h2"))]
    other = replace(calibration, threshold=-20.0, type_scale=Scale(0.5, 1.0))
    judge = Diagnostician(replace(checkpoint, patients={"h1": calibration, "h2": other}))
    predictor = Predictor.of_checkpoint(checkpoint)
    together = assess(pa.concat_tables(parts))
    evidence = predictor.evidence(together.bags)
    for name, part in zip(("h1", "h2"), parts, strict=True):
        verdicts = judge.judge(name, together, evidence)
        alone = diagnose(judge, predictor, part)
        assert [one.decision for one in verdicts] == [one.decision for one in alone]
        np.testing.assert_allclose(
            [one.score for one in verdicts], [one.score for one in alone], atol=1e-5
        )


def test_only_what_homnet_cannot_exclude_is_read(judge: Judge, table_of: TableOf) -> None:
    table = table_of("h1", num_patients=1, chromosomes=("1", "5", "9"))
    reader = FixedReader({"5": {"kind": "deletion"}, "9": {"kind": "deletion"}})
    settings = {
        "config": VerdictConfig(min_types=1),
        "reader_version": "fixed",
        "read_weight": 0.5,
        # Only chromosome 9 is above -20.
        "type_offsets": tuple(0.0 if number == 8 else -40.0 for number in range(24)),
    }
    (everything,) = judge(table, reader, **settings)
    assert reader.asked == ["1", "5", "9"]
    reader.asked.clear()
    (verdict,) = judge(table, reader, **settings, read_from=-20.0, unread_evidence=-3.5)
    assert reader.asked == ["9"]
    types = {one.chromosome: one for one in verdict.types}
    assert types["1"].evidence == types["5"].evidence == -3.5
    for one in everything.types:
        if one.chromosome == "9":
            assert types["9"].evidence == one.evidence
    finding = types["5"].finding
    assert finding is not None
    assert not finding.kinds
    assert {one.reason for one in finding.not_answered} == {NOT_READ}
    # Too few cells: a type that does not count is not read either.
    reader.asked.clear()
    judge(table, reader, **settings, read_from=-90.0, min_cells=99)
    assert reader.asked == []


def test_a_checkpoint_keeps_its_calibration_of_patients(
    checkpoint: Checkpoint, calibration: PatientCalibration, tmp_path: Any
) -> None:
    loaded = Checkpoint.load(checkpoint.save(tmp_path / "c"))
    assert loaded.patients == {"h1": calibration}
    assert loaded.digest == checkpoint.digest
    bare = replace(checkpoint, patients={})
    assert bare.digest != checkpoint.digest
    assert Checkpoint.load(bare.save(tmp_path / "bare")).patients == {}
    assert not (tmp_path / "bare" / "patients.json").exists()


def test_a_calibration_of_another_version_is_none(checkpoint: Checkpoint, tmp_path: Any) -> None:
    root = checkpoint.save(tmp_path / "c")
    content = json.loads((root / "patients.json").read_text())
    for one in content.values():
        del one["format"]
    (root / "patients.json").write_text(json.dumps(content))
    hashes = json.loads((root / "sha256.json").read_text())
    hashes["patients.json"] = hashlib.sha256((root / "patients.json").read_bytes()).hexdigest()
    (root / "sha256.json").write_text(json.dumps(hashes))
    older = Checkpoint.load(root)
    assert older.patients == {}
    assert Diagnostician(older).calibration_of("h1") is None


def test_bags_of_more_than_ten_cells_are_one_type(forced: Judge, table_of: TableOf) -> None:
    table = table_of("h1", num_patients=1, num_cells=13, chromosomes=("1",))
    assert len(assess(table).bags) == 2
    (verdict,) = forced(table, config=VerdictConfig(min_types=1))
    (only,) = verdict.flagged
    assert only.clone is not None
    assert only.clone.num_cells == 13
