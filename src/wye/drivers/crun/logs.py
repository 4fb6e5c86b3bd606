"""Containers' output, as conmon wrote it: one file per replica, `<directory>/<environment>/<name>.log`.

The format is Kubernetes': time, stream, "F" for a whole line or "P" for a part of one, text. It is written by conmon,
so its frame can be trusted; the text is the container's. conmon starts a file anew at 16 MiB, so no container can fill
the host's disk with words; readers that follow notice and go on with the new file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from wye.host import Host
from wye.interfaces import LogLine

_LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d+)([+-]\d\d:\d\d|Z) (stdout|stderr) ([FP]) ?(.*)", re.DOTALL)
_TEXT_BYTES = 1 << 20
"""A line is given in pieces of this size when it never ends."""
_BLOCK = 1 << 16
_LOOK_EVERY_S = 0.1


class Logs:
    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory

    def path(self, environment: str, name: str) -> Path:
        return self._directory / environment / f"{name}.log"

    def prepare(self, environment: str, name: str) -> Path:
        path = self.path(environment, name)
        self._host.make_directory("start:log", path.parent, mode=0o700)
        return path

    def delete(self, environment: str) -> None:
        self._host.remove_tree("logs:delete", self._directory / environment)

    def read(
        self,
        environment: str,
        name: str,
        *,
        since_at: float | None = None,
        tail: int | None = None,
        follow: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        """As `Runtime.logs`. A log that does not exist yet is empty."""
        for line in self._raw(self.path(environment, name), tail, follow):
            if since_at is None or line.at >= since_at:
                yield line

    def _raw(self, path: Path, tail: int | None, follow: Callable[[], bool] | None) -> Iterator[LogLine]:
        assembler = _Assembler()
        file = _opened(path)
        if file is not None and tail is not None:
            lines, assembler = _last(file, tail)
            yield from lines
        try:
            while True:
                # Asked before reading: what was written until then is read below, whatever the answer.
                goes_on = follow is not None and follow()
                if file is None:
                    file = _opened(path)
                if file is not None:
                    yield from assembler.lines(file)
                    if _was_replaced(file, path):
                        yield from assembler.lines(file)
                        file.close()
                        file = _opened(path)
                        continue
                if not goes_on:
                    yield from assembler.rest()
                    return
                self._host.sleep(_LOOK_EVERY_S)
        finally:
            if file is not None:
                file.close()


class _Assembler:
    """Puts partial lines together, for each stream apart."""

    def __init__(self) -> None:
        self._parts: dict[str, list[bytes]] = {}
        self._began: dict[str, float] = {}
        self._unread = b""

    def lines(self, file: BinaryIO) -> Iterator[LogLine]:
        """What the file holds beyond what was read of it."""
        while block := file.read(_BLOCK):
            *whole, self._unread = (self._unread + block).split(b"\n")
            for raw in whole:
                line = self._line(raw)
                if line is not None:
                    yield line

    def rest(self) -> Iterator[LogLine]:
        """Lines whose end never came."""
        for stream in list(self._parts):
            yield self._take(stream)

    def _line(self, raw: bytes) -> LogLine | None:
        match = _LINE.fullmatch(raw)
        if match is None:
            return None
        try:
            at = _seconds(match)
        except ValueError:
            # Looks like one and is no time, as after a crash of the machine: no line.
            return None
        stream = match[4].decode()
        parts = self._parts.setdefault(stream, [])
        self._began.setdefault(stream, at)
        parts.append(match[6])
        if match[5] == b"P" and sum(map(len, parts)) < _TEXT_BYTES:
            return None
        return self._take(stream)

    def _take(self, stream: str) -> LogLine:
        text = b"".join(self._parts.pop(stream)).decode(errors="replace")
        return LogLine(at=self._began.pop(stream), stream=stream, text=text)


def _seconds(match: re.Match[bytes]) -> float:
    zone = b"+00:00" if match[3] == b"Z" else match[3]
    whole = datetime.fromisoformat((match[1] + zone).decode()).timestamp()
    return whole + float(b"0." + match[2])


def _last(file: BinaryIO, count: int) -> tuple[list[LogLine], _Assembler]:
    """The last `count` whole lines, read backwards no further than needed. The file is at its end then, and the
    assembler holds what has begun."""
    end = file.seek(0, os.SEEK_END)
    window = _BLOCK
    while True:
        start = max(0, end - window)
        file.seek(start)
        assembler = _Assembler()
        if start:
            file.readline()
        found = list(assembler.lines(file))
        # One more than asked for: the first may be the second half of a line.
        if start == 0 or len(found) > count:
            return (found[-count:] if count > 0 else []), assembler
        window *= 4


def _opened(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _was_replaced(file: BinaryIO, path: Path) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(file.fileno())
    return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)
