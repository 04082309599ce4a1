"""Parses request bodies of any supported format into one table of checked pairs."""

import json
import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from homnet.cohorts.checks import check_measured
from homnet.cohorts.pairs import MEASURED, PAIR_BYTES, QUALITY, THIRD_COPY
from homnet.errors import CohortError
from homnet.imaging.manifest import INVISIBLE
from homnet_serve.arrow_stream import read_stream
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError, invalid, too_large
from homnet_serve.schemas import DiagnoseRequest, Patient

JSON_TYPE: Final = "application/json"
ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
SENT: Final = MEASURED.append(pa.field("num_copies", pa.int8()))
"""Columns of an Arrow body; ``num_copies`` may be missing."""
_NAMES: Final = ("hospital", "patient_id", "cell_id")
_IPC: Final = "write it as an Arrow IPC stream, as pyarrow.ipc.new_stream does"
_OTHER_FORMATS: Final = (
    (b"PAR1", "a Parquet file", _IPC),
    (b"ARROW1", "an Arrow file", _IPC),
    (b"PK", "a zip", "send a zip of images to /v1/diagnose/images"),
    (b"\x1f\x8b", "gzip", "send it unpacked"),
    (b"\x28\xb5\x2f\xfd", "zstd", "send it unpacked"),
    (b"\xff\xff\xff\xff", "an Arrow stream", f"send it as Content-Type: {ARROW_TYPE}"),
    (b"{", "JSON", f"send it as Content-Type: {JSON_TYPE}"),
)
"""First bytes of what is sent under a wrong name, what it is, and what to do."""
_BOM: Final = b"\xef\xbb\xbf"
_MARKS: Final = {b"{": (4, 4), b"[": (7, 1), b'"': (16, 10)}
"""Number of opening brackets and quotes that JSON may have for a pair, and for a patient beside
them: those of its form. Names may be in braces, so these are counted again while they are parsed.
"""
_MAX_FIELDS: Final = 16
"""Maximum number of fields of a JSON object that are looked at one by one; the largest has 5."""
_PARSING: Final = threading.Lock()
"""Python's parser stops all other threads for up to .3 s: never twice in a row."""


