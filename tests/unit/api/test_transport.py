"""Addresses, and what a caller is told when nobody answers."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from wye.api.client import connect
from wye.api.transport import Address, NotListening, Transport, parse_address
from wye.errors import BadRequest, Unavailable


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/wye/wye.sock", Address(path="/run/wye/wye.sock")),
        ("/tmp/x.sock", Address(path="/tmp/x.sock")),
        ("http://localhost:7000", Address(host="localhost", port=7000)),
        ("http://[::1]:7000/", Address(host="::1", port=7000)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "wye.sock", "unix://wye.sock", "http://host", "https://host:1", "http://host:x", "http://host:1/path"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(BadRequest, match="is not the address of a daemon"):
        parse_address(text)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotListening, match="no daemon answers") as caught:
        connect(f"unix://{tmp_path}/wye.sock")
    assert caught.value.hint


def test_the_address_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WYE_ADDRESS", raising=False)
    monkeypatch.setenv("WYE_SOCKET", f"{tmp_path}/a.sock")
    with pytest.raises(NotListening, match=r"a\.sock"):
        connect()
    monkeypatch.setenv("WYE_ADDRESS", f"unix://{tmp_path}/b.sock")
    with pytest.raises(NotListening, match=r"b\.sock"):
        connect()


def test_a_daemon_that_dies_in_the_middle_of_a_change(tmp_path: Path) -> None:
    """The change is not sent again: nobody knows whether it was made."""
    path, seen = tmp_path / "wye.sock", []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unavailable, match="connection to the daemon was lost") as caught:
            Transport(Address(path=os.fspath(path))).request("POST", "/v1/x", body=b"{}")
        thread.join()
    assert len(seen) == 1
    assert "wye log" in (caught.value.hint or "")


def test_what_reads_an_answer_is_asked_for_when_the_request_is_on_its_way(tmp_path: Path) -> None:
    path = tmp_path / "wye.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        answered = Transport(Address(path=os.fspath(path))).ask("GET", "/v1/version")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(1 << 16).startswith(b"GET /v1/version ")
            accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            assert answered() == b"{}"
