"""One side of a comparison or merge: the files of an environment as they are at one path.

Everything below the root is hostile: each path is opened beneath the root without following a link, and what is read is
read from the descriptor that was looked at. A layer is an overlay's upper directory. There, `own` is the upper entry
itself (a whiteout is an entry) and `seen` is what a process sees: the entry, or what shines through from the image,
unless an opaque directory or a whiteout further up hides it. Overlay's own attributes are not part of a state; an entry
whose content lies elsewhere (redirect, metacopy) is `OTHER`, because its bytes here are not the file's.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

from wye.host import Host
from wye.merge.files import FileState, FileType
from wye.merge.text import is_text

TEXT_LIMIT_BYTES = 1 << 20
"""A larger file is never text: nobody reads its diff, and a merge by lines costs too much."""

FIFO, SOCKET, ELSEWHERE = "fifo", "socket", "overlay redirect"
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OVERLAY = ("trusted.overlay.", "user.overlay.")
WHOLE_LIMIT_BYTES = 16 << 20
"""The digest of a larger file is of its pieces that are not empty, each with its place: a file of an exabyte costs
nobody but its reader anything."""
_PIECE_BYTES = 128 << 10
_READ_BYTES = 1 << 20
_PART_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Place:
    """A volume or a layer. `name` is for people ("volume data"), `prefix` its path below the environment's root."""

    name: str
    prefix: str
    service: str = ""
    """For a layer: whose."""

    def path(self, inner: str) -> str:
        """Below the environment's root; "." is the place itself."""
        return self.prefix if inner == "." else f"{self.prefix}/{inner}"

    def inner(self, path: str) -> str:
        return path[len(self.prefix) + 1 :] or "."


def place_of(path: str) -> Place | None:
    """Where `path` (below an environment's root) lies; None for what is nobody's, as overlay's work directories."""
    parts = path.split("/")
    if parts[0] == "volumes" and len(parts) >= 2:
        return Place(f"volume {parts[1]}", f"volumes/{parts[1]}")
    if parts[0] == "layers" and len(parts) >= 3 and parts[2] == "upper":
        return Place(f"layer {parts[1]}", f"layers/{parts[1]}/upper", parts[1])
    return None


def open_below(host: Host, root: int | Path, path: str, flags: int) -> int:
    """`Host.open_beneath`, also for paths longer than the kernel takes in one call."""
    if len(os.fsencode(path)) <= _PART_BYTES:
        return host.open_beneath(root, path, flags)
    with ExitStack() as stack:
        parts: list[str] = []
        for name in path.split("/"):
            if parts and len(os.fsencode("/".join([*parts, name]))) > _PART_BYTES:
                root = host.open_beneath(root, "/".join(parts), os.O_PATH | os.O_DIRECTORY)
                stack.callback(os.close, root)
                parts = []
            parts.append(name)
        return host.open_beneath(root, "/".join(parts), flags)


