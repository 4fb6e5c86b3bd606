"""A fork's Redis is any program, and its append-only file any bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wye.errors import Unavailable
from wye.host import Host
from wye.interfaces import Endpoint
from wye.kinds.patience import Patience, TooMuch
from wye.kinds.redis.aof import candidates
from wye.kinds.redis.connection import Client, ConnectionLost
from wye.kinds.redis.kind import RedisKind


@contextmanager
def lying_server(answer: Callable[[socket.socket], None]) -> Iterator[Callable[[], socket.socket]]:
    """Gives each caller a connection to something that answers what it receives with `answer`."""
    ends: list[socket.socket] = []

    def work(there: socket.socket) -> None:
        try:
            while there.recv(10_000):
                answer(there)
        except OSError:
            pass  # nobody listens any more

    def dial() -> socket.socket:
        here, there = socket.socketpair()
        ends.extend((here, there))
        threading.Thread(target=work, args=(there,), daemon=True).start()
        return here

    try:
        yield dial
    finally:
        for end in ends:
            end.close()


def flood(connection: socket.socket) -> None:
    connection.sendall(b"$2000000000\r\n")
    while True:
        connection.sendall(b"x" * (1 << 20))


def trickle(connection: socket.socket) -> None:
    connection.sendall(b"*1000000\r\n")
    while True:
        connection.sendall(b"$1\r\nx\r\n")
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "patience"),
    [(flood, Patience(memory_bytes=64 << 20)), (trickle, Patience(answer_s=0.3))],
    ids=["flood", "trickle"],
)
def test_an_answer_without_end(
    answer: Callable[[socket.socket], None], patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "patience", patience)
    with lying_server(answer) as dial:
        client = Client(Host(), dial)
        with pytest.raises(TooMuch):
            client.execute("GET", "a")
        with pytest.raises(ConnectionLost):
            client.execute("GET", "a")


@pytest.mark.parametrize(
    "said", [b"*1\r\n" * 100_000, b":x\r\n", b"$-7\r\n", b"*x\r\n", b"\0\0\r\n", b"$99999999999x\r\n"]
)
def test_no_answer_at_all(said: bytes) -> None:
    with lying_server(lambda connection: connection.sendall(said)) as dial, pytest.raises((ConnectionLost, TooMuch)):
        Client(Host(), dial, timeout_s=0.5).execute("GET", "a")


class Server(Endpoint):
    env: dict[str, str] = {}  # noqa: RUF012 - as the protocol has it
    argv = ()

    def __init__(self, dial: Callable[[], socket.socket]) -> None:
        self._dial = dial

    def dial(self, port: int) -> socket.socket:
        return self._dial()


def test_a_server_that_greets_differently_is_not_waited_for_for_ever() -> None:
    said = b"+HELLO\r\n"
    with lying_server(lambda there: there.sendall(said)) as dial, pytest.raises(Unavailable, match="HELLO"):
        RedisKind(Host()).await_ready(Server(dial), 0.1)  # type: ignore[abstract]


@pytest.mark.parametrize(
    "tail",
    [
        b"*" + b"9" * 5000 + b"\r\n",
        b"*9999999\r\n" + b"$0\r\n\r\n" * 1000,
        b"*2\r\n$6\r\nSELECT\r\n$3\r\nabc\r\n",
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*4\r\n$4\r\nCOPY\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\nDB\r\n",
    ],
    ids=["digits", "arguments", "database", "copy"],
)
def test_a_file_that_no_server_wrote(tmp_path: Path, tail: bytes) -> None:
    class Asked:
        def execute(self, *arguments: object) -> object:
            return [[b"copy", 2, [], 1, 2, 1]]

        def execute_all(self, commands: object) -> list[object]:
            return []

    before = b"*1\r\n$4\r\nPING\r\n"
    for name, content in (("base", before), ("theirs", before + tail)):
        (tmp_path / name / "appendonlydir").mkdir(parents=True)
        (tmp_path / name / "appendonlydir/appendonly.aof.manifest").write_bytes(b"file a.aof seq 1 type i\n")
        (tmp_path / name / "appendonlydir/a.aof").write_bytes(content)
    assert candidates(Host(), tmp_path / "base", tmp_path / "theirs", Asked()) is None
