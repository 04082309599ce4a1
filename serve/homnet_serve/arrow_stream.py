"""Reads untrusted Arrow IPC streams: sizes are checked before memory is allocated.

A compressed buffer begins with its decompressed size, and Arrow allocates that much before
decompression. The sizes are therefore read first, from the metadata of each message: a FlatBuffers
table (https://flatbuffers.dev/internals/) of Arrow's ``Message.fbs`` and ``RecordBatch``.
"""

import struct
from typing import Final

import pyarrow as pa

from homnet_serve.errors import invalid, too_large

_HEADER: Final = 2
"""Field of ``Message`` that holds the record batch."""
_BUFFERS, _COMPRESSION = 2, 3
"""Fields of ``RecordBatch``."""


def read_stream(body: bytes, schema: pa.Schema, max_bytes: int) -> pa.Table:
    """Reads a whole stream.

    Args:
        body: the stream.
        schema: the expected columns, in any order and no others. Wider integers and long strings
            are cast to the types of the schema.
        max_bytes: upper bound on the total size of all buffers after decompression.

    Raises:
        RequestError: the body is no Arrow stream, is truncated, has other columns or is too large.
    """
    try:
        _check_sizes(body, max_bytes)
        with pa.ipc.open_stream(body) as reader:
            _check_columns(reader.schema, schema)
            batches = list(reader)
        table = pa.Table.from_batches(batches, reader.schema)
        # Offsets and text from untrusted input may point anywhere.
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, ValueError, IndexError, struct.error) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise invalid(f"body: not a readable Arrow IPC stream ({reason})") from None
    columns = [_cast(table, field) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema.remove_metadata())


def write_stream(table: pa.Table) -> bytes:
    """Serialises a table as an uncompressed stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _check_columns(got: pa.Schema, wanted: pa.Schema) -> None:
    for name in wanted.names:
        if got.names.count(name) != 1:
            what = "is missing" if name not in got.names else "is there more than once"
            raise invalid(f"body: column '{name}' {what}; send {', '.join(wanted.names)}")
    for field in got:
        if field.name not in wanted.names:
            raise invalid(
                f"body: column {field.name[:40]!r} is not known; send {', '.join(wanted.names)}"
            )
        to = wanted.field(field.name).type
        fits = (
            field.type == to
            or (pa.types.is_string(to) and pa.types.is_large_string(field.type))
            or (pa.types.is_integer(to) and pa.types.is_integer(field.type))
        )
        if not fits:
            raise invalid(f"body: column '{field.name}' has type {field.type}, expected {to}")


def _cast(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    try:
        return table[field.name].cast(field.type)
    except pa.ArrowInvalid:
        raise invalid(
            f"body: column '{field.name}' has values that do not fit into {field.type}"
        ) from None


def _check_sizes(body: bytes, max_bytes: int) -> None:
    """Adds up the decompressed sizes of all buffers without allocating them."""
    stream = pa.BufferReader(body)
    total = 0
    while stream.tell() < len(body):
        try:
            message = pa.ipc.read_message(stream)
        except EOFError:  # end-of-stream marker
            break
        if message.type != "record batch":
            continue
        total += _expanded_bytes(memoryview(message.metadata), memoryview(message.body))
        if total > max_bytes:
            raise too_large(
                f"body: the Arrow stream takes more than {max_bytes} bytes when it is expanded; "
                "send fewer patients at once"
            )


def _expanded_bytes(metadata: memoryview, body: memoryview) -> int:
    """Decompressed size in bytes of the buffers of one record batch."""
    message = _root(metadata)
    header = _field(metadata, message, _HEADER)
    if header is None:
        return 0
    batch = _follow(metadata, header)
    compression = _field(metadata, batch, _COMPRESSION)
    buffers = _field(metadata, batch, _BUFFERS)
    if buffers is None:
        return 0
    vector = _follow(metadata, buffers)
    (count,) = struct.unpack_from("<I", metadata, vector)
    if 16 * count > len(metadata):
        raise struct.error("more buffers than the metadata holds")
    total = 0
    for number in range(count):
        offset, size = struct.unpack_from("<qq", metadata, vector + 4 + 16 * number)
        if offset < 0 or size < 0 or offset + size > len(body):
            raise struct.error("a buffer lies outside of its message")
        if compression is not None and size >= 8:
            (expanded,) = struct.unpack_from("<q", body, offset)
            # -1 marks a buffer that is stored uncompressed.
            if expanded < -1:
                raise struct.error("a buffer of negative size")
            size = size if expanded == -1 else expanded
        total += size
    return total


def _root(data: memoryview) -> int:
    (offset,) = struct.unpack_from("<I", data, 0)
    return int(offset)


def _field(data: memoryview, table: int, number: int) -> int | None:
    """Offset of a field of a FlatBuffers table; None if the field has its default value."""
    (to_vtable,) = struct.unpack_from("<i", data, table)
    vtable = table - to_vtable
    if vtable < 0:
        raise struct.error("a table that points outside of its message")
    (size,) = struct.unpack_from("<H", data, vtable)
    slot = 4 + 2 * number
    if slot + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", data, vtable + slot)
    return table + int(offset) if offset else None


def _follow(data: memoryview, place: int) -> int:
    (offset,) = struct.unpack_from("<I", data, place)
    return place + int(offset)
