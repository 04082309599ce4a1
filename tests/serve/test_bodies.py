"""Bodies: JSON and Arrow give the same pairs, and every wrong one is named in a sentence."""

import itertools
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED, pairs_of
from homnet_serve.arrow_stream import read_stream
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE, read_pairs_of_body
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError
from homnet_serve.records.hostile_bodies import json_bodies

TableOf = Callable[..., pa.Table]
StreamOf = Callable[..., bytes]
JsonOf = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def pairs(table_of: TableOf) -> pa.Table:
    table = pa.concat_tables(
        [table_of("h1", num_patients=2, num_cells=2, chromosomes=("1", "X")), table_of("h2")]
    )
    return table.select(MEASURED.names).combine_chunks()


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_a_stream_gives_its_pairs(
    pairs: pa.Table, compression: str | None, stream_of: StreamOf
) -> None:
    got = read_pairs_of_body(stream_of(pairs, compression), ARROW_TYPE, Limits())
    assert got.equals(pairs.replace_schema_metadata())


@pytest.mark.parametrize("lists", [False, True])
def test_json_gives_the_same_pairs(pairs: pa.Table, lists: bool, json_of: JsonOf) -> None:
    body = json.dumps(json_of(pairs, lists=lists)).encode()
    got = read_pairs_of_body(body, f"{JSON_TYPE}; charset=utf-8", Limits())
    assert got.combine_chunks().equals(pairs.replace_schema_metadata())


def test_wider_types_and_other_orders_of_columns_are_taken(
    pairs: pa.Table, stream_of: StreamOf
) -> None:
    wide = pairs.set_column(
        MEASURED.names.index("band_level"), "band_level", pairs["band_level"].cast(pa.int64())
    )
    wide = wide.set_column(0, "hospital", wide["hospital"].cast(pa.large_string()))
    got = read_stream(stream_of(wide.select(wide.column_names[::-1])), MEASURED, Limits())
    assert got.equals(pairs.replace_schema_metadata())


def test_one_name_in_two_unicode_forms_is_one(pairs: pa.Table, stream_of: StreamOf) -> None:
    forms = ["Mu\u0308ller" if row % 2 else "\ufeffM\xfcller " for row in range(pairs.num_rows)]
    named = pairs.set_column(1, pairs.schema.field(1), pa.array(forms))
    named = named.set_column(2, named.schema.field(2), pa.array(map(str, range(named.num_rows))))
    got = read_pairs_of_body(stream_of(named), ARROW_TYPE, Limits())
    assert got["patient_id"].unique().to_pylist() == ["M\xfcller"]


@pytest.mark.parametrize("numbers", [(2, 3, None), (1, 9, 2)])
def test_numbers_of_copies_become_flags(
    pairs: pa.Table, stream_of: StreamOf, json_of: JsonOf, numbers: tuple[int | None, ...]
) -> None:
    copies = [numbers[row % 3] for row in range(pairs.num_rows)]
    sent = pairs.append_column("num_copies", pa.array(copies, pa.int64()))
    got = read_pairs_of_body(stream_of(sent), ARROW_TYPE, Limits())
    flags = [row["flags"] for row in got["quality"].to_pylist()]
    assert flags == [["third_copy"] if row % 3 == 1 else [] for row in range(pairs.num_rows)]
    same = read_pairs_of_body(json.dumps(json_of(sent)).encode(), JSON_TYPE, Limits())
    assert same["quality"].to_pylist() == got["quality"].to_pylist()
    wrong = pairs.append_column("num_copies", pa.array([10] * pairs.num_rows, pa.int8()))
    with pytest.raises(RequestError, match="row 0: 'num_copies' is 10, expected 1 to 9"):
        read_pairs_of_body(stream_of(wrong), ARROW_TYPE, Limits())


def test_short_lists_end_where_the_chromosome_ends() -> None:
    body = {
        "patients": [
            {
                "hospital": "h",
                "patient_id": "p",
                "pairs": [
                    {
                        "cell_id": "c",
                        "chromosome": "X",
                        "band_level": 400,
                        "pair": [[[5, 6, 7], [8, 9, 10]], None],
                    }
                ],
            }
        ]
    }
    got = pairs_of(read_pairs_of_body(json.dumps(body).encode(), JSON_TYPE, Limits()))
    assert got[0, 0, :, :4].tolist() == [[5, 6, 7, 0], [8, 9, 10, 0]]
    assert not got[0, 1].any()


