"""Doors with real sockets on loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from wye.daemon.doors import HostDoors, PortTaken
from wye.errors import Exhausted, Unavailable
from wye.host import Host
from wye.interfaces import Door
from wye.model import EnvironmentName

A, B = EnvironmentName("a"), EnvironmentName("b")
FIRST, LAST = 27800, 27899
SOON_S = 20.0


@pytest.fixture
def doors() -> Iterator[HostDoors]:
    doors = HostDoors(Host(), first=FIRST, last=LAST)
    yield doors
    doors.close()


@contextlib.contextmanager
def listening(port: int = 0, *, listen: bool = True) -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.settimeout(SOON_S)
        server.bind(("127.0.0.1", port))
        if listen:
            server.listen()
        yield server


def door(key: str = "web/80/tcp", port: int | None = None, host_ip: str = "127.0.0.1") -> Door:
    return Door(key=key, host_ip=host_ip, port=port, protocol=key.rpartition("/")[2])


def is_free(port: int, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether nobody holds it; connections that have just ended do not count."""
    with socket.socket(type=kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


# ---------------------------------------------------------------- holding


def test_doors_are_held_kept_and_released(doors: HostDoors) -> None:
    held = doors.hold(A, [door(), door("db/5432/tcp"), door("dns/53/udp")])
    assert all(FIRST <= port <= LAST for port in held.values())
    assert len(set(held.values())) == 3
    assert not is_free(held["web/80/tcp"])
    assert not is_free(held["dns/53/udp"], socket.SOCK_DGRAM)
    again = doors.hold(A, [door(port=held["web/80/tcp"]), door("dns/53/udp"), door("new/1/tcp")])
    assert {key: again[key] for key in ("web/80/tcp", "dns/53/udp")} == {
        key: held[key] for key in ("web/80/tcp", "dns/53/udp")
    }
    assert is_free(held["db/5432/tcp"])
    doors.release(A)
    doors.release(A)
    assert all(is_free(port) for port in again.values())


def test_a_port_that_is_taken(doors: HostDoors) -> None:
    held = doors.hold(A, [door()])
    with listening() as other:
        taken = other.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            doors.hold(A, [door("new/1/tcp"), door("db/5432/tcp", taken)])
        assert str(taken) in caught.value.message
        assert caught.value.hint
        free = [port for port in range(FIRST, LAST) if is_free(port)]
        assert len(free) >= LAST - FIRST - 2, "nothing stays open of what failed"
        assert doors.hold(A, [door()]) == held
    with pytest.raises(PortTaken, match="environment 'a'"):
        doors.hold(B, [door(port=held["web/80/tcp"])])
    with pytest.raises(PortTaken, match="cannot listen") as caught:
        doors.hold(B, [door(host_ip="203.0.113.77")])
    assert "address" in (caught.value.hint or "")


def test_a_range_comes_to_an_end() -> None:
    doors = HostDoors(Host(), first=LAST + 1, last=LAST + 2)
    try:
        doors.hold(A, [door("a/1/tcp"), door("a/2/tcp")])
        with pytest.raises(Exhausted):
            doors.hold(B, [door()])
        doors.release(A)
        assert len(doors.hold(B, [door()])) == 1
    finally:
        doors.close()


# ---------------------------------------------------------------- knocking


def test_a_knock_wakes_and_is_carried_both_ways(doors: HostDoors) -> None:
    knocks = []
    sent, answered = os.urandom(3_000_000), os.urandom(3_000_000)
    got = []

    with listening() as service:

        def serve() -> None:
            connection, _ = service.accept()
            with connection:
                sender = threading.Thread(target=connection.sendall, args=(answered,))
                sender.start()
                # To the client's half close; only then is ours made.
                got.append(read_all(connection))
                sender.join()

        def knock(name: EnvironmentName, key: str) -> tuple[str, int]:
            knocks.append((name, key))
            return service.getsockname()[:2]

        serving = threading.Thread(target=serve)
        serving.start()
        port = doors.hold(A, [door()])["web/80/tcp"]
        doors.serve(knock)
        with socket.create_connection(("127.0.0.1", port), SOON_S) as client:
            received = []
            reader = threading.Thread(target=lambda: received.append(read_all(client)))
            reader.start()
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            reader.join(SOON_S)
        serving.join(SOON_S)
    assert knocks == [(A, "web/80/tcp")]
    assert received == [answered]
    assert got == [sent]


def test_the_service_closes_first(doors: HostDoors) -> None:
    with listening() as service:
        port = doors.hold(A, [door()])["web/80/tcp"]
        doors.serve(lambda _, __: service.getsockname()[:2])
        with socket.create_connection(("127.0.0.1", port), SOON_S) as client:
            connection, _ = service.accept()
            connection.sendall(b"bye")
            connection.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"bye"
            client.sendall(b"last words")
            client.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"last words"
            connection.close()


def test_who_cannot_be_woken_hangs_up_and_the_door_stays(doors: HostDoors) -> None:
    knocks: list[str] = []

    def knock(name: EnvironmentName, _: str) -> tuple[str, int]:
        knocks.append(name)
        raise Unavailable("the pool is full")

    port = doors.hold(A, [door()])["web/80/tcp"]
    doors.serve(knock)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), SOON_S) as client:
            assert read_all(client) == b""
    doors.rename(A, B)
    with socket.create_connection(("127.0.0.1", port), SOON_S) as client:
        assert read_all(client) == b""
    assert knocks == ["a", "a", "b"]
    assert doors.hold(B, [door()]) == {"web/80/tcp": port}
    doors.release(A)
    assert not is_free(port)


