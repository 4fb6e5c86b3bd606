"""Keys from an append-only file: commands that a server might write, and bytes that none would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wye.host import Host
from wye.kinds.redis.aof import candidates
from wye.kinds.redis.connection import Argument, Reply, ServerRefused
from wye.kinds.redis.script import elements_digest

HOST = Host()
TABLE = {
    "set": (1, 1, 1),
    "del": (1, -1, 1),
    "mset": (1, -1, 2),
    "xgroup": (0, 0, 0),
    "copy": (1, 2, 1),
    "move": (1, 1, 1),
}


class Asked:
    """Answers what `candidates` asks of a server."""

    def execute(self, *arguments: Argument) -> Reply:
        return [[name.encode(), 2, [], *positions] for name, positions in TABLE.items()]

    def execute_all(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        if any(len(command) < 5 for command in commands):
            raise ServerRefused("no keys")
        return [[command[4]] for command in commands]


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def directories(root: Path, base: bytes, theirs: bytes) -> tuple[Path, Path]:
    found = []
    for name, content in (("base", base), ("theirs", theirs)):
        directory = root / name / "appendonlydir"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "appendonly.aof.manifest").write_bytes(b"file a.1.incr.aof seq 1 type i\n")
        (directory / "a.1.incr.aof").write_bytes(content)
        found.append(root / name)
    return found[0], found[1]


BEFORE = command(b"SELECT", b"0") + command(b"SET", b"old", b"1")


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ([], {}),
        ([(b"SELECT", b"0"), (b"SET", b"a\r\n*3", b"1")], {0: {b"a\r\n*3"}}),
        ([(b"SELECT", b"2"), (b"MULTI",), (b"MSET", b"a", b"1", b"b", b"2"), (b"EXEC",)], {2: {b"a", b"b"}}),
        (
            [(b"SELECT", b"0"), (b"del", b"a", b"b"), (b"SELECT", b"1"), (b"SET", b"c", b"")],
            {0: {b"a", b"b"}, 1: {b"c"}},
        ),
        ([(b"SELECT", b"0"), (b"COPY", b"a", b"b", b"DB", b"4", b"REPLACE")], {0: {b"a", b"b"}, 4: {b"b"}}),
        ([(b"SELECT", b"0"), (b"MOVE", b"a", b"3")], {0: {b"a"}, 3: {b"a"}}),
        ([(b"SELECT", b"0"), (b"XGROUP", b"CREATE", b"s", b"g", b"$")], {0: {b"s"}}),
        ([(b"SELECT", b"0"), (b"FLUSHDB",)], None),
        ([(b"SELECT", b"0"), (b"SWAPDB", b"0", b"1")], None),
        ([(b"SELECT", b"0"), (b"UNKNOWN", b"a")], None),
        ([(b"SET", b"a", b"1")], None),
    ],
)
def test_keys_of_what_follows_the_base(
    tmp_path: Path, tail: list[tuple[bytes, ...]], expected: dict[int, set[bytes]] | None
) -> None:
    theirs = BEFORE + b"#TS:1700000000\r\n" + b"".join(command(*words) for words in tail)
    assert candidates(HOST, *directories(tmp_path, BEFORE, theirs), Asked()) == expected


def test_a_file_that_does_not_go_on_where_the_base_ends_gives_no_answer(tmp_path: Path) -> None:
    for base, theirs in ((BEFORE, BEFORE[:-5]), (BEFORE[:-3], BEFORE), (BEFORE, BEFORE.replace(b"old", b"new"))):
        assert candidates(HOST, *directories(tmp_path, base, theirs), Asked()) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(st.sampled_from([b"*", b"$", b"\r\n", b"1", b"3", b"-", b"SET", b"SELECT", b"0", b"\0"]), max_size=30))
def test_rubbish_never_breaks(tmp_path: Path, words: list[bytes]) -> None:
    candidates(HOST, *directories(tmp_path, BEFORE, BEFORE + b"".join(words)), Asked())


@given(st.lists(st.tuples(st.binary(), st.binary()), unique=True))
def test_a_digest_does_not_depend_on_the_order(elements: list[tuple[bytes, bytes]]) -> None:
    assert elements_digest(elements) == elements_digest(reversed(elements))
    assert elements_digest(elements) != elements_digest([*elements, (b"one", b"more", b"")])
