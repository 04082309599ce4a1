"""Refusals: each has its status and its code, and is an error of the project."""

import pytest

from homnet.errors import HomNetError
from homnet_serve.errors import RequestError, invalid, too_large


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (invalid("body: x"), 422, "invalid_body"),
        (too_large("body: x"), 413, "too_large"),
        (RequestError(503, "busy", "body: x", retry_after_s=3), 503, "busy"),
    ],
)
def test_refusals_carry_what_is_answered(error: RequestError, status: int, code: str) -> None:
    assert isinstance(error, HomNetError)
    assert (error.status, error.code, str(error)) == (status, code, "body: x")
    assert error.retry_after_s == (3 if status == 503 else None)
