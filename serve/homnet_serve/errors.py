"""Refusal of a request: an HTTP status, an error code, and a message for people."""

from homnet.errors import HomNetError


class RequestError(HomNetError):
    """A request is refused. The message names the field; it goes to the caller, not to the log."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


def invalid(message: str) -> RequestError:
    """422: the body is invalid."""
    return RequestError(422, "invalid_body", message)


def given_up() -> RequestError:
    """504: raised by work that finds itself given up; nobody waits for it any more."""
    return RequestError(504, "deadline", "the request was given up before it was answered")


def too_large(message: str) -> RequestError:
    """413: the body, or its decompressed content, exceeds a limit."""
    return RequestError(413, "too_large", message)
