"""Errors on their way over the socket: a `WyeError` becomes a body, a body becomes the same `WyeError` again.

Which class it becomes is decided by the exit code, which every branch of the tree has one of; the `code` of a
narrower class (`disk_full`) is kept on the instance, so that `error.code` says the same on both sides.
"""

from __future__ import annotations

from wye.api import wire
from wye.errors import (
    BadRequest,
    CheckFailed,
    Conflict,
    Denied,
    Exhausted,
    NotFound,
    Unavailable,
    Unsupported,
    WyeError,
)

_BRANCHES: tuple[type[WyeError], ...] = (
    BadRequest,
    Denied,
    NotFound,
    Conflict,
    Unsupported,
    Unavailable,
    Exhausted,
    CheckFailed,
)
_BY_EXIT_CODE = {branch.exit_code: branch for branch in _BRANCHES}
_BY_STATUS = {branch.http_status: branch for branch in _BRANCHES} | {401: Denied, 405: NotFound, 413: BadRequest}


class BadAnswer(Unavailable):
    """What came back is not what a wye daemon says."""

    code = "bad_answer"
    retryable = False


def encode(error: WyeError) -> wire.ErrorBody:
    return wire.ErrorBody(
        error=wire.Error(
            code=error.code,
            message=error.message,
            hint=error.hint,
            retryable=error.retryable,
            exit_code=error.exit_code,
        )
    )


def decode(error: wire.Error) -> WyeError:
    """The error that `encode` was given, as the nearest class that both sides know."""
    found = _BY_EXIT_CODE.get(error.exit_code, WyeError)(error.message, hint=error.hint)
    found.code = error.code
    found.retryable = error.retryable
    found.exit_code = error.exit_code
    return found


def from_answer(status: int, body: bytes) -> WyeError:
    """The error that an HTTP answer with a status of 400 or more stands for."""
    try:
        return decode(wire.ErrorBody.model_validate_json(body).error)
    except wire.ValidationError:
        text = body[:500].decode(errors="replace").strip() or "an empty answer"
        return _BY_STATUS.get(status, BadAnswer)(
            f"the daemon answered with HTTP status {status}: {text}",
            hint="is this the address of a wye daemon, and are client and daemon of one version? see 'wye version'",
        )
