"""A build's context: the files of a directory that go into an image.

The directory is somebody's and may change or hold anything: it is read without following a link, links are
taken as they are, what is neither file, directory nor link is refused. A context is known by the hash of its
content, so that an unchanged one is never built twice; owners, times and the finer modes do not count.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wye.errors import BadRequest, Conflict, NotFound
from wye.host import Host

IGNORE_FILE = ".dockerignore"
# Left out unless the ignore file takes them in again ("!.git"): they change without the application changing.
_ALWAYS = ("**/.git", "**/.venv", "**/__pycache__", "**/*.pyc")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    max_bytes: int = 1 << 30
    max_entries: int = 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` is relative, with slashes. `target` is a link's, as it is."""

    path: str
    mode: int
    size: int = 0
    target: str = ""

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def kept_mode(self) -> int:
        """What an image keeps of a file's mode: whether it can be executed."""
        return 0o755 if stat.S_ISDIR(self.mode) or self.mode & 0o100 else 0o644


class Context:
    """The directory as it was when this was made: what it listed then is what is read."""

    def __init__(self, host: Host, root: Path, limits: Limits | None = None) -> None:
        self._host = host
        self.root = root
        self._limits = limits or Limits()
        if not root.is_dir():
            raise NotFound(f"there is no directory {root} to build", hint="check 'build: context' in the compose file")
        self._rules = _rules(self.text(IGNORE_FILE) or "")
        self.entries = sorted(self._list(""), key=lambda entry: entry.path)

    def has(self, path: str) -> bool:
        return any(entry.path == path and entry.is_file for entry in self.entries)

    def text(self, path: str) -> str | None:
        """The content of a small text file. None if there is none. Raises BadRequest for a link or a device."""
        try:
            return self._host.read_beneath(self.root, path).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"{self.root / path} cannot be read as a text file: {error}") from error

    def digest(self, paths: frozenset[str] | None = None) -> str:
        """Of all, or of `paths` only."""
        return self._visit(paths, lambda entry, chunks: _exhaust(chunks))

    def copy(self, target: Path, uid: int, paths: frozenset[str] | None = None) -> str:
        """Copies into the new directory `target`, owned by `uid`. Returns the digest of what was copied."""
        self._host.make_directory("images:context", target)
        os.chown(target, uid, uid)
        return self._visit(paths, lambda entry, chunks: _write(target / entry.path, entry, chunks, uid))

    def _visit(self, paths: frozenset[str] | None, act: Callable[[Entry, Iterator[bytes]], None]) -> str:
        self._host.at("images:context")
        digest = hashlib.sha256()
        for entry in self.entries:
            if paths is not None and entry.path not in paths:
                continue
            kind = stat.S_IFMT(entry.mode)
            digest.update(f"{entry.path}\0{kind}\0{entry.kept_mode}\0{entry.size}\0{entry.target}\0".encode())
            try:
                act(entry, self._chunks(entry, digest.update))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                    raise _changed(self.root / entry.path) from error
                raise self._host.failure("images:context", f"copy {self.root / entry.path}", error) from error
        return digest.hexdigest()

    def _chunks(self, entry: Entry, count: Callable[[bytes], None]) -> Iterator[bytes]:
        if not entry.is_file:
            return
        left = entry.size
        with os.fdopen(self._host.open_beneath(self.root, entry.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            while chunk := file.read(_CHUNK):
                left -= len(chunk)
                count(chunk)
                yield chunk
        if left != 0:
            raise _changed(self.root / entry.path)

    def _list(self, folder: str) -> Iterator[Entry]:
        descriptor = self._host.open_beneath(self.root, folder, os.O_RDONLY | os.O_DIRECTORY)
        total, count = 0, 0
        pending = [(folder, descriptor)]
        try:
            while pending:
                folder, descriptor = pending.pop()
                with os.scandir(descriptor) as found:
                    names = sorted(entry.name for entry in found)
                for name in names:
                    path = f"{folder}/{name}" if folder else name
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    ignored = self._ignores(path)
                    if stat.S_ISDIR(status.st_mode) and (not ignored or self._may_take_in_again):
                        below = self._host.open_beneath(self.root, path, os.O_RDONLY | os.O_DIRECTORY)
                        pending.insert(0, (path, below))
                    if ignored:
                        continue
                    entry = self._entry(path, status, descriptor)
                    total, count = total + entry.size, count + 1
                    self._check_size(total, count)
                    yield entry
                os.close(descriptor)
        except OSError as error:
            raise self._host.failure("images:context", f"read {self.root / folder}", error) from error

    def _entry(self, path: str, status: os.stat_result, folder: int) -> Entry:
        if stat.S_ISREG(status.st_mode):
            return Entry(path, status.st_mode, size=status.st_size)
        if stat.S_ISLNK(status.st_mode):
            return Entry(path, status.st_mode, target=os.readlink(os.path.basename(path), dir_fd=folder))
        if stat.S_ISDIR(status.st_mode):
            return Entry(path, status.st_mode)
        raise BadRequest(
            f"{self.root / path} is neither a file, a directory nor a link", hint=f"list it in {IGNORE_FILE}"
        )

    def _check_size(self, total: int, count: int) -> None:
        if total > self._limits.max_bytes or count > self._limits.max_entries:
            raise BadRequest(
                f"{self.root} is too large to build: more than {self._limits.max_bytes >> 20} MiB "
                f"or {self._limits.max_entries} files",
                hint=f"leave out what the application does not need, in {self.root / IGNORE_FILE}",
            )

    # ------------------------------------------------------------ .dockerignore

    @property
    def _may_take_in_again(self) -> bool:
        return any(not ignore for ignore, _ in self._rules)

    def _ignores(self, path: str) -> bool:
        """The last rule that matches the path or a directory above it decides."""
        for ignore, pattern in reversed(self._rules):
            if pattern.fullmatch(path):
                return ignore
        return False


def _rules(text: str) -> list[tuple[bool, re.Pattern[str]]]:
    """(ignored or taken in, pattern) for each line, as Docker reads them."""
    found = []
    for line in [*_ALWAYS, *text.splitlines()]:
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        ignore = not rule.startswith("!")
        rule = os.path.normpath(rule.removeprefix("!").strip()).strip("/")
        if rule != ".":
            found.append((ignore, re.compile(_expression(rule) + "(?:/.*)?", re.DOTALL)))
    return found


def _expression(rule: str) -> str:
    """Go's filepath.Match, plus `**` for any number of directories."""
    pieces = []
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|\\.|.", rule, re.DOTALL):
        match token:
            case "**/":
                pieces.append("(?:.*/)?")
            case "**":
                pieces.append(".*")
            case "*":
                pieces.append("[^/]*")
            case "?":
                pieces.append("[^/]")
            case _ if len(token) > 2 and token[0] == "[":
                negated = token[1] == "^"
                content = token[2 if negated else 1 : -1].replace("\\", "\\\\").replace("[", "\\[")
                pieces.append(f"[{'^' if negated else ''}{content}]")
            case _:
                pieces.append(re.escape(token[-1]))
    return "".join(pieces)


def _write(target: Path, entry: Entry, chunks: Iterator[bytes], uid: int) -> None:
    # A directory may itself be left out, and something below it taken in.
    for folder in reversed(target.parents):
        if not folder.exists():
            _own(folder, uid)
    if stat.S_ISLNK(entry.mode):
        os.symlink(entry.target, target)
    elif stat.S_ISDIR(entry.mode):
        _own(target, uid)
        return
    else:
        with target.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
    if not stat.S_ISLNK(entry.mode):
        os.chmod(target, entry.kept_mode)
    os.lchown(target, uid, uid)


def _own(folder: Path, uid: int) -> None:
    """Makes a directory. It may be there already, made for what was below it."""
    folder.mkdir(exist_ok=True)
    os.chmod(folder, 0o755)
    os.chown(folder, uid, uid)


def _exhaust(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass


def _changed(path: Path) -> Conflict:
    return Conflict(f"{path} changed while it was read", hint="try again")
