"""What can go wrong, said once.

    WyeError                    a request that could not be done; nothing has changed
    ├── BadRequest              the request itself is wrong
    ├── Denied                  the caller may not do this
    ├── NotFound                what was named is not there
    ├── Conflict                it is there already, in use, or somebody else was first
    ├── Unsupported             understood, and not possible here or not yet
    ├── Unavailable             something outside failed; trying again may help
    │   └── Exhausted           a limit was reached: disk, memory, ports, processes
    └── CheckFailed             something was tried, judged and refused
    InvariantError              a bug in wye; never caught below a task boundary

A message says what happened, in lower case and without a final period. A hint says what to do and is
given only where there is something to do. Subclasses that only one module raises live in that module.
"""

from __future__ import annotations


class WyeError(Exception):
    """A request that could not be done. `code` is stable and is what machines match on."""

    code = "error"
    exit_code = 1
    http_status = 500
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadRequest(WyeError):
    """The request itself is wrong: a name, an option, a file."""

    code = "bad_request"
    exit_code = 2
    http_status = 400


class Denied(WyeError):
    """The caller may not do this, or must say that it means it."""

    code = "denied"
    exit_code = 3
    http_status = 403


class NotFound(WyeError):
    """What was named is not there."""

    code = "not_found"
    exit_code = 4
    http_status = 404


class Conflict(WyeError):
    """It is there already, in use, or somebody else was first."""

    code = "conflict"
    exit_code = 5
    http_status = 409


class Unsupported(WyeError):
    """Understood, and not possible here or not yet."""

    code = "unsupported"
    exit_code = 6
    http_status = 501


class Unavailable(WyeError):
    """Something outside failed. Trying again may help."""

    code = "unavailable"
    exit_code = 7
    http_status = 503
    retryable = True


class Exhausted(Unavailable):
    """A limit was reached: disk, memory, ports, processes."""

    code = "exhausted"
    exit_code = 8
    http_status = 507
    retryable = False


class CheckFailed(WyeError):
    """Something was tried, judged and refused; the target is as it was."""

    code = "check_failed"
    exit_code = 9
    http_status = 422


class InvariantError(Exception):
    """A bug in wye. Please report it with the daemon's log."""
