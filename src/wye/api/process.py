"""A process in a container, at the other end of a WebSocket.

One thread is enough for both directions: the protocol does no I/O of its own (`websockets.client.ClientProtocol`),
the socket never blocks, and `pump` waits for whichever direction can move. Nothing is read ahead of the caller,
so a slow reader slows the process down instead of filling memory; who writes looks at `pending_bytes` for the
same reason. A process whose `RemoteProcess` is closed, or whose client dies, is killed by the daemon.
"""

from __future__ import annotations

import json
import select
import socket
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from wye.api import faults, wire
from wye.api.transport import Address, open_socket
from wye.api.values import made
from wye.errors import BadRequest, Unavailable, WyeError

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.http11 import Response

_SOCKET_READ_BYTES = 128 * 1024
PENDING_LIMIT_BYTES = 256 * 1024
"""Who has more than this pending had better not read more input."""
_HANDSHAKE_TIMEOUT_S = 30.0


class Output(NamedTuple):
    """`channel` is `wire.STDOUT` or `wire.STDERR`."""

    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a process left behind. `exit_code` is 128 + n if signal n ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """stdout as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode(errors="replace")


class RemoteProcess:
    """Made by `Client.exec_stream`. Iterate for its output; use as a context manager, so that it is killed if the
    block is left early. Belongs to one thread."""

    def __init__(self, address: Address, token: str | None, environment: str, request: wire.ExecRequest) -> None:
        # Only exec needs this package, and it takes as long to import as a whole quick command.
        from websockets.client import ClientProtocol  # noqa: PLC0415
        from websockets.uri import parse_uri  # noqa: PLC0415

        host = "wye" if address.path is not None else f"{address.host}:{address.port}"
        path = f"/v1/environments/{urllib.parse.quote(environment, safe='')}/exec"
        self.exit_code: int | None = None
        self._poll = select.poll()
        self._outgoing = bytearray()
        self._incoming: list[Output] = []
        self._failure: WyeError | None = None
        self._protocol: ClientProtocol = ClientProtocol(parse_uri(f"ws://{host}{path}"), max_size=1 << 20)
        self._socket: socket.socket = open_socket(address)
        try:
            self._shake_hands(token)
            self._protocol.send_text(request.model_dump_json().encode())
            self._socket.setblocking(False)
            self.flush()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Output]:
        """Its output until its end; then `exit_code` is set. Raises what the daemon says went wrong."""
        while self.exit_code is None:
            yield from self.pump()

    # ------------------------------------------------------------ to the process

    @property
    def pending_bytes(self) -> int:
        """Given to `write` and not yet taken by the socket."""
        return len(self._outgoing)

    def write(self, data: bytes) -> None:
        """Queues `data` for its stdin and sends what the socket takes now."""
        view = memoryview(data)
        for start in range(0, len(view), wire.FRAME_BYTES):
            self._send_stdin(b"\0" + view[start : start + wire.FRAME_BYTES])
        self.flush()

    def close_stdin(self) -> None:
        self._send_stdin(b"\0")
        self.flush()

    def resize(self, rows: int, columns: int) -> None:
        self._control({"resize": (rows, columns)})

    def signal(self, number: int) -> None:
        self._control({"signal": number})

    def close(self) -> None:
        """Ends the connection; a process that still runs is killed."""
        if self._socket.fileno() >= 0:
            if self._is_open:
                self._protocol.send_close(1000)
                self.flush()
            self._socket.close()

    # ------------------------------------------------------------ both directions

    def fileno(self) -> int:
        """For select and poll: readable when `pump(0)` has something to do."""
        return self._socket.fileno()

    def flush(self) -> None:
        """Sends what the socket takes, without waiting."""
        for part in self._protocol.data_to_send():
            self._outgoing += part
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing[:_SOCKET_READ_BYTES])
            except BlockingIOError:
                return
            except OSError:
                # Whatever the other side said before it went away is still to be read, and says why.
                self._outgoing.clear()
                return
            del self._outgoing[:sent]

    def pump(self, timeout_s: float | None = None) -> list[Output]:
        """Waits until output or the end comes, the socket has taken queued input, or `timeout_s` is over.

        Returns the output that came, perhaps none. Raises what the daemon says went wrong."""
        if not self._incoming and self.exit_code is None:
            if self._failure is not None:
                raise self._failure
            self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
            for _, event in self._poll.poll(None if timeout_s is None else timeout_s * 1000):
                if event & select.POLLOUT:
                    self.flush()
                if event & ~select.POLLOUT:
                    self._receive()
        found, self._incoming = self._incoming, []
        return found

    def communicate(self, stdin: bytes | None = None, *, timeout_s: float | None = None) -> ExecResult:
        """Writes `stdin` and closes it, and gathers all output. Raises Unavailable when the time has run out."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        streams = {wire.STDOUT: bytearray(), wire.STDERR: bytearray()}
        rest = None if stdin is None else memoryview(stdin)
        while self.exit_code is None:
            while rest is not None and self.pending_bytes < PENDING_LIMIT_BYTES:
                if rest:
                    self.write(rest[: wire.FRAME_BYTES].tobytes())
                    rest = rest[wire.FRAME_BYTES :]
                else:
                    self.close_stdin()
                    rest = None
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise Unavailable(f"the process did not end within {timeout_s:g} s, and was killed")
            for output in self.pump(left):
                streams[output.channel] += output.data
        return ExecResult(self.exit_code, bytes(streams[wire.STDOUT]), bytes(streams[wire.STDERR]))

    # ------------------------------------------------------------ the protocol

    @property
    def _is_open(self) -> bool:
        """Once the daemon has said goodbye nothing can be sent, and there is nobody to send it to."""
        return self._protocol.state.name == "OPEN"

    def _send_stdin(self, frame: bytes) -> None:
        if self._is_open:
            self._protocol.send_binary(frame)

    def _control(self, message: dict[str, int | Sequence[int]]) -> None:
        if self._is_open:
            self._protocol.send_text(json.dumps(message).encode())
            self.flush()

    def _shake_hands(self, token: str | None) -> None:
        request = self._protocol.connect()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        self._socket.settimeout(_HANDSHAKE_TIMEOUT_S)
        try:
            self._socket.sendall(b"".join(self._protocol.data_to_send()))
            while not (events := self._protocol.events_received()):
                if self._protocol.handshake_exc is not None:
                    raise Unavailable(f"no handshake with the daemon: {self._protocol.handshake_exc}")
                self._feed(self._socket.recv(_SOCKET_READ_BYTES))
        except OSError as error:
            raise Unavailable(f"the connection to the daemon was lost: {error}") from error
        if self._protocol.handshake_exc is not None:
            answer: Response = events[0]  # type: ignore[assignment]
            raise faults.from_answer(answer.status_code, bytes(answer.body or b""))
        self._take(events[1:])

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_SOCKET_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._feed(data)
        self._take(self._protocol.events_received())
        self.flush()
        if not data and self.exit_code is None and self._failure is None:
            self._failure = Unavailable(
                "the connection to the daemon was lost, and with it the process", hint="see 'wye daemon status'"
            )

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()

    def _take(self, events: Sequence[object]) -> None:
        for event in events:
            opcode, data = getattr(event, "opcode", None), getattr(event, "data", b"")
            if opcode == 2 and len(data) > 0:
                self._incoming.append(Output(data[0], bytes(memoryview(data)[1:])))
            elif opcode == 1:
                self._take_text(bytes(data))

    def _take_text(self, data: bytes) -> None:
        try:
            message = json.loads(data)
            if "exit" in message:
                self.exit_code = int(message["exit"])
            elif "error" in message:
                self._failure = faults.decode(wire.Error.model_validate(message["error"]))
        except (ValueError, TypeError) as error:
            raise faults.BadAnswer(f"the daemon sent a message that makes no sense: {data[:200]!r}") from error


def exec_request(argv: Sequence[str], **options: object) -> wire.ExecRequest:
    """Raises BadRequest."""
    if isinstance(argv, str):
        raise BadRequest("argv is one string", hint='give a list: ["psql", "-c", "select 1"], or ["sh", "-c", "..."]')
    return made(wire.ExecRequest, argv=tuple(argv), **options)