WRONG_JSON: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda b: b.clear(), "'patients': Field required"),
    (lambda b: b.update(patients=[]), "'patients': List should have at least 1 item"),
    (lambda b: b.update(patents=1), "'patents': Extra inputs"),
    (lambda b: b["patients"][1].pop("hospital"), "'patients[1].hospital': Field required"),
    (lambda b: b["patients"][0].update(patient_id=7), "'patients[0].patient_id'"),
    (lambda b: b["patients"][0].update(patient_id=""), "'patients[0].patient_id'"),
    (lambda b: b["patients"][0].update(hospital="h" * 129), "'patients[0].hospital'"),
    (lambda b: b["patients"][0].update(pairs=[]), "'patients[0].pairs'"),
    (lambda b: b["patients"][0]["pairs"][1].update(chromosome="23"), "pairs[1].chromosome'"),
    (lambda b: b["patients"][0]["pairs"][1].update(band_level=850), "pairs[1].band_level'"),
    (lambda b: b["patients"][0]["pairs"][1].update(band_level=None), "pairs[1].band_level'"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair="AAAA"), "pairs[0].pair': 3 bytes"),
    (lambda b: b["patients"][0]["pairs"][0].update(num_copies=0), "pairs[0].num_copies'"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair="?"), "pairs[0].pair': not base64"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=5), "pairs[0].pair': expected base64"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[[1], [2]]), "homolog 0: expected"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[None, None]), "homolog 0: expected"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[[[], []], None]), "1 to 512 numbers"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[[[1] * 513] * 2, None]), "1 to 512"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[[[256], [1]], None]), "from 0 to 255"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[[[-1], [1]], None]), "from 0 to 255"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[[[0.5], [1]], None]), "from 0 to 255"),
    (lambda b: b["patients"][0]["pairs"][0].update(pair=[[[True], [1]], None]), "from 0 to 255"),
    (
        lambda b: b["patients"][0]["pairs"][0].update(pair=[[[float("nan")], [1]], None]),
        "from 0 to 255",
    ),
    (
        lambda b: b["patients"][0]["pairs"][0].update(pair=[[[0], [0]], None]),
        "patients[0].pairs[0]: 'pair' has no chromosome in homolog 0",
    ),
    (
        lambda b: b["patients"][1]["pairs"].append(b["patients"][1]["pairs"][0]),
        "patients[1].pairs[4]: a second pair of chromosome 1 in cell c0",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), WRONG_JSON)
