"""Arrow streams from strangers: nothing is allocated before its size was checked."""

import itertools
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED, PAIR_BYTES
from homnet_serve.arrow_stream import read_stream
from homnet_serve.bodies import ARROW_TYPE, read_pairs_of_body
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError
from homnet_serve.records.hostile_bodies import arrow_bodies, message_of, record_batch, squeezed

StreamOf = Callable[..., bytes]


TableOf = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def pairs(table_of: TableOf) -> pa.Table:
    table = pa.concat_tables(
        [table_of("h1", num_patients=2, num_cells=2, chromosomes=("1", "X")), table_of("h2")]
    )
    return table.select(MEASURED.names).combine_chunks()


def test_a_bomb_is_refused_before_it_is_expanded(stream_of: StreamOf) -> None:
    zeros = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(PAIR_BYTES), 20_000, [None, pa.py_buffer(bytes(20_000 * PAIR_BYTES))]
    )
    names = pa.array(["n"] * 20_000)
    table = pa.table(
        [names, names, names, names, pa.array([300] * 20_000, pa.int16()), zeros], schema=MEASURED
    )
    bomb = stream_of(table, "zstd")
    assert len(bomb) < 250_000
    before = pa.total_allocated_bytes()
    with pytest.raises(RequestError, match="expanded") as error:
        read_stream(bomb, MEASURED, Limits(max_expanded_bytes=2**20))
    assert error.value.status == 413
    assert pa.total_allocated_bytes() - before < 2**20


def test_a_size_that_lies_is_refused(pairs: pa.Table, stream_of: StreamOf) -> None:
    body = bytearray(stream_of(pairs, "zstd"))
    # The pair column's buffer begins with its size after decompression.
    place = body.index(struct.pack("<q", len(pairs) * PAIR_BYTES))
    for lie in (2**62, -5, 1):
        body[place : place + 8] = struct.pack("<q", lie)
        with pytest.raises(RequestError) as error:
            read_stream(bytes(body), MEASURED, Limits())
        assert error.value.status in (413, 422)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda body: body + body, "bytes follow the end of the Arrow stream"),
        (lambda body: body + b"\0", "1 bytes follow the end"),
        (lambda body: body[:-8] + body, "no record batch"),
        (lambda body: body[:-9], "cut off"),
        (lambda body: body[:-3], "cut off"),
        (lambda body: b"\xff\xff\xff\xff\0\0\0\0", "does not begin with a schema"),
        (lambda body: body[4:], "no message at byte 0"),
    ],
)
def test_a_stream_is_whole_and_alone(
    pairs: pa.Table, stream_of: StreamOf, spoil: Callable[[bytes], bytes], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        read_stream(spoil(stream_of(pairs)), MEASURED, Limits())


def test_the_other_endianness_is_refused() -> None:
    with pytest.raises(RequestError, match="big-endian"):
        read_stream(message_of(1, {0: ("h", 1)}), MEASURED, Limits())


def test_a_stream_without_a_marker_of_its_end_is_read(pairs: pa.Table, stream_of: StreamOf) -> None:
    body = stream_of(pairs)
    assert read_stream(body[:-8], MEASURED, Limits()).equals(read_stream(body, MEASURED, Limits()))


@pytest.mark.parametrize(
    ("options", "metadata", "said"),
    [
        ({"metadata_version": pa.ipc.MetadataVersion.V4}, None, "version is not 5"),
        ({"use_legacy_format": True}, None, "write it with Arrow 1.0 or newer"),
        ({}, {"ARROW:experimental_compression": "zstd"}, "custom metadata"),
    ],
)
def test_old_forms_are_refused(
    pairs: pa.Table, options: dict[str, Any], metadata: dict[str, str] | None, said: str
) -> None:
    sink = pa.BufferOutputStream()
    settings = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, pairs.schema, options=settings) as writer:
        writer.write_batch(pairs.to_batches()[0], custom_metadata=metadata)
    with pytest.raises(RequestError, match=said):
        read_stream(sink.getvalue().to_pybytes(), MEASURED, Limits())


