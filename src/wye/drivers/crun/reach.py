"""Ways into a running container from the host: its Unix sockets and its loopback.

Both begin at the container's first process and never leave its root or namespace, so a container cannot lead the host
to a socket that is not its own. What answers at the other end is hostile all the same.
"""

from __future__ import annotations

import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wye.errors import NotFound, Unavailable
from wye.host import Host
from wye.interfaces import Container

_CLONE_NEWNET = 0x40000000
_CONNECT_S = 5.0
_LISTENS, _CONNECTED = "0A", ("01", "03")
"""States of sockets in /proc/net/tcp: listening; established, and about to be."""


def open_socket(host: Host, container: Container | None, path: str) -> int:
    """An O_PATH descriptor of the Unix socket at `path` as the container sees it. Raises NotFound."""
    pid = _pid(container)
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = host.open_inside(root, path, os.O_PATH)
        finally:
            os.close(root)
    except OSError as error:
        raise NotFound(f"there is no socket {path} in the container: {error.strerror}") from error
    if not stat.S_ISSOCK(os.fstat(found).st_mode):
        os.close(found)
        raise NotFound(f"{path} in the container is no socket")
    return found


def dial(host: Host, container: Container | None, port: int) -> socket.socket:
    """A connection to `port` on the container's loopback. Raises Unavailable."""
    pid = _pid(container)

    def connect() -> socket.socket:
        # A thread of its own: a socket belongs to the namespace that its thread is in, and the thread stays there.
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            host.set_namespace("runtime:dial", namespace, _CLONE_NEWNET)
        finally:
            os.close(namespace)
        return socket.create_connection(("127.0.0.1", port), _CONNECT_S)

    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(connect).result()
        except OSError as error:
            raise Unavailable(f"nothing answers at port {port} of the container: {error.strerror or error}") from error


def port_use(container: Container | None, port: int) -> tuple[bool, int]:
    """Whether something listens at `port` in the container's network, and how many connections to it are open; without
    asking the service."""
    if container is None or container.pid is None:
        return False, 0
    states: list[str] = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{container.pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue  # it has just ended, or the kernel has no IPv6
        sockets = (line.split() for line in lines)
        states += [words[3] for words in sockets if int(words[1].rpartition(":")[2], 16) == port]
    return _LISTENS in states, sum(state in _CONNECTED for state in states)


def _pid(container: Container | None) -> int:
    if container is None or container.pid is None:
        raise NotFound("the container does not run")
    return container.pid