def test_a_service_that_listens_a_moment_later(doors: HostDoors) -> None:
    with listening(listen=False) as service:

        def knock(_: EnvironmentName, __: str) -> tuple[str, int]:
            threading.Timer(0.05, service.listen).start()
            return service.getsockname()[:2]

        port = doors.hold(A, [door()])["web/80/tcp"]
        doors.serve(knock)
        with socket.create_connection(("127.0.0.1", port), SOON_S) as client:
            client.sendall(b"hello")
            # It cannot be accepted before it listens.
            while True:
                try:
                    connection, _ = service.accept()
                    break
                except OSError:
                    continue
            with connection:
                assert connection.recv(100) == b"hello"


def test_many_at_once(doors: HostDoors) -> None:
    with listening() as service:
        service.listen(128)

        def serve() -> None:
            for _ in range(40):
                connection, _ = service.accept()
                with connection:
                    connection.sendall(connection.recv(100))

        serving = threading.Thread(target=serve)
        serving.start()
        port = doors.hold(A, [door()])["web/80/tcp"]
        doors.serve(lambda _, __: service.getsockname()[:2])
        with contextlib.ExitStack() as stack:
            connect = socket.create_connection
            clients = [stack.enter_context(connect(("127.0.0.1", port), SOON_S)) for _ in range(40)]
            for n, client in enumerate(clients):
                client.sendall(b"%d" % n)
            assert [read_all(client) for client in clients] == [b"%d" % n for n in range(40)]
        serving.join(SOON_S)


def test_what_is_carried_and_what_waits_ends_with_the_doors() -> None:
    doors = HostDoors(Host(), first=FIRST, last=LAST)
    with listening() as service, listening(listen=False) as silent:
        ports = doors.hold(A, [door("web/80/tcp"), door("web/81/tcp")])
        waits = threading.Event()

        def knock(_: EnvironmentName, key: str) -> tuple[str, int]:
            if key == "web/80/tcp":
                return service.getsockname()[:2]
            waits.set()
            return silent.getsockname()[:2]

        doors.serve(knock)
        carried, waiting = (socket.create_connection(("127.0.0.1", port), SOON_S) for port in ports.values())
        with carried, waiting, service.accept()[0] as inner:
            carried.sendall(b"hello")
            assert inner.recv(100) == b"hello"
            assert waits.wait(SOON_S)
            doors.close()
            assert read_all(carried) == read_all(waiting) == b""


def test_one_environment_cannot_use_up_what_all_share(doors: HostDoors) -> None:
    woken = threading.Event()

    def knock(name: EnvironmentName, _: str) -> tuple[str, int]:
        if name == A:
            woken.wait(SOON_S)
        raise Unavailable("it does not wake")

    ports = [doors.hold(name, [door()])["web/80/tcp"] for name in (A, B)]
    doors.serve(knock)
    with contextlib.ExitStack() as stack:

        def connect(port: int) -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), SOON_S))

        waiting = [connect(ports[0]) for _ in range(128)]
        assert read_all(connect(ports[0])) == b""  # one too many
        assert read_all(connect(ports[1])) == b""  # answered: nothing of A's is in its way
        woken.set()
        assert [read_all(each) for each in waiting] == [b""] * 128
        assert read_all(connect(ports[0])) == b""
