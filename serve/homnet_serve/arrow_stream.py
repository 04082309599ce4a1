"""Reads untrusted Arrow IPC streams: sizes are checked before memory is allocated.

A compressed buffer begins with its decompressed size, and Arrow allocates that much before
decompression. The sizes are therefore read first, from the metadata of each message: a FlatBuffers
table (https://flatbuffers.dev/internals/) of Arrow's ``Message.fbs``. What Arrow would read in
another way than this module is refused: older versions of the format, and custom metadata, which
in those versions could turn compression on.
"""

import struct
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from homnet.errors import first_line
from homnet_serve.config import Limits
from homnet_serve.errors import invalid, too_large

_CONTINUATION: Final = 0xFFFFFFFF
_MAX_METADATA_BYTES: Final = 64 * 2**10
"""Maximum size of the metadata of a message; seven columns need about 1 KiB."""
_MAX_BATCHES: Final = 4096
"""Maximum number of batches; one per cell of 200 patients makes 1,000."""
_KEPT_BYTES: Final = 2**18
"""Bytes that a bitmap or offsets may have beyond their rows: Arrow's writer keeps the whole bitmap
where it writes the first rows of a table, and all offsets where it writes none."""
_V5: Final = 4
_SCHEMA, _RECORD_BATCH = 1, 3
"""Kinds of messages."""
_VERSION, _KIND, _HEADER, _BODY_LENGTH, _CUSTOM_METADATA = range(5)
"""Fields of ``Message``."""
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = range(4)
"""Fields of ``RecordBatch``."""
_ENDIANNESS: Final = 0
"""Field of ``Schema``."""


def read_stream(body: bytes, schema: pa.Schema, limits: Limits) -> pa.Table:
    """Reads a whole stream.

    Args:
        body: the stream; nothing may follow its end.
        schema: the expected columns, in any order and no others; nullable ones may be missing.
            Wider integers and long strings are cast to the types of the schema.
        limits: bounds on rows, on characters of a name, and on the total size of all buffers after
            decompression. Each buffer is bounded by the number of its rows as well.

    Raises:
        RequestError: the body is no Arrow stream, is truncated, has other columns or is too large.
    """
    try:
        messages = _messages(memoryview(body))
        first = next(messages, None)
        if first is None or first.kind != _SCHEMA:
            raise ValueError("it does not begin with a schema")
        if first.number("h", first.header(), _ENDIANNESS):
            raise ValueError("big-endian; write it on a little-endian machine")
        _check_columns(pa.ipc.read_schema(pa.py_buffer(body[: first.stop])), schema)
        with pa.ipc.open_stream(body, options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
            _check_batches(messages, reader.schema, limits)
            batches = list(reader)
        table = pa.Table.from_batches(batches, reader.schema)
        # Offsets and text from untrusted input may point anywhere.
        table.validate(full=True)
    except struct.error:
        raise invalid("body: not a readable Arrow IPC stream (damaged or cut off)") from None
    except (pa.ArrowException, OSError, EOFError, ValueError, IndexError) as error:
        reason = first_line(error)[:200]
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
        least = 0 if wanted.field(name).nullable else 1
        if not least <= got.names.count(name) <= 1:
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
            raise invalid(
                f"body: column '{field.name}' has type {str(field.type)[:60]}, expected {to}"
            )


def _cast(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in table.schema.names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)])
    try:
        return table[field.name].cast(field.type)
    except pa.ArrowInvalid:
        raise invalid(
            f"body: column '{field.name}' has values that do not fit into {field.type}"
        ) from None


