"""One digest for all that a bind mount's source holds, so that `up` can tell whether it has changed.

Counted are names, modes, the content of files and the targets of links; times and owners are not, because an import
does not keep them. Sockets, pipes and devices are left out. Links below the source are never followed. The source is
the user's own directory and may change while it is read: then the digest is of some mixture, and differs next time.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from wye.errors import BadRequest, NotFound, Unavailable

LIMIT_BYTES = 2 << 30
_BLOCK = 1 << 20


def tree_digest(path: Path, limit_bytes: int = LIMIT_BYTES) -> str:
    """64 hex digits for a file or a directory. `path` itself may be a link.

    Raises NotFound, BadRequest (over the limit, or neither file nor directory), Unavailable (unreadable)."""
    digest = hashlib.sha256()
    budget = limit_bytes
    try:
        root = os.stat(path)
        if stat.S_ISREG(root.st_mode):
            entries: Iterator[tuple[str, Path, os.stat_result]] = iter([("", path, root)])
        elif stat.S_ISDIR(root.st_mode):
            entries = _walk(path, root)
        else:
            raise BadRequest(f"{path} is neither a file nor a directory")
        for name, place, status in entries:
            _put(digest, os.fsencode(name))
            _put(digest, f"{status.st_mode:o}".encode())
            if stat.S_ISLNK(status.st_mode):
                _put(digest, os.fsencode(os.readlink(place)))
            elif stat.S_ISREG(status.st_mode):
                budget = _content(digest, place, budget, path, limit_bytes)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there", hint=f"a bind mount needs its source: mkdir -p {path}") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror} ({error.filename})") from error
    return digest.hexdigest()


def _walk(root: Path, status: os.stat_result) -> Iterator[tuple[str, Path, os.stat_result]]:
    """All that counts below `root`, in an order that does not depend on the file system."""
    pending: list[tuple[str, Path, os.stat_result]] = [("", root, status)]
    while pending:
        name, place, found = pending.pop()
        yield name, place, found
        if not stat.S_ISDIR(found.st_mode):
            continue
        with os.scandir(place) as listing:
            children = sorted(listing, key=lambda entry: os.fsencode(entry.name), reverse=True)
        for child in children:
            below = child.stat(follow_symlinks=False)
            if stat.S_ISREG(below.st_mode) or stat.S_ISDIR(below.st_mode) or stat.S_ISLNK(below.st_mode):
                pending.append((f"{name}/{child.name}", place / child.name, below))


def _content(digest: hashlib._Hash, place: Path, budget: int, root: Path, limit_bytes: int) -> int:
    """Adds a file's content; the bytes still allowed after it."""
    content = hashlib.sha256()
    with open(place, "rb", opener=_open) as stream:
        while block := stream.read(_BLOCK):
            content.update(block)
            budget -= len(block)
            if budget < 0:
                raise BadRequest(
                    f"{root} holds more than {limit_bytes} bytes, too much to import",
                    hint="bind a smaller directory, or use a named volume and fill it from inside",
                )
    digest.update(content.digest())
    return budget


def _open(path: str, flags: int) -> int:
    """A file that became a link or a pipe since it was listed neither leads elsewhere nor blocks."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _put(digest: hashlib._Hash, value: bytes) -> None:
    """Adds a value together with its length, so that no two sequences of values give the same bytes."""
    digest.update(len(value).to_bytes(8, "big"))
    digest.update(value)
