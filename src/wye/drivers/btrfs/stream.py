"""Reads a send stream (version 1, without file data): which names came and went, which files were touched.

The kernel tells how to turn the base into the new snapshot step by step, by way of names that exist on neither
side ("o257-9-0"), with directories that move while their contents are being changed. So the steps are replayed on
a tree of names that holds only what they mention. Each node remembers the path that it had in the base; where a node
ends up says the rest. No name has a meaning by itself: a file really called "o257-9-0" is a file.

Pure: bytes in, values out. What a name is on either side is for the reader to look up.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from wye.errors import InvariantError

_MAGIC = b"btrfs-stream\0"
_COMMAND = struct.Struct("<IHI")
_ATTRIBUTE = struct.Struct("<HH")
_NUMBER = struct.Struct("<Q")

_MKFILE, _SYMLINK = 3, 8
_RENAME, _LINK, _UNLINK, _RMDIR, _SET_XATTR, _REMOVE_XATTR = 9, 10, 11, 12, 13, 14
_WRITE, _CLONE, _TRUNCATE, _CHMOD, _CHOWN, _UTIMES, _END, _UPDATE_EXTENT = 15, 16, 17, 18, 19, 20, 21, 22
_SUBVOLUME, _SNAPSHOT = 1, 2

_SIZE, _PATH, _PATH_TO, _OFFSET, _DATA, _CLONE_LENGTH = 4, 15, 16, 18, 19, 24


@dataclass(slots=True)
class Touch:
    """What was done to an object that is in both: byte ranges written, anything else, extended attributes."""

    extents: list[tuple[int, int]] = field(default_factory=list)
    attributes: bool = False


@dataclass(slots=True)
class Steps:
    """The net effect of a stream. Paths are bytes, relative to the snapshot's root, without a slash in front."""

    arrived: dict[bytes, bytes | None] = field(default_factory=dict)
    """Names in the new snapshot that hold another object than in the base → where that object was in the base, None
    if it is new. What lies below a directory that moved is not listed."""
    departed: set[bytes] = field(default_factory=set)
    """Names in the base that do not hold their object any more; again not what lies below a moved directory."""
    touched: dict[bytes, Touch] = field(default_factory=dict)
    """By the name in the new snapshot; one name only of a file that has several."""


class _Node:
    """A name on the way from base to new. `origin`: its object's path in the base, None if made since."""

    __slots__ = ("children", "origin", "touch")

    def __init__(self, origin: bytes | None) -> None:
        self.origin = origin
        self.children: dict[bytes, _Node] = {}
        self.touch: Touch | None = None


def read(stream: bytes | mmap.mmap) -> Steps:
    """The net effect of a whole stream."""
    replay = _Replay()
    for command, attributes in _commands(stream):
        replay.step(command, attributes)
    return replay.outcome()


def _commands(stream: bytes | mmap.mmap) -> Iterator[tuple[int, dict[int, bytes]]]:
    if stream[: len(_MAGIC)] != _MAGIC:
        raise InvariantError("what the kernel sent is no send stream")
    at = len(_MAGIC) + 4
    end = len(stream)
    while at < end:
        length, command, _ = _COMMAND.unpack_from(stream, at)
        at += _COMMAND.size
        stop = at + length
        attributes = {}
        while at < stop:
            kind, size = _ATTRIBUTE.unpack_from(stream, at)
            at += _ATTRIBUTE.size
            attributes[kind] = stream[at : at + size]
            at += size
        yield command, attributes
        if command == _END:
            return
    raise InvariantError("the kernel's send stream has no end")


class _Replay:
    def __init__(self) -> None:
        self._root = _Node(b"")
        self._departed: set[bytes] = set()

    def step(self, command: int, attributes: dict[int, bytes]) -> None:
        if command in (_SUBVOLUME, _SNAPSHOT, _END):
            return
        path = attributes[_PATH]
        if _MKFILE <= command <= _SYMLINK or command == _LINK:
            self._put(path, _Node(None))
        elif command == _RENAME:
            self._put(attributes[_PATH_TO], self._take(path))
        elif command in (_UNLINK, _RMDIR):
            self._take(path)
        else:
            node = self._at(path)
            if node.touch is None:
                node.touch = Touch()
            if command in (_SET_XATTR, _REMOVE_XATTR):
                node.touch.attributes = True
            elif command in (_WRITE, _CLONE, _UPDATE_EXTENT):
                node.touch.extents.append((_number(attributes[_OFFSET]), _length(attributes)))
            elif command not in (_TRUNCATE, _CHMOD, _CHOWN, _UTIMES):
                raise InvariantError(f"send command {command} is not of version 1")

    def outcome(self) -> Steps:
        steps = Steps(departed=self._departed)
        waiting: list[tuple[bytes, _Node, bytes | None]] = [(b"", self._root, b"")]
        while waiting:
            path, node, expected = waiting.pop()
            if node.origin != path:
                # Below a directory that moved, what moved with it needs no word.
                if node.origin is None or node.origin != expected:
                    steps.arrived[path] = node.origin
            else:
                steps.departed.discard(path)
            if node.touch is not None and path:
                steps.touched[path] = node.touch
            for name, child in node.children.items():
                waiting.append((_join(path, name), child, None if node.origin is None else _join(node.origin, name)))
        return steps

    def _at(self, path: bytes) -> _Node:
        node = self._root
        for name in path.split(b"/") if path else ():
            child = node.children.get(name)
            if child is None:
                child = _Node(None if node.origin is None else _join(node.origin, name))
                node.children[name] = child
            node = child
        return node

    def _take(self, path: bytes) -> _Node:
        node = self._at(path)
        parent, name = _split(path)
        del self._at(parent).children[name]
        if node.origin is not None:
            self._departed.add(node.origin)
        return node

    def _put(self, path: bytes, node: _Node) -> None:
        parent, name = _split(path)
        self._at(parent).children[name] = node


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, _, name = path.rpartition(b"/")
    return parent, name


def _number(value: bytes) -> int:
    return int(_NUMBER.unpack(value)[0])


def _length(attributes: dict[int, bytes]) -> int:
    """UPDATE_EXTENT says how much in SIZE, CLONE in CLONE_LEN, WRITE by its data."""
    for kind in (_SIZE, _CLONE_LENGTH):
        if kind in attributes:
            return _number(attributes[kind])
    return len(attributes[_DATA])