@pytest.mark.parametrize("name", MEASURED.names)
def test_each_column_is_bounded_by_its_rows(pairs: pa.Table, name: str) -> None:
    """However small the whole is: no column may bring more than its rows need."""
    batch = pairs.to_batches()[0]
    buffers = []
    for column, data in zip(batch.schema.names, batch.columns, strict=True):
        own = [b.to_pybytes() if b else b"" for b in data.buffers()]
        own[-1] += bytes(len(own[-1]) + 4 * 128 * len(batch) + 64) if column == name else b""
        buffers += own
    content = record_batch(len(batch), [squeezed(one) for one in buffers])
    before = pa.total_allocated_bytes()
    with pytest.raises(RequestError, match=f"column '{name}' expands to") as error:
        read_stream(MEASURED.serialize().to_pybytes() + content, MEASURED, Limits())
    assert error.value.status == 413
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("rows", [slice(0, 0), slice(0, 3), slice(2, 3), slice(7, 8)])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_parts_of_a_larger_table_are_read(
    table_of: TableOf, stream_of: StreamOf, rows: slice, compression: str | None
) -> None:
    """Arrow's writer does not cut all buffers down to what a part needs."""
    table = table_of(num_patients=40).select(MEASURED.names)
    mask = pa.array([True] * 5 + [None] * (len(table) - 5))
    nullable = pa.compute.if_else(mask, table["cell_id"], pa.scalar(None, pa.string()))
    whole = table.set_column(2, "cell_id", nullable)
    part = pa.concat_tables([whole[rows], whole[:1]])
    got = read_stream(stream_of(part, compression), MEASURED, Limits())
    assert got["cell_id"].to_pylist() == part["cell_id"].to_pylist()
    assert got["pair"].to_pylist() == part["pair"].to_pylist()


def test_batches_are_bounded(pairs: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    (one,) = pairs.slice(0, 1).combine_chunks().to_batches()
    with pa.ipc.new_stream(sink, pairs.schema) as writer:
        for _ in range(4097):
            writer.write_batch(one.slice(0, 0))
    with pytest.raises(RequestError, match="more than 4096 Arrow batches"):
        read_stream(sink.getvalue().to_pybytes(), MEASURED, Limits())


def test_hostile_streams_are_refused_within_bounds() -> None:
    """Nothing is read that is larger than the limits, and no kind is always accepted."""
    limits = Limits(max_pairs=500, max_expanded_bytes=2**21)
    statuses: dict[str, set[int]] = {}
    for kind, body in itertools.islice(arrow_bodies(np.random.default_rng(5)), 300):
        before = pa.total_allocated_bytes()
        try:
            table = read_pairs_of_body(body, ARROW_TYPE, limits)
            status = 200
            assert table.num_rows <= 500
            del table
        except RequestError as error:
            status = error.status
            assert pa.total_allocated_bytes() - before < 2**22
            json.dumps(str(error), ensure_ascii=False).encode()
        statuses.setdefault(kind, set()).add(status)
    harmless = {"good", "large schema"}
    assert {kind for kind, found in statuses.items() if found == {200}} <= harmless
    assert set().union(*statuses.values()) == {200, 413, 422}


def test_damaged_streams_are_refused_or_harmless(pairs: pa.Table, stream_of: StreamOf) -> None:
    body = stream_of(pairs.slice(0, 3))
    rng = np.random.default_rng(0)
    statuses = []
    for number in range(300):
        damaged = bytearray(body)
        for at in rng.integers(0, min(len(body), 1500), 1 + number % 4):
            damaged[at] = rng.integers(0, 256)
        if number % 3 == 0:
            damaged = damaged[: rng.integers(0, len(body))]
        try:
            read_pairs_of_body(bytes(damaged), ARROW_TYPE, Limits())
        except RequestError as error:
            statuses.append(error.status)
    assert set(statuses) <= {413, 422}
    assert len(statuses) > 150
