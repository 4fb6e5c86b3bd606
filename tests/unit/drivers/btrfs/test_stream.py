from __future__ import annotations

import struct

import pytest

from wye.drivers.btrfs import stream
from wye.errors import InvariantError

MKFILE, MKDIR, RENAME, LINK, UNLINK, RMDIR = 3, 4, 9, 10, 11, 12
TRUNCATE, CHMOD, UTIMES, END, UPDATE_EXTENT, SET_XATTR = 17, 18, 20, 21, 22, 13
SIZE, PATH, PATH_TO, PATH_LINK, OFFSET = 4, 15, 16, 17, 18


def sent(*commands: tuple[int, dict[int, bytes | int]], end: bool = True) -> bytes:
    """A stream as the kernel writes it."""
    out = b"btrfs-stream\0" + struct.pack("<I", 1)
    for command, attributes in (*commands, *([(END, {})] if end else [])):
        body = b""
        for kind, value in attributes.items():
            data = struct.pack("<Q", value) if isinstance(value, int) else value
            body += struct.pack("<HH", kind, len(data)) + data
        out += struct.pack("<IHI", len(body), command, 0) + body
    return out


def made(path: bytes, command: int = MKFILE) -> tuple[int, dict[int, bytes | int]]:
    return command, {PATH: path}


def renamed(path: bytes, to: bytes) -> tuple[int, dict[int, bytes | int]]:
    return RENAME, {PATH: path, PATH_TO: to}


def written(path: bytes, offset: int, size: int) -> tuple[int, dict[int, bytes | int]]:
    return UPDATE_EXTENT, {PATH: path, OFFSET: offset, SIZE: size}


def test_a_new_file_comes_under_another_name_first() -> None:
    steps = stream.read(sent(made(b"o257-9-0"), renamed(b"o257-9-0", b"a/file"), written(b"a/file", 0, 5)))
    assert steps.arrived == {b"a/file": None}
    assert steps.departed == set()


def test_two_that_change_places() -> None:
    steps = stream.read(sent(renamed(b"b", b"o258-7-0"), renamed(b"a", b"b"), renamed(b"o258-7-0", b"a")))
    assert steps.arrived == {b"a": b"b", b"b": b"a"}
    assert steps.departed == {b"a", b"b"}


def test_one_that_comes_back_was_never_away() -> None:
    steps = stream.read(sent(renamed(b"d", b"o257-7-0"), written(b"o257-7-0/f", 0, 1), renamed(b"o257-7-0", b"d")))
    assert (steps.arrived, steps.departed) == ({}, set())
    assert steps.touched[b"d/f"].extents == [(0, 1)]


def test_what_lies_in_a_moved_directory_moves_silently() -> None:
    steps = stream.read(sent(renamed(b"old", b"new"), written(b"new/f", 0, 1), renamed(b"new/g", b"new/h")))
    assert steps.arrived == {b"new": b"old", b"new/h": b"old/g"}
    assert steps.departed == {b"old", b"old/g"}
    assert set(steps.touched) == {b"new/f"}


def test_a_directory_that_goes_takes_its_files_by_their_old_names() -> None:
    steps = stream.read(
        sent(renamed(b"d", b"o257-7-0"), made(b"d"), (UNLINK, {PATH: b"o257-7-0/f"}), (RMDIR, {PATH: b"o257-7-0"}))
    )
    assert steps.departed == {b"d", b"d/f"}
    assert steps.arrived == {b"d": None}


def test_removed_and_made_anew_has_both_departed_and_arrived() -> None:
    steps = stream.read(sent((UNLINK, {PATH: b"f"}), made(b"o300-9-0"), renamed(b"o300-9-0", b"f")))
    assert (steps.arrived, steps.departed) == ({b"f": None}, {b"f"})


def test_a_link_is_a_new_name() -> None:
    assert stream.read(sent((LINK, {PATH: b"b", PATH_LINK: b"a"}))).arrived == {b"b": None}


def test_touches() -> None:
    steps = stream.read(
        sent(
            written(b"f", 4096, 4096),
            (TRUNCATE, {PATH: b"f", SIZE: 8192}),
            (UTIMES, {PATH: b"f"}),
            (CHMOD, {PATH: b"g"}),
            (SET_XATTR, {PATH: b"h"}),
            (UTIMES, {PATH: b""}),
        )
    )
    assert {path: (touch.extents, touch.attributes) for path, touch in steps.touched.items()} == {
        b"f": ([(4096, 4096)], False),
        b"g": ([], False),
        b"h": ([], True),
    }


@pytest.mark.parametrize(
    "bad", [b"", b"something else entirely", sent(end=False), sent((99, {PATH: b"f"}))], ids=str
)  # fmt: skip
def test_what_is_no_stream_of_version_1_is_a_bug(bad: bytes) -> None:
    with pytest.raises(InvariantError):
        stream.read(bad)
