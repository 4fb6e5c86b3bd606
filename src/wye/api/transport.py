"""HTTP/1.1 to the daemon over a Unix socket or TCP, on connections that are kept.

`http.client` and not a larger client: what a call costs shows in the latency of a fork, and what an import costs
shows in every command. Safe to use from several threads; each call has a connection of its own for its time.
A GET on a kept connection that the daemon has meanwhile closed is tried once more; what changes something never
is, because nobody could say whether the first attempt was carried out.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wye.api import faults
from wye.errors import BadRequest, Denied, Unavailable

_CONNECT_TIMEOUT_S = 10.0
_IDLE_CONNECTIONS = 16


class NotListening(Unavailable):
    """Nobody answers at the address."""

    code = "daemon_unavailable"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens: a Unix socket at `path`, or else TCP."""

    path: str | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path is not None else f"http://{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """ "unix:///run/wye/wye.sock", "/run/wye/wye.sock" or "http://host:port". Raises BadRequest."""
    if text.startswith("/"):
        return Address(path=text)
    parts = urllib.parse.urlsplit(text)
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return Address(path=parts.path)
    with contextlib.suppress(ValueError):
        if parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/"):
            return Address(host=parts.hostname, port=parts.port)
    raise BadRequest(
        f"{text!r} is not the address of a daemon",
        hint="unix:///run/wye/wye.sock or http://HOST:PORT; for TLS put a tunnel or a proxy in between",
    )


def open_socket(address: Address) -> socket.socket:
    """A connected, blocking socket. Raises NotListening, Denied."""
    try:
        if address.path is None:
            opened = socket.create_connection((address.host, address.port), timeout=_CONNECT_TIMEOUT_S)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                opened.settimeout(_CONNECT_TIMEOUT_S)
                opened.connect(address.path)
            except OSError:
                opened.close()
                raise
    except PermissionError as error:
        raise Denied(f"may not connect to {address}", hint="run it as root, for example with sudo") from error
    except OSError as error:
        raise NotListening(
            f"no daemon answers at {address}: {error.strerror or error}",
            hint=(
                "as root wye starts it by itself; else: wyed, or systemctl start wye"
                if address.path is not None and Path(address.path).parent == Path("/run/wye")
                else "start wyed there, or set WYE_ADDRESS to where it listens"
            ),
        ) from error
    opened.settimeout(None)
    return opened


class Transport:
    """Requests and their answers as bytes. Raises WyeErrors."""

    def __init__(self, address: Address, *, token: str | None = None) -> None:
        self.address = address
        self.token = token
        self.headers = {"Host": "wye"} if address.path is not None else {}
        if token is not None:
            self.headers["Authorization"] = f"Bearer {token}"
        self._guard = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def request(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: bytes | None = None
    ) -> bytes:
        """The body of the answer."""
        return self.ask(method, path, query=query, body=body)()

    def ask(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: bytes | None = None
    ) -> Callable[[], bytes]:
        """Sends it. What is returned waits for the answer and gives its body, so that a caller can do meanwhile what
        it must do anyway; call it once."""
        answered = self._sent(method, path, query, body)

        def finish() -> bytes:
            connection, answer = answered()
            try:
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise _lost(error) from error
            self._keep(connection, answer)
            if answer.status >= 400:
                raise faults.from_answer(answer.status, data)
            return data

        return finish

    def lines(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: bytes | None = None
    ) -> Iterator[bytes]:
        """The lines of the answer as they come. Closing the iterator closes the connection."""
        connection, answer = self._sent(method, path, query, body)()
        try:
            if answer.status >= 400:
                raise faults.from_answer(answer.status, answer.read())
            while line := answer.readline():
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise _lost(error) from error
        finally:
            connection.close()

    def close(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # ------------------------------------------------------------ connections

    def _sent(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: bytes | None
    ) -> Callable[[], tuple[http.client.HTTPConnection, http.client.HTTPResponse]]:
        """Sends it; what is returned waits for the head of the answer."""
        target = path + _query(query)
        headers = self.headers if body is None else {**self.headers, "Content-Type": "application/json"}
        connection, reused = self._take()
        failure: Exception | None = None
        try:
            connection.request(method, target, body, headers)
        except (OSError, http.client.HTTPException) as error:
            failure = error

        def answered() -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
            try:
                if failure is not None:
                    raise failure
                return connection, connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if reused and method == "GET":
                    return self._sent(method, path, query, body)()
                raise _lost(error) from error

        return answered

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        while True:
            with self._guard:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                fresh = http.client.HTTPConnection(self.address.host or "wye", self.address.port or 80)
                fresh.sock = open_socket(self.address)
                fresh.auto_open = 0
                return fresh, False
            if connection.sock is not None and not _readable(connection.sock):
                return connection, True
            connection.close()

    def _keep(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        if not answer.will_close:
            with self._guard:
                if len(self._idle) < _IDLE_CONNECTIONS:
                    self._idle.append(connection)
                    return
        connection.close()


def _readable(connection: socket.socket) -> bool:
    """On an idle connection this means that the other side has closed it."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _query(query: Mapping[str, Any] | None) -> str:
    """Leaves out None; True and False as "true" and "false"; a sequence as the same key several times."""
    if not query:
        return ""
    pairs = {
        key: str(value).lower() if isinstance(value, bool) else value
        for key, value in query.items()
        if value is not None
    }
    encoded = urllib.parse.urlencode(pairs, doseq=True)
    return f"?{encoded}" if encoded else ""


def _lost(error: Exception) -> Unavailable:
    return Unavailable(
        f"the connection to the daemon was lost: {error or type(error).__name__}",
        hint="what was asked may have been done: see 'wye log' and 'wye ps'",
    )
