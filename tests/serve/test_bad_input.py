"""Bad bodies, some hundreds of them: a sentence and a 4xx for each, and soon."""

import base64
import copy
import json
import random
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED, PAIR_BYTES, pairs_of
from homnet.karyotype.chromosomes import SEQUENCE_LENGTH
from homnet_serve.archives import ZIP_TYPE
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE
from homnet_serve.config import Limits
from homnet_serve.schemas import ErrorBody

TableOf = Callable[..., pa.Table]
IMAGES = "/v1/diagnose/images"
KARYOGRAMS = ("/v1/karyograms", "/v1/diagnose/karyograms")
HEADER = "path,hospital,patient_id,cell_id,chromosome,homolog\n"


@dataclass(frozen=True)
class Bad:
    """A body, where it goes, and a word that the answer must have."""

    name: str
    media_type: str
    body: bytes
    said: str = ""
    route: str = "/v1/diagnose"


def _json_bodies(good: dict[str, Any]) -> Iterator[Bad]:
    def spoilt(name: str, said: str, change: Callable[[dict[str, Any]], object]) -> Bad:
        body = copy.deepcopy(good)
        change(body)
        return Bad(f"json {name}", JSON_TYPE, json.dumps(body).encode(), said)

    def set_in(place: Callable[[Any], dict[str, Any]], field: str, value: object) -> Any:
        return lambda body: place(body).__setitem__(field, value)

    nothings: list[object] = [None, [], {}, True, 1.5, -1, 10**30, float("nan"), float("inf")]
    levels = {
        "patient": (lambda b: b["patients"][0], ("hospital", "patient_id", "pairs")),
        "pair": (
            lambda b: b["patients"][0]["pairs"][1],
            ("cell_id", "chromosome", "band_level", "pair"),
        ),
    }
    for level, (place, fields) in levels.items():
        for field in fields:
            for value in nothings:
                name = f"{level} {field}={value!r}"
                yield spoilt(name, field, set_in(place, field, value))
            yield spoilt(f"{level} without {field}", field, lambda b, p=place, f=field: p(b).pop(f))
        yield spoilt(f"{level} with more", "extra", set_in(place, "extra", 1))
    for field, value in (
        ("hospital", ""),
        ("hospital", "h" * 129),
        ("patient_id", "p" * 10_000),
        ("pairs", "all of them"),
        ("pairs", [None]),
        ("pairs", [[]]),
    ):
        yield spoilt(f"patient {field}", field, set_in(levels["patient"][0], field, value))
    for value in ("0", "23", "x", "01", "1 ", "XX", "chr1", "MT"):
        yield spoilt(
            f"chromosome {value!r}", "chromosome", set_in(levels["pair"][0], "chromosome", value)
        )
    for value in (0, 299, 850, "550", 550.5, [550]):
        yield spoilt(
            f"band level {value!r}", "band_level", set_in(levels["pair"][0], "band_level", value)
        )
    line = [5] * 10
    wrong_pairs: list[object] = [
        "",
        "=",
        "AAA",
        "é",
        base64.b64encode(bytes(PAIR_BYTES - 1)).decode(),
        base64.b64encode(bytes(PAIR_BYTES + 1)).decode(),
        base64.b64encode(bytes(PAIR_BYTES)).decode(),
        base64.urlsafe_b64encode(b"\xff" * PAIR_BYTES).decode(),
        "A" * 10**6,
        [[line, line]],
        [[line, line]] * 3,
        [None, [line, line]],
        [[line], [line, line]],
        [[line, line], [line, []]],
        [[line, None], None],
        [[line, "0" * 10], None],
        [[line, [[1]]], None],
        [[[5] * (SEQUENCE_LENGTH + 1)] * 2, None],
        [[[5] * 10**5] * 2, None],
        [[[0] * 10] * 2, None],
        [[[256]] * 2, None],
        [[[-1]] * 2, None],
        [[[10**30]] * 2, None],
        [[[1.0]] * 2, None],
        [[["1"]] * 2, None],
        [[[None]] * 2, None],
        {"0": line},
    ]
    for number, value in enumerate(wrong_pairs):
        yield spoilt(f"pair no. {number}", "pair", set_in(levels["pair"][0], "pair", value))
    pairs = good["patients"][0]["pairs"]
    yield spoilt(
        "duplicate cell", "second pair", lambda b: b["patients"][0]["pairs"].append(pairs[0])
    )
    yield spoilt("patient twice", "second pair", lambda b: b["patients"].append(b["patients"][0]))
    yield spoilt("no patients", "patients", lambda b: b.update(patients=[]))
    yield spoilt("foreign hospital", "key", set_in(levels["patient"][0], "hospital", "elsewhere"))
    yield spoilt("no model", "h-none", set_in(levels["patient"][0], "hospital", "h-none"))
    for name, text in (
        ("empty", b""),
        ("null", b"null"),
        ("number", b"1"),
        ("list", b"[]"),
        ("open", b'{"patients": ['),
        ("deep", b'{"patients": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
        ("deep objects", b'{"patients":' * 5000 + b"1" + b"}" * 5000),
        ("latin-1", '{"patients": "é"}'.encode("latin-1")),
        ("utf-16", '{"patients": []}'.encode("utf-16")),
        ("bom", b"\xef\xbb\xbf" + json.dumps(good).encode()[:-1]),
        ("surrogate", json.dumps(good).replace("h1-p0", "\\ud800", 1).encode()),
        ("pickle", b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94."),
        ("infinity", b'{"patients": 1e99999}'),
        ("trailing", json.dumps(good).encode() + b"x"),
    ):
        yield Bad(f"json {name}", JSON_TYPE, text)


def _arrow_bodies(good: pa.Table, stream_of: Callable[..., bytes]) -> Iterator[Bad]:
    size = len(good)

    def spoilt(name: str, said: str, table: pa.Table, **options: Any) -> Bad:
        return Bad(f"arrow {name}", ARROW_TYPE, stream_of(table, **options), said)

    def with_column(field: str, values: list[Any], kind: pa.DataType) -> pa.Table:
        return good.set_column(MEASURED.names.index(field), field, pa.array(values, kind))

    kinds = [
        (pa.null(), None),
        (pa.bool_(), True),
        (pa.float64(), float("nan")),
        (pa.timestamp("s"), 0),
        (pa.binary(), b"x"),
        (pa.list_(pa.uint8()), [1]),
        (pa.struct([("a", pa.int8())]), {"a": 1}),
        (pa.dictionary(pa.int32(), pa.string()), "a"),
    ]
    for field in MEASURED.names:
        yield spoilt(f"without {field}", field, good.drop_columns([field]))
        yield spoilt(f"twice {field}", field, good.append_column(field, good[field]))
        for kind, value in kinds:
            yield spoilt(f"{field} as {kind}", field, with_column(field, [value] * size, kind))
        values = [None, *good[field].to_pylist()[1:]]
        yield spoilt(
            f"empty {field}", field, with_column(field, values, MEASURED.field(field).type)
        )
    for wrong in (PAIR_BYTES - 1, PAIR_BYTES * 2, 1):
        values = [bytes(wrong)] * size
        yield spoilt(f"pair of {wrong}", "pair", with_column("pair", values, pa.binary(wrong)))
    zeros = with_column("pair", [bytes(PAIR_BYTES)] * size, pa.binary(PAIR_BYTES))
    yield spoilt("background only", "homolog 0", zeros)
    yield spoilt("no rows", "no pair", good.slice(0, 0))
    yield spoilt(
        "more columns", "abnormal", good.append_column("abnormal", pa.array([True] * size))
    )
    yield spoilt("duplicates", "second pair", pa.concat_tables([good, good]))
    yield spoilt("huge level", "band_level", with_column("band_level", [2**60] * size, pa.int64()))
    huge = pa.table(
        {
            **{n: ["a"] * 40_000 for n in ("hospital", "patient_id", "chromosome")},
            "cell_id": [str(n) for n in range(40_000)],
            "band_level": pa.array([300] * 40_000, pa.int16()),
            "pair": pa.array([b"\1" * PAIR_BYTES] * 40_000, pa.binary(PAIR_BYTES)),
        }
    )
    yield spoilt("too many pairs", "", huge.select(MEASURED.names), compression="zstd")
    body = stream_of(good)
    for share in range(16):
        yield Bad(f"arrow cut at {share}/16", ARROW_TYPE, body[: len(body) * share // 16])
    yield Bad("arrow file", ARROW_TYPE, b"ARROW1\0\0" + body)
    yield Bad("arrow of zip", ARROW_TYPE, b"PK\x03\x04" + body)
    lie = bytearray(stream_of(good, "zstd"))
    place = lie.index(struct.pack("<q", size * PAIR_BYTES))
    for claimed in (2**40, 2**62, -7):
        lie[place : place + 8] = struct.pack("<q", claimed)
        yield Bad(f"arrow claims {claimed}", ARROW_TYPE, bytes(lie))


def _zip_bodies(image: bytes, good: bytes, zip_of: Callable[..., bytes]) -> Iterator[Bad]:
    def spoilt(name: str, said: str, files: dict[str, bytes], **options: Any) -> Bad:
        return Bad(f"zip {name}", ZIP_TYPE, zip_of(files, **options), said, IMAGES)

    row = "a.png,h1,p1,c1,1,0\n"
    paths = ("/etc/passwd", "../a.png", "..\\a.png", "C:\\a.png", "//host/a", "a/../../b", "")
    for path in paths:
        manifest = HEADER + row.replace("a.png", path)
        yield spoilt(f"path {path}", "path", {"manifest.csv": manifest.encode(), "a.png": image})
    rows = {
        "no homolog": (row.replace(",0\n", ",\n"), "homolog"),
        "homolog x": (row.replace(",0\n", ",x\n"), "homolog"),
        "type 24": (row.replace(",1,0", ",24,0"), "chromosome"),
        "no patient": (row.replace("p1", ""), "patient_id"),
        "no cell": (row.replace("c1", ""), "cell_id"),
        "hospital path": (row.replace("h1", "../h1"), "hospital"),
        "long hospital": (row.replace("h1", "h" * 200), "key"),
        "foreign hospital": (row.replace("h1", "elsewhere"), "key"),
        "long patient": (row.replace("p1", "p" * 200), "patient_id"),
        "twice": (row * 2, "homolog"),
        "ragged": (row.replace("\n", ",1,2\n"), "values"),
        "quote": ('"' + row, ""),
        "missing file": (row.replace("a.png", "b.png"), "b.png"),
        "nothing": ("", "no row"),
    }
    for name, (text, said) in rows.items():
        files = {"manifest.csv": (HEADER + text).encode(), "a.png": image}
        yield spoilt(f"manifest {name}", said, files)
    for name, content in (
        ("empty", b""),
        ("binary", bytes(range(256))),
        ("other columns", b"a,b\n1,2\n"),
        ("utf-16", (HEADER + row).encode("utf-16")),
    ):
        yield spoilt(f"manifest {name}", "manifest.csv", {"manifest.csv": content, "a.png": image})
    manifest = (HEADER + row).encode()
    yield spoilt("without manifest", "manifest.csv", {"a.png": image})
    yield spoilt("manifest in a folder", "manifest.csv", {"x/manifest.csv": manifest})
    yield spoilt("bomb", "expands", {"manifest.csv": manifest, "a.png": bytes(150 * 2**20)})
    yield spoilt("large image", "a.png", {"manifest.csv": manifest, "a.png": bytes(3 * 2**20)})
    yield spoilt("many files", "files", {f"{n}": b"" for n in range(10_002)})
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        files = {"manifest.csv": manifest, "a.png": image}
        yield spoilt(f"compression {compression}", "deflate", files, compression=compression)
    for share in range(8):
        yield Bad(f"zip cut at {share}/8", ZIP_TYPE, good[: len(good) * share // 8], "", IMAGES)
    flagged = bytearray(good)
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = flagged.index(mark)
        flagged[at + (6 if mark[2] == 3 else 8)] |= 1
    yield Bad("zip encrypted", ZIP_TYPE, bytes(flagged), "", IMAGES)
    yield Bad("zip is an image", ZIP_TYPE, image, "zip", IMAGES)
    yield Bad("zip64", ZIP_TYPE, b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(18), "", IMAGES)


def _karyogram_bodies(image: bytes, zip_of: Callable[..., bytes], route: str) -> Iterator[Bad]:
    def spoilt(name: str, said: str, **files: bytes) -> Bad:
        named = {
            name.replace("_csv", ".csv").replace("_json", ".json"): files[name] for name in files
        }
        return Bad(f"{route} {name}", ZIP_TYPE, zip_of({"p_1.png": image, **named}), said, route)

    for text in (b"", b"1,1", b"23", b"\xff\xfe", b"\0" * 5000, b"1," * 3000):
        yield spoilt(f"layout {text[:9]!r}", "layout.csv", layout_csv=text)
    corrections = (
        b"",
        b"{}",
        b"[[]]",
        b"[" * 9000,
        b"[1e999]",
        b'[{"picture": 1}]',
        b"\xff",
        b"null",
    )
    for text in corrections:
        yield spoilt(f"corrections {text[:9]!r}", "corrections.json", corrections_json=text)
    yield spoilt("large", "bytes", corrections_json=bytes(2**20 + 1))
    if route != KARYOGRAMS[0]:
        for text in (b"", b"\0", b"path\n", b"\xff\n", b'"', b"path,patient_id,cell_id\n,,\n"):
            yield spoilt(f"cells {text[:9]!r}", "cells.csv", cells_csv=text)
    yield Bad(f"{route} empty", ZIP_TYPE, zip_of({}), "no picture", route)
    yield Bad(f"{route} texts", ZIP_TYPE, zip_of({"manifest.csv": b""}), "no picture", route)
    yield Bad(
        f"{route} many", ZIP_TYPE, zip_of({f"p_{n}.png": image for n in range(21)}), "", route
    )
    yield Bad(f"{route} no zip", ZIP_TYPE, image, "zip", route)
    yield Bad(f"{route} as Arrow", ARROW_TYPE, zip_of({"p_1.png": image}), "send", route)


@pytest.fixture(scope="module")
def corpus(
    table_of: TableOf,
    stream_of: Callable[..., bytes],
    json_of: Callable[..., Any],
    images_zip: Callable[..., bytes],
    png: Callable[..., bytes],
    zip_of: Callable[..., bytes],
) -> list[Bad]:
    table = table_of(num_patients=2, num_cells=2, chromosomes=("1", "X")).select(MEASURED.names)
    bodies = [
        *_json_bodies(json_of(table)),
        *_arrow_bodies(table, stream_of),
        *_zip_bodies(png(), images_zip(("1",), num_cells=1), zip_of),
        *(bad for route in KARYOGRAMS for bad in _karyogram_bodies(png(), zip_of, route)),
    ]
    good = {
        ("/v1/diagnose", JSON_TYPE): json.dumps(json_of(table)).encode(),
        ("/v1/diagnose", ARROW_TYPE): stream_of(table),
        (IMAGES, ZIP_TYPE): images_zip(("1",), num_cells=1),
    }
    for route, media_type in good:
        for (_, other), body in good.items():
            if other != media_type:
                bodies.append(Bad(f"{other} as {media_type}", media_type, body, "", route))
        for wrong in ("", "text/html", "application/octet-stream", "a/b;c", "\u00ff"):
            bodies.append(Bad(f"{route} {wrong}", wrong, good[route, media_type], "send", route))
    return bodies


def test_every_bad_body_gets_a_sentence(endpoint: Any, corpus: list[Bad]) -> None:
    assert len(corpus) >= 200
    assert len({bad.name for bad in corpus}) > 200
    slow, wrong = [], []
    for bad in corpus:
        begin_s = time.monotonic()
        response = endpoint.request(
            "POST",
            bad.route,
            content=bad.body,
            headers={"Content-Type": bad.media_type.encode("latin-1")},
        )
        if time.monotonic() - begin_s > 30:
            slow.append(bad.name)
        if not 400 <= response.status_code < 500:
            wrong.append((bad.name, response.status_code, response.text[:200]))
            continue
        message = ErrorBody.model_validate(response.json()).message
        one_sentence = message and "\n" not in message and len(message) < 600
        if not one_sentence or bad.said not in message:
            wrong.append((bad.name, bad.said, message))
    assert slow == []
    assert wrong == []
    assert endpoint.request("GET", "/readyz").status_code == 200


def test_unusual_bodies_are_answered(
    endpoint: Any, table_of: TableOf, stream_of: Callable[..., bytes]
) -> None:
    # As many cells of one type as are taken: twenty bags. One more is refused.
    most = Limits().max_cells
    many = table_of(num_patients=1, num_cells=most, chromosomes=("21",)).select(MEASURED.names)
    (patient,) = endpoint.arrow(stream_of(many)).json()["patients"]
    assert patient["evidence"][0]["num_bags"] == 20
    more = table_of(num_patients=1, num_cells=most + 1, chromosomes=("21",)).select(MEASURED.names)
    refused = endpoint.arrow(stream_of(more))
    assert refused.status_code == 413
    assert "chromosome 21 of this patient is sent in 201 cells" in refused.json()["message"]
    # A male: one X and one Y, in one cell.
    male = table_of(num_patients=1, num_cells=1, chromosomes=("X", "Y")).select(MEASURED.names)
    pair = pairs_of(male).copy()
    pair[:, 1] = 0
    packed = pa.array([one.tobytes() for one in pair], pa.binary(PAIR_BYTES))
    male = male.set_column(MEASURED.names.index("pair"), "pair", packed)
    (patient,) = endpoint.arrow(stream_of(male.cast(MEASURED))).json()["patients"]
    assert patient["evidence"] == []
    single = [
        kind["chromosome"]
        for kind in patient["verdict"]["types"]
        if any("no second homolog" in reason for reason in kind["not_assessed"])
    ]
    assert single == ["X", "Y"]


def test_random_changes_of_good_bodies_never_break_it(
    endpoint: Any,
    table_of: TableOf,
    stream_of: Callable[..., bytes],
    json_of: Callable[..., Any],
    images_zip: Callable[..., bytes],
    png: Callable[..., bytes],
    zip_of: Callable[..., bytes],
) -> None:
    table = table_of(num_patients=1, num_cells=1, chromosomes=("1", "2")).select(MEASURED.names)
    karyograms = zip_of(
        {
            "cells.csv": b"path,patient_id,cell_id,hospital\np_1.png,p,1,h1\n",
            "layout.csv": b"1,2,3\n",
            "corrections.json": b'[{"picture": "p_1.png", "number": 1, "chromosome": "X"}]',
            "p_1.png": png(),
        }
    )
    good = [
        ("/v1/diagnose", JSON_TYPE, json.dumps(json_of(table)).encode()),
        ("/v1/diagnose", ARROW_TYPE, stream_of(table)),
        ("/v1/diagnose", ARROW_TYPE, stream_of(table, "lz4")),
        (IMAGES, ZIP_TYPE, images_zip(("1",), num_cells=1)),
        *((route, ZIP_TYPE, karyograms) for route in KARYOGRAMS),
    ]
    draw = random.Random(0)
    statuses = []
    for number in range(200):
        route, media_type, body = good[number % len(good)]
        damaged = bytearray(body)
        for _ in range(1 + number % 7):
            # Mostly where the structure is, not in the pixels.
            at = draw.randrange(min(len(damaged), 900) if number % 3 else len(damaged))
            damaged[at] = draw.randrange(256)
        response = endpoint.request(
            "POST", route, content=bytes(damaged), headers={"Content-Type": media_type}
        )
        statuses.append(response.status_code)
    assert max(statuses) < 500
    assert 422 in statuses