def _check_batches(messages: "Iterator[_Message]", schema: pa.Schema, limits: Limits) -> None:
    """Adds up rows and decompressed sizes without allocating anything."""
    bounds = [(field.name, *bound) for field in schema for bound in _bounds(field.type, limits)]
    rows = total = 0
    for number, message in enumerate(messages):
        if number == _MAX_BATCHES:
            raise too_large(f"body: more than {number} Arrow batches; write larger ones")
        if message.kind != _RECORD_BATCH:
            raise ValueError("a message behind the schema is no record batch")
        length, sizes = message.record_batch(len(schema))
        rows += length
        if rows > limits.max_pairs:
            raise too_large(
                f"body: {rows} pairs, at most {limits.max_pairs} at once; send fewer patients"
            )
        if len(sizes) != len(bounds):
            raise ValueError("another number of buffers than the columns have")
        for size, (name, bits, extra) in zip(sizes, bounds, strict=True):
            # Writers pad buffers to 64 bytes.
            if size > -(-(length * bits + 8 * extra) // 512) * 64:
                raise too_large(
                    f"body: column '{name}' expands to {size} bytes for {length} pairs, more than "
                    "they can need; a name has at most "
                    f"{limits.max_name_chars} characters"
                )
        total += sum(sizes)
        if total > limits.max_expanded_bytes:
            raise too_large(
                f"body: the Arrow stream takes more than {limits.max_expanded_bytes} bytes when it "
                "is expanded; send fewer patients at once"
            )


def _bounds(kind: pa.DataType, limits: Limits) -> list[tuple[int, int]]:
    """Bits per row, and bytes beside them, that each buffer of a column takes at most."""
    validity = (1, _KEPT_BYTES)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        width = 4 if pa.types.is_string(kind) else 8
        return [validity, (8 * width, width + _KEPT_BYTES), (8 * 4 * limits.max_name_chars, 0)]
    return [validity, (kind.bit_width, 0)]


def _messages(stream: memoryview) -> "Iterator[_Message]":
    """The messages up to the end of the stream, with or without the marker of its end."""
    at = 0
    while at < len(stream):
        mark, size = struct.unpack_from("<Ii", stream, at)
        at += 8
        if mark != _CONTINUATION:
            raise ValueError(f"no message at byte {at - 8}; write it with Arrow 1.0 or newer")
        if size == 0:
            if at < len(stream):
                raise invalid(
                    f"body: {len(stream) - at} bytes follow the end of the Arrow stream; send one "
                    "stream per request"
                )
            return
        if not 0 < size <= _MAX_METADATA_BYTES:
            raise ValueError(f"a message with {size} bytes of metadata; send no other columns")
        metadata = stream[at : at + size]
        message = _Message(metadata, stream[at + size :], at + size)
        if len(metadata) < size or message.stop > len(stream):
            raise ValueError("cut off")
        yield message
        at = message.stop


class _Message:
    """A message of version 5 without custom metadata."""

    def __init__(self, metadata: memoryview, rest: memoryview, start: int) -> None:
        """Reads the fields that all messages have.

        Args:
            metadata: the FlatBuffer.
            rest: the stream behind it.
            start: where in the stream that is.

        Raises:
            ValueError, struct.error: the message is of another version, or damaged.
        """
        self._data = metadata
        (self._root,) = struct.unpack_from("<I", metadata)
        if self.number("h", self._root, _VERSION) != _V5:
            raise ValueError("metadata version is not 5; write it with Arrow 1.0 or newer")
        if self._field(self._root, _CUSTOM_METADATA) is not None:
            raise ValueError("a message with custom metadata; write the batches without")
        self.kind = self.number("B", self._root, _KIND)
        length = self.number("q", self._root, _BODY_LENGTH)
        if length < 0:
            raise ValueError("a message of negative length")
        self.stop = start + length
        """Where in the stream the message ends."""
        self._body = rest[:length]

    def header(self) -> int:
        """Offset of the table of the schema or record batch."""
        return self._follow(self._root, _HEADER)

    def record_batch(self, num_columns: int) -> tuple[int, list[int]]:
        """Number of rows, and the size in bytes of each buffer after decompression.

        Raises:
            ValueError, struct.error: the batch is damaged.
        """
        batch = self.header()
        length = self.number("q", batch, _LENGTH)
        nodes = self._structs(batch, _NODES)
        if length < 0 or [rows for rows, _ in nodes] != [length] * num_columns:
            raise ValueError("columns of other lengths than the batch")
        is_compressed = self._field(batch, _COMPRESSION) is not None
        return length, [
            self._expanded(offset, size, is_compressed)
            for offset, size in self._structs(batch, _BUFFERS)
        ]

    def number(self, kind: str, table: int, field: int) -> int:
        """A field of a table; 0 where it has its default value."""
        place = self._field(table, field)
        return 0 if place is None else int(struct.unpack_from("<" + kind, self._data, place)[0])

    def _expanded(self, offset: int, size: int, is_compressed: bool) -> int:
        if offset < 0 or size < 0 or offset + size > len(self._body):
            raise ValueError("a buffer lies outside of its message")
        if not is_compressed or size < 8:
            return size
        (expanded,) = struct.unpack_from("<q", self._body, offset)
        # -1 marks a buffer that is stored uncompressed.
        if expanded < -1:
            raise ValueError("a buffer of negative size")
        return size if expanded == -1 else int(expanded)

    def _structs(self, table: int, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two numbers."""
        vector = self._follow(table, field)
        (count,) = struct.unpack_from("<I", self._data, vector)
        content = self._data[vector + 4 : vector + 4 + 16 * count]
        if len(content) < 16 * count:
            raise ValueError("a list that is longer than its message")
        return list(struct.iter_unpack("<qq", content))

    def _follow(self, table: int, field: int) -> int:
        place = self._field(table, field)
        if place is None:
            raise ValueError("a message without its content")
        return place + int(struct.unpack_from("<I", self._data, place)[0])

    def _field(self, table: int, number: int) -> int | None:
        """Offset of a field of a FlatBuffers table; None if it has its default value."""
        (to_vtable,) = struct.unpack_from("<i", self._data, table)
        vtable = table - to_vtable
        if vtable < 0:
            raise ValueError("a table that points outside of its message")
        (size,) = struct.unpack_from("<H", self._data, vtable)
        slot = 4 + 2 * number
        if slot + 2 > size:
            return None
        (offset,) = struct.unpack_from("<H", self._data, vtable + slot)
        return table + int(offset) if offset else None