class Side:
    """Reads below `root`, an environment's directory or a snapshot of one. `images`: root file system by service, for
    the layers. Holds a descriptor until `close`."""

    def __init__(self, host: Host, root: Path, images: Mapping[str, Path] | None = None) -> None:
        self._host = host
        self.root = root
        self.descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._images = dict(images or {})

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)

    def own(self, path: str, *, digest: bool = True) -> FileState | None:
        """What is at `path` itself, None if nothing. Without `digest`, a file's content is not read."""
        return self._look(self.descriptor, path, digest)

    def seen(self, path: str, *, digest: bool = True) -> FileState | None:
        """What the service sees at `path`: as `own`, with the image below."""
        own = self.own(path, digest=digest)
        if own is not None:
            return own
        below = self._image_path(path)
        return None if below is None else self._look(below[0], below[1], digest)

    def open_seen(self, path: str) -> int:
        """A descriptor (O_PATH) of what is seen at `path`. Raises FileNotFoundError."""
        try:
            return open_below(self._host, self.descriptor, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            below = self._image_path(path) if error.errno in _NOTHING else None
            if below is None:
                raise
        return open_below(self._host, below[0], below[1], os.O_PATH | os.O_NOFOLLOW)

    def read_seen(self, path: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
        """The content of the regular file seen at `path`."""
        descriptor = self.open_seen(path)
        try:
            with open_content(descriptor) as file:
                return file.read(limit_bytes)
        finally:
            os.close(descriptor)

    def links(self, path: str) -> int:
        """How many names the regular file at `path` itself has; 1 for anything else (overlay's whiteouts are names of
        one inode), 0 if there is nothing."""
        try:
            descriptor = open_below(self._host, self.descriptor, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _NOTHING:
                return 0
            raise
        try:
            found = os.fstat(descriptor)
            return found.st_nlink if stat.S_ISREG(found.st_mode) else 1
        finally:
            os.close(descriptor)

    def below(self, path: str) -> Iterator[str]:
        """All own paths below the directory `path`, in no special order."""
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            try:
                descriptor = open_below(self._host, self.descriptor, directory, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if error.errno in _NOTHING:
                    continue
                raise
            try:
                with os.scandir(descriptor) as entries:
                    found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            finally:
                os.close(descriptor)
            for name, is_directory in found:
                child = f"{directory}/{name}"
                yield child
                if is_directory:
                    waiting.append(child)

    def image_of(self, place: Place) -> Path | None:
        return self._images.get(place.service)

    def _image_path(self, path: str) -> tuple[Path, str] | None:
        """Where the image has what shines through at `path`; None if this is no layer or something hides it."""
        place = place_of(path)
        image = self._images.get(place.service) if place and place.service else None
        if place is None or image is None:
            return None
        above = posixpath.dirname(path)
        while len(above) >= len(place.prefix):
            state = self.own(above, digest=False)
            if state is not None and (state.type is not FileType.DIRECTORY or state.opaque):
                return None
            above = posixpath.dirname(above)
        return image, place.inner(path)

    def _look(self, root: int | Path, path: str, digest: bool) -> FileState | None:
        try:
            descriptor = open_below(self._host, root, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _NOTHING:
                return None
            raise self._host.failure("files:look", f"open {path!r}", error) from error
        try:
            return state_of(descriptor, digest=digest)
        except OSError as error:
            raise self._host.failure("files:look", f"read {path!r}", error) from error
        finally:
            os.close(descriptor)


def state_of(descriptor: int, *, digest: bool = True) -> FileState:
    """The state of what an O_PATH descriptor stands for."""
    found = os.fstat(descriptor)
    kind = stat.S_IFMT(found.st_mode)
    attributes = xattrs_of(descriptor)
    overlay = {name.split(".", 2)[2]: value for name, value in attributes.items() if name.startswith(_OVERLAY)}
    state = FileState(
        type=FileType.OTHER,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        xattrs=_digest_of(kept_xattrs(attributes)),
    )
    if (kind == stat.S_IFCHR and found.st_rdev == 0) or (kind == stat.S_IFREG and "whiteout" in overlay):
        return FileState(type=FileType.WHITEOUT, mode=0)
    if "redirect" in overlay or "metacopy" in overlay:
        return replace(state, target=ELSEWHERE)
    if kind == stat.S_IFDIR:
        return replace(state, type=FileType.DIRECTORY, opaque=overlay.get("opaque") == b"y")
    if kind == stat.S_IFLNK:
        return replace(state, type=FileType.SYMLINK, mode=0o777, target=os.readlink("", dir_fd=descriptor))
    if kind == stat.S_IFREG:
        state = replace(state, type=FileType.FILE, size=found.st_size)
        return _with_content(state, descriptor) if digest else state
    special = {stat.S_IFIFO: FIFO, stat.S_IFSOCK: SOCKET}.get(kind)
    device = f"{'character' if kind == stat.S_IFCHR else 'block'} device {found.st_rdev}"
    return replace(state, target=special or device)


def open_content(descriptor: int) -> IO[bytes]:
    """The content of the regular file behind an O_PATH descriptor: that very file, whatever its name leads to now."""
    return open(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)


def xattrs_of(descriptor: int) -> dict[str, bytes]:
    """All extended attributes of what an O_PATH descriptor stands for (of a link itself)."""
    path = f"/proc/self/fd/{descriptor}"
    found = {}
    for name in os.listxattr(path):
        try:
            found[name] = os.getxattr(path, name)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
    return found


def kept_xattrs(attributes: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those that belong to the file, without overlay's bookkeeping."""
    return {name: value for name, value in attributes.items() if not name.startswith(_OVERLAY)}


def _digest_of(attributes: Mapping[str, bytes]) -> str:
    if not attributes:
        return ""
    return hashlib.sha256(repr(sorted(attributes.items())).encode("utf-8", "surrogateescape")).hexdigest()


def _with_content(state: FileState, descriptor: int) -> FileState:
    """Of at most as much as the file has now: a process may go on writing faster than it is read."""
    digest = hashlib.sha256()
    size, text = 0, True
    with open_content(descriptor) as file:
        if state.size > WHOLE_LIMIT_BYTES:
            for at, piece in _pieces(file, state.size):
                digest.update(at.to_bytes(8) + piece)
            digest.update(state.size.to_bytes(8))
            return replace(state, digest=digest.hexdigest(), text=False)
        while size < state.size and (piece := file.read(min(_READ_BYTES, state.size - size))):
            if size == 0:
                text = is_text(piece)
            digest.update(piece)
            size += len(piece)
    return replace(state, size=size, digest=digest.hexdigest(), text=text and size <= TEXT_LIMIT_BYTES)


def _pieces(file: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Those that hold anything but zeros, whether the zeros are stored or not."""
    at = 0
    while at < size:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA) // _PIECE_BYTES * _PIECE_BYTES
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # nothing but a hole
        piece = os.pread(file.fileno(), min(_PIECE_BYTES, size - at), at)
        if piece.count(0) < len(piece):
            yield at, piece
        at += _PIECE_BYTES
