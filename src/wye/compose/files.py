"""Reading the files that a project is made of: the only place in this room that opens one.

A file is read whole, is regular, is small, and is UTF-8 where it is text. What is wrong with it is said with the key
and line that named it.
"""

from __future__ import annotations

import stat
from pathlib import Path

from wye.compose.at import At
from wye.compose.machine import why_not
from wye.compose.nodes import ComposeError, Mark, Origin

FILE_BYTES = 1 << 20

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)


def shown(path: Path, directory: Path) -> str:
    """How messages name a file: relative to the project where that is possible."""
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)


def exists(path: Path) -> bool:
    """Whether there is anything; what may not be looked at counts as there, so that reading it says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True


def read_bytes(path: Path, asked: At | Mark, *, what: str, hint: str | None = None) -> bytes:
    """The content of a regular file of at most 1 MiB. `asked` names it; `what` is it in the message.

    Raises ComposeError."""
    reason = why_not(path)
    if reason is not None:
        raise _error(asked, reason, None)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            problem = "is a directory" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
            raise _error(asked, f"{what} {path} {problem}", None)
        if status.st_size > FILE_BYTES:
            raise _error(asked, f"{what} {path} is larger than {FILE_BYTES >> 20} MiB", None)
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _error(asked, f"{what} {path} is not there", hint) from None
    except OSError as error:
        raise _error(asked, f"{what} {path} cannot be read: {error.strerror}", None) from error
    except ValueError as error:
        raise _error(asked, f"{what} {path} cannot be read: {error}", None) from error
    if len(content) > FILE_BYTES:
        raise _error(asked, f"{what} {path} is larger than {FILE_BYTES >> 20} MiB", None)
    return content


def read_text(path: Path, asked: At | Mark, *, what: str, hint: str | None = None) -> str:
    content = read_bytes(path, asked, what=what, hint=hint)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _error(asked, f"{what} {path} is not UTF-8 in line {line}", "save it as UTF-8") from None
    if "\0" in text:
        raise _error(asked, f"{what} {path} has a NUL character in it", None)
    return text


def _error(asked: At | Mark, message: str, hint: str | None) -> ComposeError:
    return asked.error(message, hint=hint) if isinstance(asked, At) else ComposeError(message, asked, hint=hint)


def top(path: Path, directory: Path) -> Mark:
    """The mark for what is wrong with a file as a whole."""
    return Mark(Origin(path, shown(path, directory), directory), 1)
