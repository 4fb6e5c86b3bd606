"""A small world for packets: a host in a namespace of its own, another machine beside it, and sockets in any place.

A socket belongs to the namespace in which it was opened, so one thread can hold both ends of a conversation. The real
host's namespace is never touched, and nothing can leave this world.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from wye.drivers.network import LinuxNetwork, namespaces
from wye.host import Host
from wye.interfaces import NetworkShape, Publication
from wye.model import EnvironmentId

HOST, OUTSIDE, METADATA = "203.0.113.1", "203.0.113.2", "169.254.169.254"
UPLINKS = "198.18.0.0/22"

SHAPE = NetworkShape(
    subnet="10.83.0.0/24",
    gateway="10.83.0.1",
    endpoints=(("db", "10.83.0.2"), ("web", "10.83.0.3")),
    ports=(("db/5432/tcp", "10.83.0.2", 5432, "tcp"), ("web/53/udp", "10.83.0.3", 53, "udp")),
)
DB, WEB = "10.83.0.2", "10.83.0.3"

REACHED, REFUSED, SILENT = "reached", "refused", "silent"


def on(port: int, *, host_ip: str = "0.0.0.0", key: str = "db/5432/tcp") -> Publication:
    return Publication(key=key, host_ip=host_ip, host_port=port, protocol=key.rpartition("/")[2])


class Machine:
    """Use as a context manager: inside it, this thread and those it starts are on the host that is not the real one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = Host()
        self.outside = directory / "ext0"
        self._stack = ExitStack()

    def __enter__(self) -> Machine:
        self.directory.mkdir(exist_ok=True)
        before = namespaces.current()
        self._stack.callback(os.close, before)
        self.host.unshare("test:machine", namespaces.CLONE_NEWNET)
        self._stack.callback(self.host.set_namespace, "test:machine", before, namespaces.CLONE_NEWNET)
        self.sh("ip link set lo up")
        self.outside = self.neighbour("ext0", "203.0.113")
        self.sh(f"ip address add {METADATA}/32 dev lo", inside=self.outside)
        self.sh(f"ip route add default via {OUTSIDE}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def network(self) -> LinuxNetwork:
        """A new driver object on the same state, opened: what a daemon that has just started has."""
        network = LinuxNetwork(self.host, directory=self.directory / "network", uplinks=UPLINKS)
        network.open()
        return network

    def neighbour(self, name: str, network: str) -> Path:
        """Another machine, at `network`.2 on a link `name` of the host, which is its router."""
        path = self.directory / name
        namespaces.aside(lambda: namespaces.make(self.host, path))
        self._stack.callback(namespaces.forget, self.host, path)
        self.sh(f"ip link add {name} type veth peer name {name} netns /proc/self/fd/9", namespace=path)
        self.sh(f"ip address add {network}.1/24 dev {name}; ip link set {name} up")
        self.sh(
            f"ip address add {network}.2/24 dev {name}; ip link set {name} up; ip link set lo up;"
            f"ip route add default via {network}.1",
            inside=path,
        )
        return path

    def sh(self, script: str, *, inside: Path | None = None, namespace: Path | None = None) -> str:
        """Runs a script on the host, or inside a namespace; `namespace` is open as descriptor 9."""
        argv = ["sh", "-ec", script if namespace is None else f"exec 9<{namespace}; {script}"]
        if inside is not None:
            argv = ["nsenter", f"--net={inside}", *argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # ------------------------------------------------------------ sockets

    def place(self, environment: str, replica: str, network: LinuxNetwork) -> Path:
        return Path(network.attach(EnvironmentId(environment), SHAPE, egress={}).namespaces[replica])

    def socket(
        self, where: Path | None, kind: int = socket.SOCK_STREAM, *, family: int = socket.AF_INET, proto: int = 0
    ) -> socket.socket:
        def opened() -> socket.socket:
            if where is not None:
                namespaces.enter(self.host, where)
            return socket.socket(family, kind, proto)

        made = namespaces.aside(opened)
        made.settimeout(5)
        self._stack.callback(made.close)
        return made

    def listen(self, where: Path | None, port: int, address: str = "0.0.0.0") -> socket.socket:
        listener = self.socket(where)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        return listener

    def bind(self, where: Path | None, port: int, address: str = "0.0.0.0") -> socket.socket:
        bound = self.socket(where, socket.SOCK_DGRAM)
        bound.bind((address, port))
        return bound

    def connect(self, where: Path | None, address: str, port: int, *, timeout_s: float = 5) -> socket.socket:
        """Raises OSError."""
        client = self.socket(where)
        client.settimeout(timeout_s)
        client.connect((address, port))
        client.settimeout(5)
        return client

    def tries(self, where: Path | None, address: str, port: int, *, timeout_s: float = 0.3) -> str:
        """What comes of a TCP connection. Nothing that is dropped can be told from what is slow, so every test that
        expects silence has one beside it that shows the same way open."""
        try:
            self.connect(where, address, port, timeout_s=timeout_s).close()
        except TimeoutError:
            return SILENT
        except OSError:
            return REFUSED
        return REACHED

    def reaches(self, where: Path | None, address: str, port: int) -> bool:
        """`tries`, where it ought to work: with patience."""
        return self.tries(where, address, port, timeout_s=10) == REACHED

    def is_answered(self, where: Path | None, address: str, port: int, server: socket.socket) -> bool:
        """`asks`, where it ought to work: with patience."""
        return self.asks(where, address, port, server, timeout_s=10) == REACHED

    def asks(
        self, where: Path | None, address: str, port: int, server: socket.socket, *, timeout_s: float = 0.3
    ) -> str:
        """What comes of a datagram and the answer to it."""
        client = self.socket(where, socket.SOCK_DGRAM)
        client.settimeout(timeout_s)
        try:
            client.sendto(b"ping", (address, port))
        except OSError:
            return REFUSED
        if not select.select([server], [], [], timeout_s)[0]:
            return SILENT
        data, peer = server.recvfrom(100)
        server.sendto(data, peer)
        try:
            return REACHED if client.recv(100) == b"ping" else REFUSED
        except TimeoutError:
            return SILENT


def talk(client: socket.socket, server: socket.socket) -> None:
    """Both directions carry bytes."""
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"hello")
        assert receiver.recv(5) == b"hello"
