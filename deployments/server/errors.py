"""Errors as OpenAI's API has them: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Sequence
from typing import Any

MOST_CHARACTERS = 300  # of a message, or of a field's name: they repeat what was sent
RETRY_SECONDS = 1  # after which a client that was turned away may ask again


class ApiError(Exception):
    """What a client is told, with the status of the answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "invalid_value",
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The answer's body, or what a stream sends instead of its next piece."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status, kind)
        param = None if self.param is None else _short(self.param)
        return {"error": {"message": _short(str(self)), "type": kind, "param": param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


def full() -> ApiError:
    """The error for one request too many."""
    return ApiError(429, "as many requests wait as may: ask again", code="queue_full", retry_after=RETRY_SECONDS)


def late(seconds: float) -> ApiError:
    """The error for an answer that took too long."""
    return ApiError(504, f"the answer took longer than {seconds:g} s", code="timeout")


def stopping() -> ApiError:
    """The error where the server takes no requests any more."""
    return ApiError(503, "the server stops: ask again", code="stopping", retry_after=RETRY_SECONDS)


def unavailable(why: str) -> ApiError:
    """The error where another's engine cannot be asked."""
    return ApiError(503, f"{why}: ask again", code="engine_unavailable", retry_after=RETRY_SECONDS)


def invalid(errors: Sequence[Any]) -> ApiError:
    """What pydantic says of a body, of its first fault."""
    first = errors[0]
    forbidden = first["type"] == "extra_forbidden"
    named = [str(step) for step in first["loc"] if isinstance(step, int) or _is_field(step)]
    param = ".".join(named[1:] if named[:1] == ["body"] else named) or None
    if forbidden and not _is_field(first["loc"][-1]):
        param = str(first["loc"][-1])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error" and ":" in message:
        param = param or message.partition(":")[0]
    elif first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first.get('ctx', {}).get('error', message)}", code="invalid_json")
    elif forbidden:
        message = f"{param}: this server does not support it"
    elif first["type"] == "missing":
        message = f"{param or 'body'}: missing"
    else:
        message = f"{param or 'body'}: {message[:1].lower()}{message[1:]}"
    code = "unsupported_parameter" if forbidden else "invalid_value"
    return ApiError(400, message, code=code, param=param)


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _is_field(step: Any) -> bool:
    """Whether a step to the fault is a field's name: between them stand names of types, such as `list[str]`."""
    return str(step).isidentifier() and step not in ("str", "int")
