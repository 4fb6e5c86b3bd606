"""Sockets, and uvicorn on them.

What uvicorn does not tell an application is added here: who is at the other end of a Unix socket, as the kernel
knows it, and the descriptor of a WebSocket's connection, by which `execute` notices that a client has gone while
nothing is being read from it. Stopping ends those who follow first, because they would never end by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import struct
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from wye.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from fastapi import FastAPI

UNIX = "unix:"
"""How a client's address starts that came over the Unix socket; no TCP address does."""

DESCRIPTOR = "wye.descriptor"
_HEADER_LIMIT_BYTES = 64 * 1024
_KEEP_ALIVE_S = 75
_BACKLOG = 512
_FAREWELL_S = 0.05
"""For those who follow to be told why it ends."""
_STUCK_S = 1.0
_FRAME_LIMIT_BYTES = 1 << 20


def listen_unix(path: Path, *, mode: int = 0o600, group: int = -1) -> socket.socket:
    """A socket at `path` that only its owner (and `group`, with mode 0o660) can connect to.

    Replaces a socket that nobody listens at; raises Conflict if somebody does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            raise Conflict(f"a daemon listens at {path} already", hint="see 'wye daemon status'")
        path.unlink(missing_ok=True)
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        os.chown(path, -1, group)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen at {path}: {error.strerror or error}") from error
    except Conflict:
        listener.close()
        raise
    return listener


def listen_tcp(host: str, port: int) -> socket.socket:
    """Raises Unavailable. Port 0 means any free one."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Unavailable(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return listener


def serve(
    application: FastAPI, listeners: Sequence[socket.socket], *, started: Callable[[], None] = lambda: None
) -> None:
    """Serves until SIGTERM or SIGINT (or `Server.should_exit`), then returns when running requests have ended.

    `started` is called once connections are answered."""
    asyncio.run(Server(application, started=started).serve(sockets=list(listeners)))


class Server(uvicorn.Server):
    """uvicorn, set up for `application`."""

    def __init__(self, application: FastAPI, *, started: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=Http,
                ws=Web,
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=None,
                h11_max_incomplete_event_size=_HEADER_LIMIT_BYTES,
                ws_max_size=_FRAME_LIMIT_BYTES,
                # A client may rest for hours with a full terminal; that it has gone is seen on its connection.
                ws_ping_interval=None,
                ws_per_message_deflate=False,
            )
        )
        self._application = application
        self._on_start = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.state.calls.stop()
        await asyncio.sleep(_FAREWELL_S)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn's, but without raising the signal again afterwards: the caller has things to put away."""
        loop = asyncio.get_running_loop()
        caught: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
        try:
            for number in caught:
                loop.add_signal_handler(number, self.handle_exit, number, None)
        except (ValueError, RuntimeError):
            # Not the main thread: nobody sends signals here.
            caught = ()
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)


class Http(H11Protocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.client = _peer(transport) or self.client

    def shutdown(self) -> None:
        super().shutdown()
        _abort_if_stuck(self.transport, self.loop)


class Web(WebSocketsSansIOProtocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.client = _peer(transport) or self.client

    def shutdown(self) -> None:
        super().shutdown()
        _abort_if_stuck(self.transport, self.loop)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"][DESCRIPTOR] = {"fd": self.transport.get_extra_info("socket").fileno()}


def _abort_if_stuck(transport: Any, loop: asyncio.AbstractEventLoop, before: int = 0) -> None:
    """Ends the connection of a client that reads nothing, so that it cannot hold up the daemon's end."""
    left = transport.get_write_buffer_size()
    if left and left == before:
        transport.abort()
    elif left or not transport.is_closing():
        loop.call_later(_STUCK_S, _abort_if_stuck, transport, loop, left)


def _peer(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """("unix:0 (root)", pid) for a connection over a Unix socket."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return (f"{UNIX}{uid}{_user_name(uid)}", pid)


@lru_cache(maxsize=256)
def _user_name(uid: int) -> str:
    try:
        return f" ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return ""
