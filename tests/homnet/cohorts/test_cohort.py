"""The format of cohorts: what is written reads back, and every bad file is named with its row."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from homnet.cohorts.checks import read_pairs
from homnet.cohorts.cohort import Cohort, file_path, write_cohort, write_index
from homnet.cohorts.pairs import PAIR_BYTES, SCHEMA, pairs_of
from homnet.errors import CohortError, DataError
from homnet.files import write_whole

TableOf = Callable[..., pa.Table]
SCALE = {"h1": 3.0, "h2": 3.0, "h3": 3.0}
PLACE = {"position": 7, "chromosome": "5", "band": "q13", "mb": 68.5}


def _file(cohort: Cohort, number: int = 0) -> Path:
    return cohort.root / cohort.files[number].path


def _rewrite(cohort: Cohort, change: Callable[[pa.Table], pa.Table]) -> Path:
    path = _file(cohort)
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    return path


def _set(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    return table.set_column(
        index, table.schema.field(column), pa.array(values, SCHEMA.field(column).type)
    )


def test_pairs_survive_the_file_to_the_byte(small_cohort: Cohort, table_of: TableOf) -> None:
    original = table_of("h1", seed=0)
    read = small_cohort.read(small_cohort.files[0])

    def key(t: pa.Table) -> list[str]:
        return [
            "/".join(k)
            for k in zip(
                *(t[c].to_pylist() for c in ("patient_id", "cell_id", "chromosome")), strict=True
            )
        ]

    expected = dict(zip(key(original), pairs_of(original), strict=True))
    for name, pair in zip(key(read), pairs_of(read), strict=True):
        np.testing.assert_array_equal(pair, expected[name])
    assert read.schema.field("pair").type == pa.binary(PAIR_BYTES)
    assert (
        pq.ParquetFile(_file(small_cohort)).schema.column(5).physical_type == "FIXED_LEN_BYTE_ARRAY"
    )


def test_the_index_counts_pairs_and_patients(small_cohort: Cohort) -> None:
    assert small_cohort.num_pairs == 2 * 3 * 4 * 22
    assert small_cohort.num_patients == 6
    assert small_cohort.hospitals == ("h1", "h2")
    assert small_cohort.of_hospitals(["h2"]).num_patients == 3


def test_the_fingerprint_follows_the_content(tmp_path: Path, table_of: TableOf) -> None:
    def make(name: str, seed: int) -> str:
        tables = [table_of(seed=seed)]
        return write_cohort(tmp_path / name, tables, scale={"h1": 3.0}, provenance={}).fingerprint

    assert make("a", 0) == make("b", 0) != make("c", 1)


def _change_index(cohort: Cohort, change: Callable[[dict[str, Any]], None]) -> None:
    index = cohort.root / "cohort.json"
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))


def _without_digest(content: dict[str, Any]) -> None:
    """As an earlier version wrote it."""
    content["schema_version"] = 2
    del content["sha256"]


def test_a_cohort_appears_whole_or_not_at_all(tmp_path: Path, table_of: TableOf) -> None:
    def tables():  # type: ignore[no-untyped-def]
        yield table_of("h1")
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_cohort(tmp_path / "new", tables(), scale={"h1": 3.0}, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_in_a_bucket_is_read_as_one_on_a_disk(
    small_cohort: Cohort, bucket: Callable[[str], str], table_of: TableOf
) -> None:
    place = bucket("cohorts/c")
    with pytest.raises(CohortError, match=r"cohorts/c\?endpoint.*: no cohort here"):
        Cohort.open(place)
    with pytest.raises(CohortError, match="no pair to write"):
        write_cohort(place, [], scale=SCALE, provenance={})
    tables = (table_of(name, seed=seed) for seed, name in enumerate(("h1", "h2")))
    made = write_cohort(place, tables, scale=SCALE, provenance={"made by": "test"})
    assert made.fingerprint == small_cohort.fingerprint
    assert made.read().equals(small_cohort.read())
    with pytest.raises(CohortError, match="exists already"):
        write_cohort(place, [table_of()], scale=SCALE, provenance={})
    file = made.root / made.files[0].path
    content = file.read_bytes()
    write_whole(file, content[:-100])
    with pytest.raises(CohortError, match=r"s3://.*pairs-00000.parquet.*truncated"):
        made.read()
    file.unlink()
    with pytest.raises(CohortError, match=r"pairs-00000.*listed in cohort.json but missing"):
        Cohort.open(place)
    write_whole(file, content)
    (made.root / "cohort.json").unlink()
    with pytest.raises(CohortError, match="no cohort here"):
        Cohort.open(place)


def test_each_byte_of_a_file_is_read_once(
    small_cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: counted.append(self.name) or read(self))
    small_cohort.read()
    assert counted == ["pairs-00000.parquet", "pairs-00001.parquet"]


@pytest.mark.parametrize("place", ["s3:/bucket/c", "ftp://host/c"])
def test_a_uri_that_names_no_store_is_refused(place: str, table_of: TableOf) -> None:
    for act in (
        lambda: Cohort.open(place),
        lambda: write_cohort(place, [table_of()], scale=SCALE, provenance={}),
    ):
        with pytest.raises(CohortError, match="nothing can be stored there"):
            act()


def test_an_existing_directory_is_kept(small_cohort: Cohort, table_of: TableOf) -> None:
    before = small_cohort.fingerprint
    with pytest.raises(CohortError, match="exists already"):
        write_cohort(small_cohort.root, [table_of()], scale={"h1": 3.0}, provenance={})
    assert Cohort.open(small_cohort.root).fingerprint == before


@pytest.mark.parametrize("place", ["path", "object store"])
def test_of_two_that_write_one_cohort_the_second_is_told(
    tmp_path: Path, bucket: Callable[[str], str], table_of: TableOf, place: str
) -> None:
    output = bucket("c") if place == "object store" else str(tmp_path / "c")
    first: list[Cohort] = []

    def tables():  # type: ignore[no-untyped-def]
        yield table_of("h1", seed=1)
        first.append(write_cohort(output, [table_of("h2")], scale=SCALE, provenance={}))

    with pytest.raises(DataError, match=r"c.*: exists already"):
        write_cohort(output, tables(), scale=SCALE, provenance={})
    (kept,) = first
    assert Cohort.open(output).read().equals(kept.read())


@pytest.mark.parametrize("name", ["../../x", "/x", "..", ".h1", "", "a b", "a\\b", "h1\n"])
def test_a_hospital_whose_name_is_no_folder_is_refused(
    small_cohort: Cohort, tmp_path: Path, table_of: TableOf, name: str
) -> None:
    """Names become paths: of files here, and of what jobs write for a hospital."""
    with pytest.raises(CohortError, match=r"'hospital' is .*use letters, digits"):
        write_cohort(tmp_path / "new", [table_of(name)], scale={name: 3.0}, provenance={})
    with pytest.raises(CohortError, match=r"'hospital' is .*use letters, digits"):
        file_path(name, 0)
    entries = [replace(small_cohort.files[0], hospital=name)]
    with pytest.raises(CohortError, match=r"pairs-00000\.parquet: 'hospital' is .*use letters"):
        write_index(tmp_path / "new.json", entries, scale={name: 3.0}, provenance={})
    # One that was made elsewhere, by its rows and by its index.
    table = small_cohort.read(small_cohort.files[0])
    path = _rewrite(small_cohort, lambda t: _set(t, "hospital", 3, name))
    with pytest.raises(CohortError, match=r"pairs-00000\.parquet: row 3: 'hospital' is .*letters"):
        read_pairs(path)
    pq.write_table(table, path)

    def rename(content: dict[str, Any]) -> None:
        _without_digest(content)
        content["files"][0]["hospital"] = name
        content["scale"][name] = 3.0

    _change_index(small_cohort, rename)
    with pytest.raises(CohortError, match=r"cohort\.json: 'hospital' is .*use letters, digits"):
        Cohort.open(small_cohort.root)


def test_a_hospital_may_have_letters_of_any_language(tmp_path: Path, table_of: TableOf) -> None:
    name = "Zürich-2.b_女"
    cohort = write_cohort(tmp_path / "c", [table_of(name)], scale={name: 3.0}, provenance={})
    assert Cohort.open(cohort.root).hospitals == (name,)
    assert cohort.read().num_rows == cohort.num_pairs


def test_a_patient_in_two_tables_is_refused(tmp_path: Path, table_of: TableOf) -> None:
    with pytest.raises(CohortError, match="patient h1-p0 is in two files"):
        write_cohort(tmp_path / "c", [table_of(), table_of()], scale=SCALE, provenance={})


def test_a_patient_id_in_two_hospitals_is_refused(tmp_path: Path, table_of: TableOf) -> None:
    other = _set(table_of("h2").slice(0, 1), "patient_id", 0, "h1-p2")
    with pytest.raises(CohortError, match="patient h1-p2 is in hospital 'h1' and in hospital 'h2'"):
        write_cohort(tmp_path / "c", [table_of("h1"), other], scale=SCALE, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_an_index_of_files_that_workers_wrote_is_checked_alike(small_cohort: Cohort) -> None:
    first, second = small_cohort.files
    shared = replace(second, patients=(*second.patients, "h1-p0"))
    index = small_cohort.root / "new.json"
    with pytest.raises(CohortError, match="patient h1-p0 is in hospital 'h1' and in hospital 'h2'"):
        write_index(index, [first, shared], scale=SCALE, provenance={})
    again = replace(first, path="again.parquet")
    with pytest.raises(CohortError, match="patient h1-p0 is in two files"):
        write_index(index, [first, again], scale=SCALE, provenance={})
    assert not index.exists()


@pytest.mark.parametrize("scale", [{}, {"h2": 3.0}, {"h1": 0.0}, {"h1": math.nan}, {"h1": "3"}])
def test_every_hospital_has_a_scale(table_of: TableOf, tmp_path: Path, scale: Any) -> None:
    with pytest.raises(CohortError, match="scale of hospital 'h1'"):
        write_cohort(tmp_path / "c", [table_of()], scale=scale, provenance={})
    cohort = write_cohort(tmp_path / "c", [table_of()], scale=SCALE, provenance={})
    assert cohort.scale == {"h1": 3.0}

    def without(content: dict[str, Any]) -> None:
        _without_digest(content)
        content["scale"] = {name: one for name, one in scale.items() if one == one}  # no NaN

    _change_index(cohort, without)
    with pytest.raises(CohortError, match="scale of hospital 'h1'"):
        Cohort.open(cohort.root)


def test_the_index_counts_abnormal_pairs(tmp_path: Path, table_of: TableOf) -> None:
    tables = [table_of("h1"), table_of("h2", abnormal="5"), table_of("h3", abnormal="5")]
    cohort = write_cohort(tmp_path / "c", tables, scale=SCALE, provenance={})
    assert [entry.num_abnormal for entry in cohort.files] == [0, 8, 8]
    for entry in cohort.files:
        (cohort.root / entry.path).write_bytes(b"")  # nothing but the index is read
    assert cohort.hospitals_with_abnormal_pairs() == ("h2", "h3")
    assert cohort.of_hospitals(["h1"]).hospitals_with_abnormal_pairs() == ()


def test_an_index_without_counts_of_abnormal_pairs_is_still_read(
    tmp_path: Path, table_of: TableOf
) -> None:
    tables = [table_of("h1"), table_of("h2", abnormal="5")]

    def older(content: dict[str, Any]) -> None:
        _without_digest(content)
        for entry in content["files"]:
            del entry["num_abnormal"]

    _change_index(write_cohort(tmp_path / "c", tables, scale=SCALE, provenance={}), older)
    assert Cohort.open(tmp_path / "c").hospitals_with_abnormal_pairs() == ("h2",)


def test_a_wrong_count_of_abnormal_pairs_is_named(small_cohort: Cohort) -> None:
    def wrong(content: dict[str, Any]) -> None:
        _without_digest(content)
        content["files"][0]["num_abnormal"] = 7

    _change_index(small_cohort, wrong)
    cohort = Cohort.open(small_cohort.root)
    with pytest.raises(CohortError, match=r"has 0 abnormal pairs, cohort\.json says 7"):
        cohort.read(columns=["cell_id"])


def test_no_cohort_here(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"no cohort here.*simulate"):
        Cohort.open(tmp_path)


def test_a_damaged_index_is_named(small_cohort: Cohort) -> None:
    index = small_cohort.root / "cohort.json"
    index.write_text(index.read_text()[:50])
    with pytest.raises(CohortError, match=r"cohort\.json: not a JSON file"):
        Cohort.open(small_cohort.root)


def test_every_change_of_the_index_is_noticed(small_cohort: Cohort) -> None:
    """Each field, one at a time; also the digest itself, and the digest taken away."""
    index = small_cohort.root / "cohort.json"
    whole = index.read_text()
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda c: c["scale"].update(h1=2.0),
        lambda c: c["provenance"].update(more=1),
        lambda c: c["counts"].update(pairs=1),
        lambda c: c.update(fingerprint="0" * 64),
        lambda c: c.update(strange=None),
        lambda c: c["files"].reverse(),
        lambda c: c["files"][0]["patients"].pop(),
        lambda c: c["files"][0].update(hospital="h2"),
        lambda c: c.update(sha256="0" * 64),
        lambda c: c.pop("sha256"),
        lambda c: c.update(schema_version=2),
    ]
    for change in changes:
        index.write_text(whole)
        _change_index(small_cohort, change)
        with pytest.raises(CohortError, match="changed since the cohort was made"):
            Cohort.open(small_cohort.root)
    index.write_text(whole)
    assert Cohort.open(small_cohort.root).scale == small_cohort.scale


@pytest.mark.parametrize("path", ["/etc/hostname", "../x.parquet", "a/../../x", "a\\x", "", 3])
def test_a_path_that_leaves_the_cohort_is_refused(small_cohort: Cohort, path: object) -> None:
    def change(content: dict[str, Any]) -> None:
        _without_digest(content)
        content["files"][0]["path"] = path

    _change_index(small_cohort, change)
    with pytest.raises(CohortError, match="damaged cohort index"):
        Cohort.open(small_cohort.root)


def test_a_link_to_outside_and_a_file_listed_twice_are_refused(
    small_cohort: Cohort, tmp_path: Path
) -> None:
    path = _file(small_cohort)
    path.rename(tmp_path / "elsewhere.parquet")
    path.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(CohortError, match="link to outside the cohort"):
        Cohort.open(small_cohort.root)

    def twice(content: dict[str, Any]) -> None:
        _without_digest(content)
        content["files"].append(content["files"][0])

    _change_index(small_cohort, twice)
    with pytest.raises(CohortError, match="listed twice"):
        Cohort.open(small_cohort.root)


@pytest.mark.parametrize(
    "change",
    [
        {"files": 3},
        {"files": ["a"]},
        {"files": [{}]},
        {"scale": 1},
        {"provenance": None},
        {"num_pairs": "4"},
        {"num_pairs": True},
        {"patients": "abc"},
        {"patients": [1]},
        {"hospital": None},
        {"num_abnormal": -1},
        {"strange": 1},
    ],
)
def test_a_wrong_type_in_the_index_is_one_sentence(
    small_cohort: Cohort, change: dict[str, Any]
) -> None:
    def damage(content: dict[str, Any]) -> None:
        _without_digest(content)
        whole = set(change) & set(content)
        (content if whole else content["files"][0]).update(change)

    _change_index(small_cohort, damage)
    with pytest.raises(CohortError, match=r"damaged cohort index.*make|scale of hosp"):
        Cohort.open(small_cohort.root)


def test_another_schema_version_is_refused(small_cohort: Cohort) -> None:
    index = small_cohort.root / "cohort.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "schema_version": 99}))
    with pytest.raises(CohortError, match="schema version 99"):
        Cohort.open(small_cohort.root)


def test_a_file_with_rows_missing_is_named(small_cohort: Cohort) -> None:
    _rewrite(small_cohort, lambda t: t.slice(0, 10))
    with pytest.raises(CohortError, match=r"row 10.*has 10 rows, cohort.json says 264"):
        small_cohort.read(small_cohort.files[0])


def test_a_file_with_other_content_is_named(small_cohort: Cohort) -> None:
    path = _rewrite(small_cohort, lambda t: _set(t, "abnormal", 3, True))
    read_pairs(path)
    with pytest.raises(CohortError, match=rf"{path.name}.*changed since the cohort was made"):
        small_cohort.read()


def test_a_column_that_is_missing_is_named(small_cohort: Cohort) -> None:
    _rewrite(small_cohort, lambda table: table.drop_columns(["quality"]))
    with pytest.raises(CohortError, match=r"pairs-00000\.parquet: column 'quality' is missing"):
        small_cohort.columns(small_cohort.files[0], ["cell_id", "quality"])


def test_a_missing_file_is_named(small_cohort: Cohort) -> None:
    _file(small_cohort).unlink()
    with pytest.raises(CohortError, match=r"listed in cohort.json but missing"):
        Cohort.open(small_cohort.root)


def test_the_truth_of_a_row_survives_the_file(tmp_path: Path, table_of: TableOf) -> None:
    table = table_of(abnormal="5")
    row = table["abnormal"].to_pylist().index(True)
    truth = {
        "size_mb": 12.5,
        "iscn": "del(5)(q13q15)",
        "breakpoints": [PLACE, {**PLACE, "band": "q15", "position": None}],
        "variant": "inv(9)(p12q13)",
    }
    for column, value in truth.items():
        table = _set(table, column, row, value)
    read = write_cohort(tmp_path / "c", [table], scale={"h1": 3.0}, provenance={}).read()
    (found,) = read.filter(pa.compute.is_valid(read["iscn"])).to_pylist()
    assert {column: found[column] for column in truth} == truth
