"""Arrow streams from strangers: nothing is allocated before its size was checked."""

import struct
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED, PAIR_BYTES
from homnet_serve.arrow_stream import read_stream
from homnet_serve.bodies import ARROW_TYPE, read_pairs_of_body
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError

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
        read_stream(bomb, MEASURED, 2**20)
    assert error.value.status == 413
    assert pa.total_allocated_bytes() - before < 2**20


def test_a_size_that_lies_is_refused(pairs: pa.Table, stream_of: StreamOf) -> None:
    body = bytearray(stream_of(pairs, "zstd"))
    # The pair column's buffer begins with its size after decompression.
    place = body.index(struct.pack("<q", len(pairs) * PAIR_BYTES))
    for lie in (2**62, -5, 1):
        body[place : place + 8] = struct.pack("<q", lie)
        with pytest.raises(RequestError) as error:
            read_stream(bytes(body), MEASURED, 2**27)
        assert error.value.status in (413, 422)


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