def read_pairs_of_body(body: bytes, content_type: str, limits: Limits) -> pa.Table:
    """Reads and checks the pairs of a request.

    Args:
        body: JSON of :class:`homnet_serve.schemas.DiagnoseRequest`, or an Arrow IPC stream with the
            columns of :data:`homnet.cohorts.pairs.MEASURED`, and perhaps ``num_copies``.
        content_type: its media type, with or without parameters.
        limits: bounds on the request.

    Returns:
        The columns of MEASURED, names in NFC; and ``quality`` if numbers of copies were sent.

    Raises:
        RequestError: the media type is unknown or the body is invalid; names the first error.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in (ARROW_TYPE, JSON_TYPE):
        _check_format(body, "JSON" if media_type == JSON_TYPE else "an Arrow stream")
    if media_type == ARROW_TYPE:
        table = read_stream(body, SENT, limits)
        place: Callable[[int], str] = "row {}".format
    elif media_type == JSON_TYPE:
        table, place = _read_json(body, limits)
    else:
        raise RequestError(
            415,
            "unknown_media_type",
            f"Content-Type: {media_type[:80]!r} cannot be read; send {JSON_TYPE} or {ARROW_TYPE}",
        )
    table = _with_flags(table, place)
    check_pairs(table, limits, place)
    return table


def _with_flags(table: pa.Table, place: Callable[[int], str]) -> pa.Table:
    """The table with names in NFC, and with quality flags in place of numbers of copies."""
    for index, name in enumerate(SENT.names):
        if name in _NAMES:
            # As :func:`homnet.imaging.manifest.trimmed` does.
            column = pc.utf8_trim_whitespace(pc.utf8_normalize(table[name], form="NFC"))
            column = pc.utf8_trim_whitespace(pc.utf8_trim(column, characters=INVISIBLE))
            table = table.set_column(index, SENT.field(index), column)
    copies, table = table["num_copies"].to_pylist(), table.select(MEASURED.names)
    if not any(number is not None for number in copies):
        return table
    for row, number in enumerate(copies):
        if number is not None and not 1 <= number <= 9:
            raise invalid(f"body: {place(row)}: 'num_copies' is {number}, expected 1 to 9")
    quality = [{"flags": [THIRD_COPY] if (number or 0) > 2 else []} for number in copies]
    return table.append_column("quality", pa.array(quality, QUALITY))


def check_pairs(table: pa.Table, limits: Limits, place: Callable[[int], str]) -> None:
    """Checks pairs against the format and the limits.

    Args:
        table: the columns of :data:`homnet.cohorts.pairs.MEASURED`.
        limits: bounds on the request.
        place: returns the name of a row for error messages.

    Raises:
        RequestError: names the first error.
    """
    if table.num_rows == 0:
        raise invalid("body: there is no pair; send at least one")
    if table.num_rows > limits.max_pairs:
        raise too_large(
            f"body: {table.num_rows} pairs, at most {limits.max_pairs} at once; send fewer patients"
        )
    for name in _NAMES:
        length = pc.utf8_length(table[name])
        bad = pc.or_(pc.equal(length, 0), pc.greater(length, limits.max_name_chars))
        # Nulls are checked below.
        if pc.any(pc.fill_null(bad, False)).as_py():
            row = pc.index(bad, pa.scalar(True)).as_py()
            raise invalid(
                f"body: {place(row)}: '{name}' has {length[row].as_py()} characters, expected 1 to "
                f"{limits.max_name_chars}"
            )
    try:
        check_measured(table, "body", place)
    except CohortError as error:
        raise invalid(str(error)) from None
    num_patients, num_cells, row = _patients_and_cells(table)
    if num_patients > limits.max_patients:
        raise too_large(
            f"body: {num_patients} patients, at most {limits.max_patients} at once; send fewer"
        )
    if num_cells > limits.max_cells:
        raise too_large(
            f"body: {place(row)}: chromosome {table['chromosome'][row].as_py()} of this patient is "
            f"sent in {num_cells} cells, at most {limits.max_cells}; send fewer cells"
        )


def _patients_and_cells(table: pa.Table) -> tuple[int, int, int]:
    """Number of patients, largest number of cells of a patient's type, and a row of that type.

    A group_by would start threads and take as long as all other checks.
    """
    code_N = np.zeros(table.num_rows, np.int64)
    num_patients = 0
    for name in ("hospital", "patient_id", "chromosome"):
        if name == "chromosome":
            num_patients = len(np.unique(code_N))
        column = table[name].combine_chunks().dictionary_encode()
        code_N = code_N * len(column.dictionary) + column.indices.to_numpy()
    # A cell has one pair of each type.
    _, first_G, count_G = np.unique(code_N, return_index=True, return_counts=True)
    most = int(count_G.argmax())
    return num_patients, int(count_G[most]), int(first_G[most])


def _check_format(body: bytes, wanted: str) -> None:
    begin = body[:64].removeprefix(_BOM).lstrip()
    for mark, what, remedy in _OTHER_FORMATS:
        if begin.startswith(mark) and what != wanted:
            raise invalid(f"body: this is {what}, not {wanted}; {remedy}")


def _read_json(body: bytes, limits: Limits) -> tuple[pa.Table, Callable[[int], str]]:
    content = _parsed(body, limits)
    try:
        request = DiagnoseRequest.model_validate(content)
    except ValidationError as error:
        raise invalid(sentence_of(error)) from None
    patients = request.patients
    num_pairs = [len(patient.pairs) for patient in patients]
    pairs = [pair for patient in patients for pair in patient.pairs]
    owners = [patient for patient in patients for _ in patient.pairs]
    columns = {
        name: [getattr(one, name) for one in (owners if name in Patient.model_fields else pairs)]
        for name in SENT.names
        if name != "pair"
    }
    # Four times as fast as a list of bytes.
    packed = pa.py_buffer(b"".join(one.pair for one in pairs))
    kind = pa.binary(PAIR_BYTES)
    columns["pair"] = pa.Array.from_buffers(kind, len(pairs), [None, packed])
    stop_of_patient = np.cumsum(num_pairs)

    def place(row: int) -> str:
        patient = int(np.searchsorted(stop_of_patient, row, side="right"))
        first = int(stop_of_patient[patient]) - num_pairs[patient]
        return f"patients[{patient}].pairs[{row - first}]"

    try:
        return pa.table(columns, schema=SENT), place
    except (pa.ArrowException, UnicodeEncodeError):
        raise invalid("body: a name is not valid Unicode; send it as UTF-8") from None


def _parsed(body: bytes, limits: Limits) -> object:
    """Parses JSON, with the objects counted meanwhile.

    Memory is bounded by the size of the body and by the number of brackets and quotes, which are
    counted first. Decimal numbers, right nowhere, become NaN.
    """
    if len(body) > limits.max_json_bytes:
        raise too_large(
            f"body: more than {limits.max_json_bytes} bytes of JSON; send fewer patients at once, "
            f"or {ARROW_TYPE}"
        )
    for mark, (of_pair, of_patient) in _MARKS.items():
        usual = of_pair * limits.max_pairs + of_patient * limits.max_patients + 2
        if body.count(mark) > usual:
            raise too_large(
                f"body: more {mark.decode()} than {limits.max_pairs} pairs have, the most at once"
            )
    most = 1 + limits.max_patients + limits.max_pairs
    num_objects = 0

    def checked(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal num_objects
        num_objects += 1
        if num_objects > most:
            raise too_large(
                f"body: more than {limits.max_patients} patients with {limits.max_pairs} pairs, "
                "the most at once; send fewer patients"
            )
        if len(fields) > _MAX_FIELDS:
            raise invalid(f"body: an object with {len(fields)} fields; see /docs for those it has")
        found = dict(fields)
        if len(found) < len(fields):
            name, _ = Counter(name for name, _ in fields).most_common(1)[0]
            raise invalid(f"body: an object has the field {ascii(name)[:60]} twice; give it once")
        return found

    if b"\0" in body[:4] or body.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise invalid("body: JSON in UTF-16 or UTF-32; send it as UTF-8")
    try:
        # A mark of the byte order says nothing in UTF-8, and some editors write one.
        text = body.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise invalid(f"body: byte {error.start} is not UTF-8; send JSON as UTF-8") from None
    try:
        with _PARSING:
            return json.loads(text, object_pairs_hook=checked, parse_float=lambda _: math.nan)
    except json.JSONDecodeError as error:
        raise invalid(
            f"body: not JSON ({error.msg} at line {error.lineno}, column {error.colno})"
        ) from None
    except RecursionError:
        raise invalid("body: JSON that is nested too deeply; see /docs for its form") from None
    except ValueError:
        raise invalid("body: a number with thousands of digits") from None


def sentence_of(error: ValidationError, where: str = "body") -> str:
    """The first error with its location, without quoting the input."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}"[: 1 + 60]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        message = "Input should be an object"
    return f"{where}: '{place.lstrip('.')}': {message}" if place else f"{where}: {message}"