def test_wrong_json_is_named(
    pairs: pa.Table, spoil: Callable[[dict[str, Any]], object], said: str, json_of: JsonOf
) -> None:
    body = json_of(pairs)
    spoil(body)
    with pytest.raises(RequestError) as error:
        read_pairs_of_body(json.dumps(body).encode(), JSON_TYPE, Limits())
    assert error.value.status == 422
    assert said in str(error.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"patients":' + b"[" * 5000, b"1e999"]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as error:
        read_pairs_of_body(body, JSON_TYPE, Limits())
    assert error.value.status == 422


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"patients": []}'.encode("utf-16"), "UTF-16 or UTF-32; send it as UTF-8"),
        ('{"patients": []}'.encode("utf-16-le"), "UTF-16 or UTF-32; send it as UTF-8"),
        ('{"patients": []}'.encode("utf-32-be"), "UTF-16 or UTF-32; send it as UTF-8"),
        (b'{"a": "\xe9"}', "byte 7 is not UTF-8"),
        (b"{'patients': 1}", "not JSON .* at line 1, column 2"),
        (b'{"patients": [], "patients": []}', "has the field 'patients' twice"),
        (b'{"patients": [{"hospital": "a", "hospital": "b"}]}', "has the field 'hospital' twice"),
        (b"[" * 10**5, "nested too deeply"),
        (b'{"patients": ' + b"9" * 5000 + b"}", "a number with thousands of digits"),
        (b'{"\\ud800": 1}', "body: "),
        (b"{" + b",".join(b'"%d":1' % n for n in range(99)) + b"}", "an object with 99 fields"),
        (b"PAR1", "this is a Parquet file, not JSON; write it as an Arrow IPC stream"),
        (b"\xff\xff\xff\xff\0", "this is an Arrow stream, not JSON; send it as Content-Type"),
        (b"PK\3\4", "this is a zip, not JSON; send a zip of images to /v1/diagnose/images"),
    ],
)
def test_what_is_no_json_of_ours_is_said(body: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said) as error:
        read_pairs_of_body(body, JSON_TYPE, Limits())
    assert error.value.status == 422
    # The sentence can be sent.
    str(error.value).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"PAR1", "this is a Parquet file, not an Arrow stream; write it as"),
        (b"ARROW1\0\0", "this is an Arrow file, not an Arrow stream; write it as"),
        (b"PK\3\4", "this is a zip, not an Arrow stream"),
        (b"\x1f\x8b\x08", "this is gzip, not an Arrow stream; send it unpacked"),
        (b'\xef\xbb\xbf {"patients": []}', "this is JSON, not an Arrow stream; send it as"),
    ],
)
def test_other_formats_sent_as_arrow_are_named(body: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        read_pairs_of_body(body, ARROW_TYPE, Limits())


def test_a_byte_order_mark_is_read_over(pairs: pa.Table, json_of: JsonOf) -> None:
    body = json.dumps(json_of(pairs)).encode()
    with_mark = read_pairs_of_body(b"\xef\xbb\xbf" + body, JSON_TYPE, Limits())
    assert with_mark.equals(read_pairs_of_body(body, JSON_TYPE, Limits()))


LIMITS = Limits(max_json_bytes=2**20, max_pairs=100, max_patients=10)


@pytest.mark.parametrize(
    "piece", ["{}", "[]", '"a"', "1", "1.5", "null", "300", '{"pairs":[]}', "[[1]]", "9" * 4000]
)
@pytest.mark.parametrize(
    "place",
    ['{"patients":[#]}', '{"patients":[{"hospital":"h","patient_id":"p","pairs":[#]}]}', "[#]"],
)
def test_json_costs_no_more_than_a_few_times_its_size(piece: str, place: str) -> None:
    text = ",".join([piece] * ((LIMITS.max_json_bytes - 100) // (len(piece) + 1)))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
            read_pairs_of_body(place.replace("#", text).encode(), JSON_TYPE, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * LIMITS.max_json_bytes


@pytest.mark.parametrize(
    ("number", "piece", "said"),
    [
        (120, '{"pairs":1}', "more than 10 patients with 100 pairs"),
        (800, "[", r"more \[ than 100 pairs have"),
        (900, '""', 'more " than 100 pairs have'),
        (2**19, "1", "more than 1048576 bytes of JSON"),
    ],
)
def test_json_is_counted_before_it_is_looked_at(number: int, piece: str, said: str) -> None:
    body = ('{"patients":[' + ",".join([piece] * number) + "]}").encode()
    with pytest.raises(RequestError, match=said) as error:
        read_pairs_of_body(body, JSON_TYPE, LIMITS)
    assert error.value.status == 413


def test_hostile_json_is_refused_in_a_sentence() -> None:
    statuses: dict[str, set[int]] = {}
    longest = 0
    for kind, body in itertools.islice(json_bodies(np.random.default_rng(5)), 300):
        try:
            read_pairs_of_body(body, JSON_TYPE, LIMITS)
            status = 200
        except RequestError as error:
            status = error.status
            # It can be sent, and does not repeat what came.
            longest = max(longest, len(str(error).encode()))
        statuses.setdefault(kind, set()).add(status)
    assert longest < 400
    assert {kind for kind, found in statuses.items() if found == {200}} <= {"good"}
    assert set().union(*statuses.values()) == {200, 413, 422}


def test_names_must_be_unicode(pairs: pa.Table, json_of: JsonOf) -> None:
    body = json_of(pairs)
    text = json.dumps(body).replace('"h1-p0"', '"\\ud800"')
    with pytest.raises(RequestError, match="body: "):
        read_pairs_of_body(text.encode(), JSON_TYPE, Limits())


def _with(table: pa.Table, name: str, values: list[Any], kind: pa.DataType) -> pa.Table:
    return table.set_column(MEASURED.names.index(name), name, pa.array(values, kind))


WRONG_TABLES: list[tuple[Callable[[pa.Table], pa.Table], str]] = [
    (lambda t: t.drop_columns(["cell_id"]), "column 'cell_id' is missing"),
    (lambda t: t.append_column("abnormal", pa.array([True] * len(t))), "'abnormal' is not known"),
    (lambda t: t.append_column("cell_id", t["cell_id"]), "'cell_id' is there more than once"),
    (lambda t: t.slice(0, 0), "there is no pair"),
    (
        lambda t: _with(t, "pair", [[1] * 2048] * len(t), pa.list_(pa.uint8())),
        "column 'pair' has type list",
    ),
    (lambda t: _with(t, "pair", [b"a"] * len(t), pa.binary()), "column 'pair' has type binary"),
    (
        lambda t: _with(t, "chromosome", ["1"] * len(t), pa.dictionary(pa.int8(), pa.string())),
        "column 'chromosome' has type dictionary",
    ),
    (lambda t: _with(t, "band_level", [2**40] * len(t), pa.int64()), "do not fit into int16"),
    (lambda t: _with(t, "band_level", [0.5] * len(t), pa.float64()), "has type double"),
    (lambda t: _with(t, "band_level", [500] * len(t), pa.int16()), "row 0: 'band_level' is 500"),
    (lambda t: _with(t, "patient_id", [""] * len(t), pa.string()), "row 0: 'patient_id' has 0"),
    (
        lambda t: _with(t, "cell_id", ["c" * 200, *t["cell_id"].to_pylist()[1:]], pa.string()),
        "row 0: 'cell_id' has 200 characters",
    ),
    (
        lambda t: _with(t, "patient_id", [None, *t["patient_id"].to_pylist()[1:]], pa.string()),
        "row 0: 'patient_id' is empty",
    ),
    (lambda t: pa.concat_tables([t, t.slice(2, 1)]), "a second pair of chromosome X"),
]


@pytest.mark.parametrize(("spoil", "said"), WRONG_TABLES)
def test_wrong_tables_are_named(
    pairs: pa.Table, spoil: Callable[[pa.Table], pa.Table], said: str, stream_of: StreamOf
) -> None:
    with pytest.raises(RequestError) as error:
        read_pairs_of_body(stream_of(spoil(pairs)), ARROW_TYPE, Limits())
    assert error.value.status == 422
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(max_pairs=5), "at most 5 at once"),
        (Limits(max_patients=2), "5 patients, at most 2"),
        (Limits(max_expanded_bytes=1000), "more than 1000 bytes"),
        (
            Limits(max_cells=3),
            "row 8: chromosome 1 of this patient is sent in 4 cells, at most 3; send fewer cells",
        ),
    ],
)
def test_too_much_is_refused(
    pairs: pa.Table, limits: Limits, said: str, stream_of: StreamOf
) -> None:
    with pytest.raises(RequestError, match=said) as error:
        read_pairs_of_body(stream_of(pairs), ARROW_TYPE, limits)
    assert error.value.status == 413


def test_cells_are_counted_for_each_type_of_each_patient(
    table_of: TableOf, stream_of: StreamOf
) -> None:
    """One reader takes all cells of a type at once, however the rows are ordered."""
    many = table_of("h1", num_patients=2, num_cells=3, chromosomes=("1", "X"))
    more = table_of("h2", num_patients=2, num_cells=4, chromosomes=("5",))
    table = pa.concat_tables([many, more]).select(MEASURED.names)
    table = table.take(pa.array(np.random.default_rng(3).permutation(table.num_rows)))
    body = stream_of(table)
    assert read_pairs_of_body(body, ARROW_TYPE, Limits(max_cells=4)).num_rows == 20
    with pytest.raises(RequestError, match=r"chromosome 5 .* in 4 cells, at most 3") as error:
        read_pairs_of_body(body, ARROW_TYPE, Limits(max_cells=3))
    assert error.value.status == 413


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-python-pickle"])
def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(RequestError, match="Content-Type") as error:
        read_pairs_of_body(b"\x80\x04", media_type, Limits())
    assert error.value.status == 415
