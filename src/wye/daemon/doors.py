"""Published ports, held on the host by listening sockets of the daemon.

While an environment is awake the kernel leads its ports straight into it (`interfaces.Network.publish`) and nothing
arrives here. While it sleeps a connection does: the environment is woken and the connection carried over by hand; the
next one goes through the kernel again. So it is while a merge exchanges the service behind a port: connections wait for
the new one here. Holding the socket also keeps other programs off the port.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from wye.errors import Conflict, Exhausted, WyeError
from wye.host import Host
from wye.interfaces import Door
from wye.model import EnvironmentName

logger = logging.getLogger(__name__)

_BACKLOG = 64
_CARRIERS = 1024
_OF_ONE = 128
"""Connections carried for one environment at a time, so that it cannot use up what all share."""
_CHUNK = 1 << 16
_CONNECT_S = 5.0
_LISTENS_S = 15.0
_TRY_EVERY_S = 0.02

Knock = Callable[[EnvironmentName, str], tuple[str, int]]
"""Wakes an environment; answers where its published port `key` is then reached. Raises WyeError."""


class PortTaken(Conflict):
    """Some other program, or another environment, has the port."""

    code = "port_taken"


@dataclass(slots=True)
class _Held:
    environment: EnvironmentName
    door: Door
    port: int
    socket: socket.socket


class HostDoors:
    """Satisfies `interfaces.Doors`."""

    def __init__(self, host: Host, *, first: int, last: int) -> None:
        self._host, self._first, self._last = host, first, last
        self._next = first
        self._guard = threading.RLock()
        self._held: dict[EnvironmentName, dict[str, _Held]] = {}
        self._selector = selectors.DefaultSelector()
        self._carriers = ThreadPoolExecutor(_CARRIERS, thread_name_prefix="door")
        self._knock: Knock | None = None
        self._carried: set[socket.socket] = set()
        self._under_way: Counter[EnvironmentName] = Counter()
        self._ended = threading.Event()
        self._bell = socket.socketpair()
        self._selector.register(self._bell[0], selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._listen, name="doors", daemon=True)

    def serve(self, knock: Knock) -> None:
        """Begins to answer."""
        self._knock = knock
        self._thread.start()

    def close(self) -> None:
        self._bell[1].close()
        if self._thread.is_alive():
            self._thread.join()
        with self._guard:
            for name in list(self._held):
                self.release(name)
            self._ended.set()
            for connection in self._carried:
                with contextlib.suppress(OSError):  # it has ended by itself
                    connection.shutdown(socket.SHUT_RDWR)
        self._carriers.shutdown(wait=False, cancel_futures=True)
        self._selector.close()
        self._bell[0].close()

    def hold(self, environment: EnvironmentName, doors: Sequence[Door]) -> dict[str, int]:
        with self._guard:
            before = self._held.get(environment, {})
            kept: dict[str, _Held] = {}
            opened: list[_Held] = []
            try:
                for door in doors:
                    held = before.get(door.key)
                    if held is not None and _same(held, door):
                        kept[door.key] = held
                    else:
                        self._host.at("doors:open")
                        kept[door.key] = self._open(environment, door)
                        opened.append(kept[door.key])
            except WyeError:
                for each in opened:
                    self._shut(each)
                raise
            for key, held in before.items():
                if kept.get(key) is not held:
                    self._shut(held)
            self._held[environment] = kept
            return {key: held.port for key, held in kept.items()}

    def release(self, environment: EnvironmentName) -> None:
        with self._guard:
            for held in self._held.pop(environment, {}).values():
                self._shut(held)

    def rename(self, old: EnvironmentName, new: EnvironmentName) -> None:
        with self._guard:
            if old in self._held:
                self._held[new] = self._held.pop(old)
                for held in self._held[new].values():
                    held.environment = new

    # ------------------------------------------------------------ opening and shutting

    def _open(self, environment: EnvironmentName, door: Door) -> _Held:
        if door.port is not None:
            opened = _bind(door, door.port)
            if opened is None:
                raise PortTaken(
                    f"port {door.host_ip}:{door.port} for {door.key} is taken{self._by_whom(door.port)}",
                    hint="stop what listens there, or publish another port",
                )
            return self._register(_Held(environment, door, door.port, opened))
        for _ in range(self._last - self._first + 1):
            port = self._next
            self._next = port + 1 if port < self._last else self._first
            opened = _bind(door, port)
            if opened is not None:
                return self._register(_Held(environment, door, port, opened))
        raise Exhausted(
            f"every port from {self._first} to {self._last} is taken",
            hint="discard forks, or widen ports in the config",
        )

    def _by_whom(self, port: int) -> str:
        for name, doors in self._held.items():
            if any(held.port == port for held in doors.values()):
                return f" by environment {name!r}"
        return ""

    def _register(self, held: _Held) -> _Held:
        if held.door.protocol == "tcp":
            self._selector.register(held.socket, selectors.EVENT_READ, held)
        return held

    def _shut(self, held: _Held) -> None:
        if held.door.protocol == "tcp":
            self._selector.unregister(held.socket)
        held.socket.close()

    # ------------------------------------------------------------ answering

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                held: _Held | None = key.data
                if held is None:
                    return
                try:
                    connection, _ = held.socket.accept()
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE):
                        time.sleep(_TRY_EVERY_S)  # it stays in the queue: others close theirs meanwhile
                    continue  # gone again, or the door was shut meanwhile
                name = held.environment
                if self._begin(name):
                    self._carriers.submit(self._answer, held, connection).add_done_callback(partial(self._end, name))
                else:
                    connection.close()

    def _begin(self, name: EnvironmentName) -> bool:
        with self._guard:
            if self._under_way[name] >= _OF_ONE:
                return False
            self._under_way[name] += 1
            return True

    def _end(self, name: EnvironmentName, _: Future[None]) -> None:
        with self._guard:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]

    def _answer(self, held: _Held, connection: socket.socket) -> None:
        with connection:
            if self._knock is None:
                return
            try:
                address = self._knock(held.environment, held.door.key)
                inner = self._connect(address)
            except (WyeError, OSError) as error:
                logger.warning("a connection to %s of %s failed: %s", held.door.key, held.environment, error)
                return
            with inner:
                try:
                    with self._guard:
                        if self._ended.is_set():
                            return
                        self._carried |= {connection, inner}
                    _carry(connection, inner)
                finally:
                    with self._guard:
                        self._carried -= {connection, inner}

    def _connect(self, address: tuple[str, int]) -> socket.socket:
        """A service may take a moment from running to listening, and one that is exchanged takes longer: a knock
        waits."""
        deadline = time.monotonic() + _LISTENS_S
        while True:
            try:
                return socket.create_connection(address, _CONNECT_S)
            except ConnectionRefusedError:
                if time.monotonic() > deadline or self._ended.wait(_TRY_EVERY_S):
                    raise


def _same(held: _Held, door: Door) -> bool:
    return held.door.protocol == door.protocol and held.door.host_ip == door.host_ip and door.port in (None, held.port)


def _bind(door: Door, port: int) -> socket.socket | None:
    """A socket at the port; None if the port is taken. Raises WyeError for an address that is not this host's."""
    family = socket.AF_INET6 if ":" in door.host_ip else socket.AF_INET
    kind = socket.SOCK_STREAM if door.protocol == "tcp" else socket.SOCK_DGRAM
    opened = socket.socket(family, kind)
    try:
        if door.protocol == "tcp":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((door.host_ip, port))
        if door.protocol == "tcp":
            opened.setblocking(False)
            opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            return None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PortTaken(f"port {door.host_ip}:{port} may not be opened: {error.strerror}") from error
        raise PortTaken(
            f"cannot listen on {door.host_ip}:{port} for {door.key}: {error.strerror}",
            hint="the address before the port must be one of this host's",
        ) from error
    return opened


def _carry(outer: socket.socket, inner: socket.socket) -> None:
    """Copies both ways until both sides have ended."""
    outer.setblocking(True)
    inner.settimeout(None)

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                target.sendall(data)
        except OSError:
            pass  # the other side is gone: so is this one
        finally:
            try:
                target.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it was closed already

    back = threading.Thread(target=copy, args=(inner, outer), daemon=True)
    back.start()
    copy(outer, inner)
    back.join()
