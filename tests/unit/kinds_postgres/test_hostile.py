"""A fork's server is any program that listens at a socket, and its DDL log is any text."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from wye.kinds.patience import Patience, TooMuch
from wye.kinds.postgres.ddl import plan_statements
from wye.kinds.postgres.parsing import Unparsable, parse
from wye.kinds.postgres.patient import PatientConnection
from wye.kinds.postgres.session import Connection

READY = b"Z" + struct.pack("!ic", 5, b"I")
ONE_COLUMN = b"T" + struct.pack("!ih", 6 + 20, 1) + b"n\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
ROW = b"D" + struct.pack("!ihi", 4 + 2 + 4 + 50_000, 1, 50_000) + b"x" * 50_000


@contextmanager
def lying_server(directory: Path, answer: Callable[[socket.socket], None]) -> Iterator[Callable[[], Connection]]:
    """Lets anybody in, and answers the first question with `answer`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / ".s.PGSQL.5432"))
    listener.listen()
    accepted: list[socket.socket] = []

    def work() -> None:
        connection, _ = listener.accept()
        accepted.append(connection)
        connection.recv(1000)
        connection.sendall(b"R" + struct.pack("!ii", 8, 0) + READY)
        connection.recv(1000)
        try:
            answer(connection)
        except OSError:
            pass  # nobody listens any more

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield lambda: PatientConnection.connect(host=str(directory), autocommit=True)
    finally:
        for each in (*accepted, listener):
            each.close()
        thread.join(5)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientConnection, "patience", Patience(silence_s=0.3))
    with (
        lying_server(tmp_path, lambda connection: connection.makefile("rb").read()) as connect,
        connect() as connection,
    ):
        with pytest.raises(TooMuch, match="silent"):
            connection.execute("select 1")
        assert connection.closed
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_a_server_that_trickles_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientConnection, "patience", Patience(silence_s=1, answer_s=0.5))

    def trickle(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b"N" + struct.pack("!i", 5) + b"\0")
            time.sleep(0.05)

    with (
        lying_server(tmp_path, trickle) as connect,
        connect() as connection,
        pytest.raises(TooMuch, match="end of its"),
    ):
        connection.execute("select 1")


def test_a_server_that_sends_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientConnection, "patience", Patience(memory_bytes=50 << 20))

    def flood(connection: socket.socket) -> None:
        connection.sendall(ONE_COLUMN)
        while True:
            connection.sendall(ROW)

    with lying_server(tmp_path, flood) as connect, connect() as connection, pytest.raises(TooMuch, match="50 MiB"):
        connection.execute("select 1")


@pytest.mark.parametrize("count", [50, 5000, 60_000])
@pytest.mark.parametrize("link", ["+1", "::int", " union select 1", " collate c"])
def test_no_expression_is_too_deep_for_this_process(link: str, count: int) -> None:
    query = "create view v as select 1" + link * count
    statements, refused = plan_statements([(1, "t", "CREATE VIEW", "v", False, "none", "", query, None, "5")], "p")
    assert (statements == []) is bool(refused)
    if count > 100:
        assert [conflict.kind for conflict in refused] == ["opaque-ddl"]


@pytest.mark.parametrize("text", ["select 1\0; drop table x", "select '\udcff'", "select 1;" * 200_000])
def test_what_is_not_read_whole_is_not_read(text: str) -> None:
    with pytest.raises(Unparsable):
        parse(text)


def test_a_long_list_is_not_deep() -> None:
    assert len(parse("insert into t values " + ", ".join(f"({n}, 'x;y(', $$[[[$$)" for n in range(5000))).stmts) == 1
    assert len(parse("create table t (i int, s text); comment on table t is 'x'; " * 1000).stmts) == 2000
