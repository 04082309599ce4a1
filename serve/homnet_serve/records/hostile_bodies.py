"""Endless hostile bodies of pairs, Arrow and JSON, by kind: for tests and for fuzzing an endpoint.

Arrow's own writer makes no stream that lies, so the messages of such streams are written here, as
FlatBuffers (https://flatbuffers.dev/internals/) of Arrow's ``Message.fbs``.
"""

import base64
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from homnet.cohorts.pairs import MEASURED, PAIR_BYTES
from homnet.karyotype.chromosomes import CHROMOSOMES

_LARGEST: Final = 2**22
"""Size in bytes up to which bodies of repeated pieces grow."""
_V4, _V5 = 3, 4
_OLD_COMPRESSION: Final = {"ARROW:experimental_compression": "zstd"}


def arrow_bodies(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yields kinds and bodies of Arrow streams, kind after kind, without end."""
    yield from _endless(_ARROW, rng)


def json_bodies(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yields kinds and bodies of JSON, kind after kind, without end."""
    yield from _endless(_JSON, rng)


def _endless(
    kinds: Mapping[str, Callable[[np.random.Generator], bytes]], rng: np.random.Generator
) -> Iterator[tuple[str, bytes]]:
    while True:
        for kind, make in kinds.items():
            yield kind, make(rng)


def _size(rng: np.random.Generator, largest: int = _LARGEST) -> int:
    """A size between 1 and the largest, all magnitudes alike."""
    return int(np.exp(rng.uniform(0, np.log(largest))))


def damaged(body: bytes, rng: np.random.Generator, reach: int, most: int = 6) -> bytes:
    """A body with up to ``most`` of its first ``reach`` bytes changed."""
    changed = bytearray(body)
    for at in rng.integers(0, min(len(body), reach), 1 + rng.integers(most)):
        changed[at] = rng.integers(256)
    return bytes(changed)


def cut(body: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of a body."""
    return body[: rng.integers(len(body))]


def _table(num_pairs: int, level: int = 100) -> pa.Table:
    """Right pairs of hospital h1."""
    rows = range(num_pairs)
    types = len(CHROMOSOMES) - 1
    pairs = pa.py_buffer(bytes([level]) * (num_pairs * PAIR_BYTES))
    columns = [
        pa.array(["h1"] * num_pairs),
        pa.array([f"p{row // (5 * types)}" for row in rows]),
        pa.array([f"c{row % (5 * types) // types}" for row in rows]),
        pa.array([CHROMOSOMES[row % types] for row in rows]),
        pa.array([550] * num_pairs, pa.int16()),
        pa.Array.from_buffers(pa.binary(PAIR_BYTES), num_pairs, [None, pairs]),
    ]
    return pa.table(columns, schema=MEASURED)


def _stream(table: pa.Table, compression: str | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    settings = pa.ipc.IpcWriteOptions(compression=compression, **options)
    with pa.ipc.new_stream(sink, table.schema, options=settings) as writer:
        writer.write_table(table, max_chunksize=2**20)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _good(rng: np.random.Generator) -> bytes:
    return _stream(_table(1 + _size(rng, 300)), [None, "lz4", "zstd"][rng.integers(3)])


def _flat(root: Mapping[int, Any]) -> bytes:
    """A FlatBuffer. A table maps slots to (format, number), text, struct vectors or tables."""
    data = bytearray(4)

    def put(node: Any) -> int:
        if isinstance(node, Mapping):
            slots = range(1 + max(node, default=-1))
            places = [8 + 8 * list(node).index(slot) if slot in node else 0 for slot in slots]
            data.extend(bytes(-len(data) % 8))
            vtable = len(data)
            size = 8 + 8 * len(node)
            data.extend(struct.pack(f"<{2 + len(places)}H", 4 + 2 * len(places), size, *places))
            data.extend(bytes(-len(data) % 8))
            at = len(data)
            data.extend(struct.pack("<i", at - vtable) + bytes(size - 4))
            for place, value in zip(range(at + 8, at + size, 8), node.values(), strict=True):
                if isinstance(value, tuple) and isinstance(value[0], str):
                    struct.pack_into("<" + value[0], data, place, value[1])
                else:
                    struct.pack_into("<I", data, place, put(value) - place)
            return at
        data.extend(bytes((4 - len(data)) % 8))
        at = len(data)
        if isinstance(node, str):
            data.extend(struct.pack("<I", len(node)) + node.encode() + b"\0")
        elif node and isinstance(node[0], Mapping):
            data.extend(struct.pack("<I", len(node)) + bytes(4 * len(node)))
            for place, child in zip(range(at + 4, len(data), 4), node, strict=True):
                struct.pack_into("<I", data, place, put(child) - place)
        else:
            data.extend(
                struct.pack("<I", len(node)) + b"".join(struct.pack("<qq", *n) for n in node)
            )
        return at

    struct.pack_into("<I", data, 0, put(root))
    return bytes(data) + bytes(-len(data) % 8)


def record_batch(
    rows: int,
    buffers: Sequence[bytes],
    *,
    version: int = _V5,
    codec: int | None = 1,
    custom: Mapping[str, str] | None = None,
    kind: int = 3,
) -> bytes:
    """A message with a record batch that may lie."""
    body, places = b"", []
    for content in buffers:
        places.append((len(body), len(content)))
        body += content + bytes(-len(content) % 8)
    batch: dict[int, Any] = {0: ("q", rows), 1: [(rows, 0)] * len(MEASURED), 2: places}
    if codec is not None:
        batch[3] = {0: ("b", codec), 1: ("b", 0)}
    return message_of(kind, batch, body, version, custom)


def message_of(
    kind: int,
    header: Mapping[int, Any],
    body: bytes = b"",
    version: int = _V5,
    custom: Mapping[str, str] | None = None,
) -> bytes:
    """Any message: its metadata as a FlatBuffer, and its body."""
    message: dict[int, Any] = {0: ("h", version), 1: ("B", kind), 2: header, 3: ("q", len(body))}
    if custom:
        message[4] = [{0: name, 1: value} for name, value in custom.items()]
    metadata = _flat(message)
    return struct.pack("<II", 0xFFFFFFFF, len(metadata)) + metadata + body


def _schema_message() -> bytes:
    content: bytes = MEASURED.serialize().to_pybytes()
    return content


def squeezed(content: bytes, claimed: int | None = None) -> bytes:
    """A compressed buffer, with its size or another before it."""
    size = len(content) if claimed is None else claimed
    compressed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return struct.pack("<q", size) + compressed


def _bomb(rng: np.random.Generator, rows: int, **options: Any) -> bytes:
    """A column of names, of levels or of pairs that expands to far more than its body."""
    large = rng.permutation([1, *[0] * 2])
    names = bytes(1 + int(large[0]) * _size(rng, 2**27))
    offsets = np.linspace(0, len(names), rows + 1).astype("<i4").tobytes()
    text = [b"", squeezed(offsets), squeezed(names)]
    levels = [b"", squeezed(bytes(2 * rows + int(large[1]) * _size(rng, 2**27)))]
    pairs = [b"", squeezed(bytes(PAIR_BYTES * rows + int(large[2]) * _size(rng, 2**27)))]
    batch = record_batch(rows, [*text * 4, *levels, *pairs], **options)
    return _schema_message() + batch * (1 + int(rng.integers(3))) + struct.pack("<II", 2**32 - 1, 0)


def _lies(rng: np.random.Generator) -> bytes:
    """A batch whose numbers are extreme."""
    numbers = [0, 1, -1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1]
    rows = numbers[rng.integers(len(numbers))]
    claimed = numbers[rng.integers(len(numbers))]
    piece = [b"", squeezed(bytes(64), claimed), squeezed(bytes(64), claimed)]
    batch = record_batch(rows, [*piece * 4, *piece[:2] * 2], version=int(rng.integers(6)))
    return _schema_message() + batch


def _many_batches(rng: np.random.Generator) -> bytes:
    (one,) = _table(1).to_batches()
    empty = record_batch(0, [b""] * 16, codec=None)
    full = _stream(pa.table(one))[len(_schema_message()) : -8]
    return _schema_message() + (empty if rng.integers(2) else full) * _size(rng, 20_000)


def _wide(rng: np.random.Generator) -> bytes:
    names = [f"c{number}" for number in range(_size(rng, 30_000))]
    return _stream(pa.table({name: pa.array([1], pa.int8()) for name in names}))


def _deep(rng: np.random.Generator) -> bytes:
    kind = pa.int8()
    for _ in range(_size(rng, 60)):
        kind = [pa.list_(kind), pa.struct([("a", kind)]), pa.map_(pa.int8(), kind)][rng.integers(3)]
    content: bytes = pa.schema([("pair", kind)]).serialize().to_pybytes()
    return content


def _other_types(rng: np.random.Generator) -> bytes:
    table = _table(5)
    name = MEASURED.names[rng.integers(len(MEASURED.names))]
    kinds = [
        pa.string_view(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.run_end_encoded(pa.int32(), pa.int8()),
        pa.list_view(pa.int8()),
        pa.decimal128(38),
        pa.month_day_nano_interval(),
        pa.large_string(),
        pa.uint64(),
    ]
    column = pa.nulls(len(table), kinds[rng.integers(len(kinds))])
    return _stream(table.set_column(table.column_names.index(name), name, column))


def _large_schema(rng: np.random.Generator) -> bytes:
    return _stream(_table(1).replace_schema_metadata({"pandas": "x" * _size(rng)}))


def _old_options(rng: np.random.Generator) -> bytes:
    options = [{"use_legacy_format": True}, {"metadata_version": pa.ipc.MetadataVersion.V4}]
    return _stream(_table(3), **options[rng.integers(2)])


def _with_custom_metadata(rng: np.random.Generator) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, MEASURED) as writer:
        writer.write_batch(_table(2).to_batches()[0], custom_metadata={"a": "b" * _size(rng, 1000)})
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _other_format(rng: np.random.Generator) -> bytes:
    """A file of another kind."""
    out = io.BytesIO()
    number = rng.integers(6)
    if number == 0:
        pq.write_table(_table(3), out)
    elif number == 1:
        with pa.ipc.new_file(out, MEASURED) as writer:
            writer.write_table(_table(3))
    elif number == 2:
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("manifest.csv", "path\n")
    elif number == 3:
        out.write(gzip.compress(bytes(_size(rng))))
    elif number == 4:
        out.write(b"hospital,patient_id\nh1,p1\n" * _size(rng, 1000))
    else:
        out.write(rng.bytes(_size(rng, 1000)))
    return out.getvalue()


_ARROW: Final[Mapping[str, Callable[[np.random.Generator], bytes]]] = {
    "good": _good,
    "expands": lambda rng: _bomb(rng, _size(rng, 40_000)),
    "expands, old form": lambda rng: _bomb(
        rng, _size(rng, 40_000), version=_V4, codec=None, custom=_OLD_COMPRESSION
    ),
    "expands, both forms": lambda rng: _bomb(
        rng, _size(rng, 1000), version=_V4, custom=_OLD_COMPRESSION
    ),
    "lies": _lies,
    "dictionary message": lambda rng: _bomb(rng, _size(rng, 1000), kind=2),
    "odd schema": lambda rng: message_of(
        1, {0: ("h", int(rng.integers(-1, 3))), 1: [{0: "pair"}] * _size(rng, 2000)}
    ),
    "unknown message": lambda rng: _bomb(rng, 1, kind=int(rng.integers(256))),
    "two streams": lambda rng: _good(rng) + _good(rng),
    "two schemas": lambda rng: _schema_message() * int(rng.integers(2, 5)) + _good(rng),
    "bytes behind the end": lambda rng: _good(rng) + rng.bytes(1 + int(rng.integers(20))),
    "zeros behind the end": lambda rng: _good(rng) + bytes(_size(rng)),
    "many batches": _many_batches,
    "wide": _wide,
    "deep": _deep,
    "other types": _other_types,
    "large schema": _large_schema,
    "old writers": _old_options,
    "custom metadata": _with_custom_metadata,
    "damaged": lambda rng: damaged(_good(rng), rng, 2500),
    "cut": lambda rng: cut(_good(rng), rng),
    "other format": _other_format,
    "JSON": lambda rng: _well_formed(rng),
    "ends": lambda rng: struct.pack("<II", 2**32 - 1, 0) * _size(rng, 1000),
}


def _request(rng: np.random.Generator, num_pairs: int | None = None) -> dict[str, Any]:
    """A right request with pairs as base64 or as lists."""
    level = int(rng.integers(1, 256))
    line = [level] * int(rng.integers(1, 513))
    as_text = base64.b64encode(bytes([level]) * PAIR_BYTES).decode()
    patients: dict[str, dict[str, Any]] = {}
    for row in _table(num_pairs or _size(rng, 60)).drop_columns(["pair"]).to_pylist():
        who = {"hospital": row.pop("hospital"), "patient_id": row.pop("patient_id"), "pairs": []}
        pair = as_text if rng.integers(2) else [[line, line], None]
        patients.setdefault(who["patient_id"], who)["pairs"].append({**row, "pair": pair})
    return {"patients": list(patients.values())}


def _well_formed(rng: np.random.Generator) -> bytes:
    return json.dumps(_request(rng)).encode()


def _places(rng: np.random.Generator) -> tuple[bytes, bytes]:
    """What stands before and behind a list somewhere in a request."""
    patient = b'{"patients":[{"hospital":"h1","patient_id":"p","pairs":['
    pair = b'{"cell_id":"c","chromosome":"1","band_level":550,"pair":['
    found = [
        (b"[", b"]"),
        (b'{"patients":[', b"]}"),
        (patient, b"]}]}"),
        (patient + pair, b"]}]}]}"),
        (patient + pair + b"[[", b"],[1]],null]}]}]}"),
    ]
    return found[rng.integers(len(found))]


def _filled(rng: np.random.Generator, *pieces: str) -> bytes:
    """A long list of one small value, at any place."""
    piece = pieces[rng.integers(len(pieces))].encode()
    before, behind = _places(rng)
    return before + b",".join([piece] * max(_size(rng) // (len(piece) + 1), 1)) + behind


def _many_fields(rng: np.random.Generator) -> bytes:
    same = bool(rng.integers(2))
    fields = (b'"%x":1' % (0 if same else n) for n in range(_size(rng) // 8 + 1))
    before, behind = _places(rng)
    return before + b"{" + b",".join(fields) + b"}" + behind


def _nested(rng: np.random.Generator) -> bytes:
    opened, closed = [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"patients":', b"}]")][rng.integers(3)]
    depth = _size(rng) // (len(opened) + len(closed)) + 1
    return b'{"patients":' + opened * depth + b"1" + closed * depth * int(rng.integers(2)) + b"}"


def _spoilt(rng: np.random.Generator) -> bytes:
    """A request with one field that is wrong, missing, unknown or twice."""
    body = _request(rng)
    patient = body["patients"][rng.integers(len(body["patients"]))]
    pair = patient["pairs"][rng.integers(len(patient["pairs"]))]
    owner = [body, patient, pair][rng.integers(3)]
    field = [*owner, "extra", "\ud800", "\0", "x" * 300][rng.integers(len(owner) + 4)]
    wrong: list[Any] = [
        None,
        True,
        0,
        -1,
        0.5,
        10**30,
        float("nan"),
        float("inf"),
        "",
        "\ud800",
        "h\0",
        "x" * 200,
        "A" * 2732,
        "é" * 2732,
        [],
        {},
        [[]],
        [[[256], [1]], None],
        [[[1e3], [1]], None],
        [[[1] * 513, [1]], None],
    ]
    value = wrong[rng.integers(len(wrong))]
    if rng.integers(3):
        owner[field] = value
    else:
        owner.pop(field, None)
    text = json.dumps(body)
    if rng.integers(4) == 0:
        name = json.dumps(field)
        text = text.replace(f"{name}:", f"{name}: 1, {name}:", 1)
    return text.encode()


def _encoded(rng: np.random.Generator) -> bytes:
    text = json.dumps(_request(rng, 2)).replace('"p0"', '"pé"')
    ways = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "utf-8"]
    return text.encode(ways[rng.integers(len(ways))])


def _many_patients(rng: np.random.Generator) -> bytes:
    """Small patients and pairs, too many of them."""
    pair = b'{"cell_id":"c#","chromosome":"1","band_level":550,"pair":[[[1],[1]],null]}'
    patient = b'{"hospital":"h1","patient_id":"#","pairs":[]}'
    before, behind = _places(rng)
    piece = [patient, pair][rng.integers(2)]
    numbered = (piece.replace(b"#", str(n).encode()) for n in range(_size(rng, 40_000)))
    return before + b",".join(numbered) + behind


_JSON: Final[Mapping[str, Callable[[np.random.Generator], bytes]]] = {
    "good": _well_formed,
    "numbers": lambda rng: _filled(rng, "1", "0", "300", "-1", "1.5", "1e5", "-0", "1e-400"),
    "long numbers": lambda rng: _filled(rng, "9" * 4300, "9" * 4301, "0." + "1" * 999, "1e99999"),
    "words": lambda rng: _filled(rng, "null", "true", "NaN", "Infinity", "-Infinity"),
    "containers": lambda rng: _filled(rng, "{}", "[]", "[[]]", '{"a":1}', '[{"":[]}]'),
    "texts": lambda rng: _filled(rng, '""', '"a"', '"ab"', '"😀"', r'"\u0000"', r'"\ud800"'),
    "long texts": lambda rng: _filled(
        rng, '"' + "A" * _size(rng) + '"', '"' + "\\n" * _size(rng, 10**6) + '"'
    ),
    "many fields": _many_fields,
    "nested": _nested,
    "nested a little": lambda rng: _filled(rng, "[" * 90 + "]" * 90, '{"a":' * 90 + "1" + "}" * 90),
    "spoilt": _spoilt,
    "encoded": _encoded,
    "too many": _many_patients,
    "punctuation": lambda rng: rng.choice([b",", b" ", b'"', b":", b"\\", b"[,"]) * _size(rng),
    "damaged": lambda rng: damaged(_well_formed(rng), rng, 10**6),
    "cut": lambda rng: cut(_well_formed(rng), rng),
    "behind the end": lambda rng: _well_formed(rng) + _well_formed(rng),
    "other format": _other_format,
}
