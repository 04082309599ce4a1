"""What is answered when a request cannot be served: a status, a code for programs, a sentence."""

from homnet.errors import HomNetError


class RequestError(HomNetError):
    """A request that is refused. The message names the field and is for the caller only."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


def invalid(message: str) -> RequestError:
    """The body is not what it should be."""
    return RequestError(422, "invalid_body", message)


def too_large(message: str) -> RequestError:
    """The body, or what it expands to, is over a limit."""
    return RequestError(413, "too_large", message)
