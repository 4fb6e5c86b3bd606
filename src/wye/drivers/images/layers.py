"""Measures the layers of an image before anything unpacks them.

umoci writes below its root only, whatever the archive says, but it has no limits: a few kilobytes can
decompress to a full disk or to millions of files. So each layer is read through once first and its entries
are counted. Only sizes are read here, not names: who unpacks decides what a name means, nobody else.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from wye.errors import BadRequest, Exhausted, Unsupported
from wye.host import Host

_BLOCK = 512
_CHUNK = 1 << 20
_HEADER_LIMIT = 1 << 20
_EXTENDED, _LONG_NAMES, _SPARSE = b"xg", b"LK", b"S"
_WITHOUT_DATA = b"123456"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all layers of an image together."""

    max_bytes: int = 20 << 30
    max_entries: int = 2_000_000


@dataclass(slots=True)
class Measure:
    bytes: int = 0
    entries: int = 0


def measure(host: Host, layers: list[Path], limits: Limits) -> Measure:
    """Reads all of `layers`. Raises Exhausted beyond the limits, BadRequest for what is no archive."""
    host.at("images:measure")
    total = Measure()
    for path in layers:
        try:
            with path.open("rb") as file:
                _measure_layer(_Counted(_decompressed(file), limits, total), limits, total)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadRequest(f"a layer of the image is damaged: {error}") from error
        except OSError as error:
            raise host.failure("images:measure", f"read {path}", error) from error
    return total


def _decompressed(file: BinaryIO) -> BinaryIO:
    start = file.read(6)
    file.seek(0)
    kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if kind == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if kind is not None:
        raise Unsupported(
            f"the image has a layer compressed with {kind}", hint="push it with gzip layers; zstd is not supported yet"
        )
    return file


class _Counted:
    """Reads exactly, and no more than the limit in all: an archive's padding counts too."""

    def __init__(self, source: BinaryIO, limits: Limits, total: Measure) -> None:
        self._source = source
        self._left = limits.max_bytes - total.bytes
        self._limits = limits

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._count(len(data))
        if len(data) != size:
            raise EOFError("it ends in the middle of an entry")
        return data

    def skip(self, size: int) -> None:
        while size > 0:
            size -= len(self.read(min(size, _CHUNK)))

    def read_block(self) -> bytes | None:
        """None at the end of the file."""
        data = self._source.read(_BLOCK)
        self._count(len(data))
        if 0 < len(data) < _BLOCK:
            raise EOFError("it ends in the middle of a block")
        return data or None

    def drain(self) -> None:
        while data := self._source.read(_CHUNK):
            self._count(len(data))

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Exhausted(
                f"the image unpacks to more than {self._limits.max_bytes >> 20} MiB",
                hint="use a smaller image, or raise the limit in the daemon's configuration",
            )


def _measure_layer(source: _Counted, limits: Limits, total: Measure) -> None:
    extended_size: int | None = None
    while (header := source.read_block()) is not None and header.strip(b"\0"):
        kind = header[156:157]
        size = _number(header[124:136])
        if kind in _EXTENDED or kind in _LONG_NAMES:
            if size > _HEADER_LIMIT:
                raise BadRequest(f"a layer of the image has a header of {size} bytes")
            data = source.read(_padded(size))[:size]
            if kind == b"x":
                extended_size = _size_record(data)
            continue
        if kind == _SPARSE:
            raise _sparse()
        stored = 0 if kind in _WITHOUT_DATA else (size if extended_size is None else extended_size)
        extended_size = None
        source.skip(_padded(stored))
        total.bytes += stored
        total.entries += 1
        if total.entries > limits.max_entries or total.bytes > limits.max_bytes:
            raise Exhausted(
                f"the image unpacks to more than {limits.max_entries} files or {limits.max_bytes >> 20} MiB",
                hint="use a smaller image, or raise the limit in the daemon's configuration",
            )
    source.drain()


def _padded(size: int) -> int:
    return (size + _BLOCK - 1) // _BLOCK * _BLOCK


def _number(field: bytes) -> int:
    """Octal text, or base 256 with the top bit set."""
    if field[0] & 0x80:
        number = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        try:
            number = int(field.strip(b"\0 ") or b"0", 8)
        except ValueError as error:
            raise BadRequest("a layer of the image is not a tar archive") from error
    return number


def _size_record(data: bytes) -> int | None:
    """The `size` of a pax header, "LENGTH KEY=VALUE\\n" repeated."""
    found: int | None = None
    while data:
        length, _, _ = data.partition(b" ")
        try:
            record, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
            key, _, value = record.partition(b"=")
            if key == b"size":
                found = int(value)
        except ValueError as error:
            raise BadRequest("a layer of the image has a damaged header") from error
        if int(length) <= 0 or (found is not None and found < 0):
            raise BadRequest("a layer of the image has a damaged header")
        if key.startswith(b"GNU.sparse"):
            raise _sparse()
    return found


def _sparse() -> Unsupported:
    """A sparse entry of a few bytes may unpack to terabytes. Image builders do not write them."""
    return Unsupported("the image has a layer with sparse files", hint="build it without --sparse")
