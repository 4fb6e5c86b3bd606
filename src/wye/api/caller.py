"""How a verb is called: a request out, an answer or an error in, with what is said while it runs.

`Client` has the verbs; all that it knows of HTTP is here.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from wye.api import faults, wire
from wye.api.process import RemoteProcess
from wye.api.transport import Transport
from wye.api.values import made, read, read_all, validated
from wye.errors import BadRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

Progress = Callable[["wire.Progress"], None]
Change = Literal["start", "stop", "restart"]

_A = TypeVar("_A", bound="BaseModel")
_V = TypeVar("_V", bound="wire.View")


class Caller:
    """Belongs to a transport, which it closes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.while_waiting: Callable[[], object] | None = None
        """Called where something is asked for, when the request is on its way and before its answer is read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    @property
    def address(self) -> str:
        return str(self._transport.address)

    def _fetch(self, path: str, **query: Any) -> bytes:
        return self._transport.request("GET", path, query=query)

    def _get(self, kind: Callable[[], type[_A]], path: str, **query: Any) -> _A:
        """`kind` is asked for when the request is on its way: `wire` imports what it has while the daemon works."""
        answer = self._ask(path, query)
        return read(kind(), answer())

    def _list(self, kind: Callable[[], type[_V]], path: str, **query: Any) -> tuple[_V, ...]:
        answer = self._ask(path, query)
        return read_all(kind(), answer())

    def _ask(self, path: str, query: Mapping[str, Any]) -> Callable[[], bytes]:
        answer = self._transport.ask("GET", path, query=query)
        if self.while_waiting is not None:
            self.while_waiting()
        return answer

    def _post(self, kind: type[_A], path: str, request: BaseModel | None = None) -> _A:
        return read(kind, self._transport.request("POST", path, body=_body(request)))

    def _change(
        self, name: str, change: Change, services: Sequence[str], progress: Progress | None
    ) -> wire.EnvironmentView:
        request = made(wire.ServicesRequest, services=services)
        return self._stream(wire.EnvironmentView, "POST", path_of(name, change), request, progress)

    def _stream(
        self, kind: type[_A], method: str, path: str, request: BaseModel | None, progress: Progress | None
    ) -> _A:
        """Tells `progress` what the daemon says until the result comes. Raises BadAnswer if none does."""
        for line in self._transport.lines(method, path, body=_body(request)):
            message = read(wire.Line, line)
            if message.error is not None:
                raise faults.decode(message.error)
            if message.progress is None:
                return validated(kind, message.result)
            if progress is not None:
                progress(message.progress)
        raise faults.BadAnswer(
            "the daemon's answer ended before its result", hint="was it stopped? see 'wye daemon status' and 'wye log'"
        )

    def _process(self, name: str, request: wire.ExecRequest) -> RemoteProcess:
        return RemoteProcess(self._transport.address, self._transport.token, name, request)


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def path_of(name: str, verb: str = "") -> str:
    """Raises BadRequest for what would be another path. The daemon judges all else: its rule is the model's, which
    takes too long to import for one line of it."""
    if "/" in name or name in ("", ".", ".."):
        raise BadRequest(
            f"{name!r} cannot name an environment",
            hint="1 to 63 lower-case letters, digits, '-' or '_', without a slash or a dot",
        )
    return f"/v1/environments/{quoted(name)}" + (f"/{verb}" if verb else "")


def _body(request: BaseModel | None) -> bytes | None:
    return None if request is None else request.model_dump_json().encode()
