"""Files of a form are those of a zip; whatever else a form may be is refused in a sentence."""

import io
import zipfile
from dataclasses import replace
from typing import Any

import httpx
import pytest

from homnet_serve.config import Limits
from homnet_serve.errors import RequestError
from homnet_serve.forms import FORM_TYPE, zip_of_form
from homnet_serve.karyogram_zips import open_pictures

TYPE = f"{FORM_TYPE}; boundary=b"


def form(**parts: Any) -> tuple[bytes, str]:
    """A form as a client writes it, and its type."""
    request = httpx.Request("POST", "http://localhost/", **parts)
    return request.read(), request.headers["content-type"]


def test_files_arrive_as_they_are() -> None:
    large = bytes(range(256)) * 20_000
    files = {"p_1.png": b"\r\n--b\r\n", "\xfc_2.tif": large, "cells.csv": b""}
    body, content_type = form(files=[("files", one) for one in files.items()])
    with zipfile.ZipFile(io.BytesIO(zip_of_form(body, content_type, 3))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert open_pictures(body, Limits(), content_type).names == ("p_1.png", "\xfc_2.tif")


def part(head: str, content: str = "x") -> str:
    return f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n"


MANY = "".join(part(f'name="files"; filename="p_{n}.png"') for n in range(4))
UNCHOSEN = part('name="a"; filename=""', "")
FILE = part('name="files"; filename="p_1.png"')


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (FILE + "--b--", FORM_TYPE, 422, "the form has no boundary"),
        (FILE, TYPE, 422, "the form is cut off"),
        (FILE[:-2], TYPE, 422, "the form is cut off"),
        ("", TYPE, 422, "the form is cut off"),
        ("no form", TYPE, 422, "not a readable form"),
        (MANY + "--b--", TYPE, 413, "more than 3 files"),
        (part('name="patient_id"') + "--b--", TYPE, 422, "'patient_id' is a field, not a file"),
        (UNCHOSEN * 3 + "--b--", TYPE, 422, "there is no picture in it"),
        (UNCHOSEN * 4 + "--b--", TYPE, 413, "more than 3 files"),
        (part('name="a"; filename=""') + "--b--", TYPE, 422, "has no usable name"),
        (part('name="a"; filename="\0p_1.png"') + "--b--", TYPE, 422, "has no usable name"),
        (FILE + "--b--", FORM_TYPE + "; boundary=" + "b" * 300, 422, "not a readable form"),
        (FILE + FILE + "--b--", TYPE, 422, "two files of one name"),
        (part('name="a"; filename="M\xdcLLER_1.png"') + "--b--", TYPE, 422, "is not UTF-8"),
        ("--b\r\nNo-Colon\r\n\r\nx\r\n--b--", TYPE, 422, "not a readable form"),
        ("--b\r\nX: y\r\n\r\nx\r\n--b--", TYPE, 422, "not a readable form"),
        (part('filename="../p_1.png"') + "--b--", TYPE, 422, "not a readable form"),
    ],
)
def test_what_is_no_form_of_files_is_refused(
    body: str, content_type: str, status: int, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as error:
        open_pictures(body.encode("latin-1"), replace(Limits(), max_pictures=1), content_type)
    assert error.value.status == status
