"""How this room talks to a server: one command or many, with raw replies.

`Connection` is all that the rest needs, so the engine may give a socket inside a fork's network namespace. A reply is
as RESP2 has it: bytes, int, None or lists of these; an error of the server raises `ServerRefused`, and what breaks on
the way raises `ConnectionLost`, after which nobody can say whether the last command was carried out.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from wye.errors import InvariantError, Unavailable, Unsupported
from wye.host import Host
from wye.kinds.patience import Listener, Patience

Argument = bytes | str | int
Reply = Any

_IN_FLIGHT = 1000
_OLDEST = (7, 0)


class ServerRefused(Unavailable):
    """The server answered with an error."""

    code = "redis_refused"
    retryable = False


class ConnectionLost(Unavailable):
    """No answer came; whether the command was carried out is not known."""

    code = "redis_connection_lost"


class Connection(Protocol):
    """One client of one server. Not for two threads at a time."""

    def execute(self, *arguments: Argument) -> Reply: ...

    def execute_all(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """In order, many in flight at once. Raises at the first error; the later ones have been carried out too."""
        ...


class _Watched(socket.socket):
    """A socket whose other end may be anybody's program."""

    listener: Listener

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        self.listener.heard()
        return data


class _Dialled(redis.Connection):
    """A connection of redis-py over a socket that somebody else connects, once."""

    def __init__(self, dial: Callable[[], socket.socket], listener: Listener, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._dial: Callable[[], socket.socket] | None = dial
        self._listener = listener

    def _connect(self) -> socket.socket:
        dial, self._dial = self._dial, None
        if dial is None:
            raise OSError(errno.ENOTCONN, "the connection was lost before")
        made = _Watched(fileno=dial().detach())
        made.listener = self._listener
        made.settimeout(self.socket_timeout)
        return made


class Client:
    """A `Connection` over redis-py. `dial` gives a connected socket; it is called once, at the first command, and never
    again: a command whose answer was lost is not repeated. `timeout_s` is for silence. Raises TooMuch for a server that
    answers without end."""

    patience = Patience()

    def __init__(
        self,
        host: Host,
        dial: Callable[[], socket.socket],
        *,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._host = host
        self._listener = Listener("redis", self.patience)
        self._pool = redis.ConnectionPool(
            connection_class=_Dialled, max_connections=1, dial=dial, listener=self._listener, username=username,
            password=password, protocol=2, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self._client: Any = redis.Redis(connection_pool=self._pool)
        self._client.response_callbacks.clear()

    @classmethod
    def at(cls, host: Host, path: str, *, username: str | None = None, password: str | None = None) -> Client:
        """Of the Unix socket at `path`."""

        def dial() -> socket.socket:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.connect(path)
            except OSError:
                made.close()
                raise
            return made

        return cls(host, dial, username=username, password=password)

    def close(self) -> None:
        self._pool.disconnect()

    def execute(self, *arguments: Argument) -> Reply:
        (reply,) = self.execute_all([arguments])
        return reply

    def execute_all(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        self._host.at("redis:execute")
        replies: list[Reply] = []
        self._listener.ask()
        try:
            for start in range(0, len(commands), _IN_FLIGHT):
                pipeline = self._client.pipeline(transaction=False)
                for command in commands[start : start + _IN_FLIGHT]:
                    pipeline.execute_command(*command)
                replies += pipeline.execute(raise_on_error=False)
        except redis.AuthenticationError as error:
            raise ServerRefused(f"redis refused: {error}", hint="give the service's password") from error
        except (redis.RedisError, OSError) as error:
            raise ConnectionLost(f"no answer from redis: {error}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise ConnectionLost(f"redis speaks another language: {error!r}") from error
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise ServerRefused(f"redis refused: {reply}") from reply
            if isinstance(reply, redis.RedisError):
                raise ConnectionLost(f"no answer from redis: {reply}") from reply
        return replies


def require_supported(connection: Connection, *, writable: bool = False) -> None:
    """Raises Unsupported for a server that this room cannot merge: a cluster, a sentinel, a version before 7, and with
    `writable` a replica."""
    about = info(connection, "server")
    mode = about.get("redis_mode") or about.get("server_mode") or "standalone"
    if mode != "standalone":
        raise Unsupported(f"redis in {mode} mode is not merged", hint="merge it with its own tools, or leave it out")
    version = about.get("valkey_version") or about.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise Unsupported(f"redis {version} is not merged: version 7 is the oldest that is")
    if writable and info(connection, "replication").get("role") != "master":
        raise Unsupported("this redis is a replica: what is written to it would be lost", hint="merge into its master")


def info(connection: Connection, section: str) -> dict[str, str]:
    """INFO as a mapping."""
    reply = connection.execute("INFO", section)
    if not isinstance(reply, bytes):
        raise InvariantError("INFO answered with something that is no text")
    lines = reply.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
