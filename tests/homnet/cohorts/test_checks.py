"""What a file of a cohort must hold: every bad one is named with its row."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from homnet.cohorts.checks import check_measured, read_pairs
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import MEASURED, PAIR_BYTES, SCHEMA
from homnet.errors import CohortError
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH

TableOf = Callable[..., pa.Table]
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


def _pair(*sequences: list[int]) -> bytes:
    """A pair with the given sequences, in order of homolog and chromatid."""
    padded = [bytes(one).ljust(SEQUENCE_LENGTH, b"\0") for one in sequences]
    return b"".join(padded).ljust(PAIR_BYTES, b"\0")


def test_a_truncated_file_is_named(small_cohort: Cohort) -> None:
    path = _file(small_cohort)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CohortError, match=rf"{path.name}.*truncated"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["band_level"]), r"column 'band_level' is missing"),
        (
            lambda t: t.set_column(5, "pair", pa.array([b"x" * 1024] * len(t), pa.binary(1024))),
            r"column 'pair' from row 0.*fixed_size_binary\[1024\].*2048",
        ),
        (
            lambda t: t.set_column(4, "band_level", t["band_level"].cast(pa.float32())),
            r"column 'band_level' from row 0.*float.*int16",
        ),
        (lambda t: _set(t, "chromosome", 5, "23"), r"row 5: 'chromosome' is '23'"),
        (lambda t: _set(t, "band_level", 6, 500), r"row 6: 'band_level' is 500"),
        (lambda t: _set(t, "band_level", 6, 300), r"'band_level' is .* elsewhere in cell"),
        (lambda t: _set(t, "homolog", 8, 2), r"row 8: 'homolog' is 2"),
        (lambda t: _set(t, "stop", 9, 600), r"row 9: 'stop' is 600"),
        (lambda t: _set(t, "size_mb", 2, -3.0), r"row 2: 'size_mb' is -3.0, expected megabases"),
        (
            lambda t: _set(t, "breakpoints", 4, [{**PLACE, "position": 512}]),
            r"row 4: 'position' in 'breakpoints' is 512, expected 0..511 or nothing",
        ),
        (
            lambda t: _set(t, "breakpoints", 6, [PLACE, {**PLACE, "chromosome": "0"}]),
            r"row 6: 'chromosome' in 'breakpoints' is '0', expected 1..22, X or Y",
        ),
        (
            lambda t: _set(t, "breakpoints", 5, [None]),
            r"row 5: 'chromosome' in 'breakpoints' is None, expected 1..22, X or Y",
        ),
        (
            lambda t: _set(t, "breakpoints", 6, [PLACE, {**PLACE, "position": None}]),
            None,
        ),
        (lambda t: t.drop_columns(["variant"]), r"column 'variant' is missing"),
        (lambda t: _set(t, "cell_id", 3, t["cell_id"][2].as_py()), r"row 3: a second pair of"),
        (lambda t: _set(t, "hospital", 4, "elsewhere"), r"row 4: hospital 'elsewhere'"),
        (lambda t: pa.concat_tables([t.slice(4), t.slice(0, 1)]), None),
        (lambda t: pa.concat_tables([t.slice(1), t.slice(0, 1)]), r"row 263: .*not contiguous"),
        (lambda t: _set(t, "pair", 7, bytes(PAIR_BYTES)), r"row 7: 'pair' has no chromosome"),
        (lambda t: _set(t, "pair", 7, _pair([9] * 40, [9] * 40, [7, 0, 7], [7] * 3)), "has zeros"),
        (lambda t: _set(t, "pair", 7, _pair([9] * 40, [9] * 39)), "two chromatids of different"),
        (lambda t: _set(t, "pair", 7, _pair([9] * 40, [])), "two chromatids of different"),
        (lambda t: _set(t, "pair", 7, _pair([9] * 40, [9] * 40)), None),
    ],
)
def test_bad_content_is_one_sentence_with_file_and_row(
    small_cohort: Cohort, change: Callable[[pa.Table], pa.Table], message: str | None
) -> None:
    path = _rewrite(small_cohort, change)
    if message is None:  # as good as before: the test's own sanity check
        read_pairs(path)
        return
    with pytest.raises(CohortError, match=message) as caught:
        read_pairs(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pairs_to_be_judged_may_come_from_several_hospitals_but_once_each(
    table_of: TableOf,
) -> None:
    table = pa.concat_tables([table_of("h1", num_patients=1), table_of("h2", num_patients=1)])
    check_measured(table, "body")
    twice = pa.concat_tables([table, table.slice(0, 1)]).select(MEASURED.names)
    with pytest.raises(CohortError, match=r"body: line 177: a second pair of chromosome 1"):
        check_measured(twice, "body", lambda row: f"line {row + 1}")
