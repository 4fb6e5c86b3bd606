"""exec over a WebSocket: a process's descriptors on one side, frames on the other.

Every direction waits for its slower end: output is read from the process only when the client has taken what
came before, input from the client only when the process has taken what came before. Memory is bounded by a few
frames, whatever is piped through. A client that goes away, even while nothing is being read from it, takes its
process with it. The exit code is sent last, after all output.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from wye.api import faults, wire
from wye.api.values import complaint
from wye.daemon.routes.calls import Calls, actor_of, calls_of
from wye.daemon.routes.serving import DESCRIPTOR
from wye.engine import execute
from wye.errors import BadRequest, InvariantError, Unavailable, WyeError
from wye.interfaces import ExecProcess

router = APIRouter(prefix="/v1")

_FIRST_MESSAGE_S = 30.0
_LAST_OUTPUT_S = 0.1
"""How long output is awaited after the end, where something else still holds the process's end of the pipe."""
_LAST_OUTPUT_BYTES = 1 << 20
"""The most that a pipe holds: more than that after the end is something else's."""
_KILLED_S = 10.0


@router.websocket("/environments/{name}/exec")
async def exec_(socket: WebSocket, name: str) -> None:
    await socket.accept()
    calls = calls_of(socket)
    with contextlib.suppress(WebSocketDisconnect):
        try:
            request = await _first_message(socket)
            process = await calls.change(
                lambda: execute.open_exec(calls.engine, name, _engine_request(request), actor=actor_of(socket))
            )
            code = await Pump(socket, process, calls).run(with_stdin=request.stdin)
        except WyeError as error:
            await socket.send_text(faults.encode(error).model_dump_json())
        else:
            await socket.send_text(f'{{"exit": {code}}}')
        await socket.close()


async def _first_message(socket: WebSocket) -> wire.ExecRequest:
    try:
        text = await asyncio.wait_for(socket.receive_text(), _FIRST_MESSAGE_S)
        return wire.ExecRequest.model_validate_json(text)
    except TimeoutError as error:
        raise BadRequest(f"no command came within {_FIRST_MESSAGE_S:g} s") from error
    except KeyError as error:
        raise BadRequest("the first message must be text that says what to run") from error
    except ValidationError as error:
        raise BadRequest(complaint(error)) from error


def _engine_request(request: wire.ExecRequest) -> execute.Request:
    return execute.Request(
        argv=request.argv,
        service=request.service,
        env=request.env,
        working_dir=request.working_dir,
        user=request.user,
        tty=request.tty,
        rows=request.rows,
        columns=request.columns,
    )


class Pump:
    """One process and its socket."""

    def __init__(self, socket: WebSocket, process: ExecProcess, calls: Calls) -> None:
        self._socket = socket
        self._process = process
        self._calls = calls
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._left = _LAST_OUTPUT_BYTES
        self._waiting: set[asyncio.Future[bool]] = set()
        self._stdin_open = True

    async def run(self, *, with_stdin: bool) -> int:
        """Returns the exit code when all output is sent. Raises WebSocketDisconnect if the client has gone."""
        outputs = {self._process.stdout: wire.STDOUT}
        if self._process.stderr is not None:
            outputs[self._process.stderr] = wire.STDERR
        for descriptor in {self._process.stdin, *outputs}:
            os.set_blocking(descriptor, False)
        try:
            ended = self._calls.wait_for(self._process.wait)
        except WyeError:
            await self._calls.change(self._process.close)
            raise
        readers = [asyncio.create_task(self._output(*each)) for each in outputs.items()]
        watchers = [asyncio.create_task(each) for each in (self._input(with_stdin), self._hangup(), self._stops())]
        try:
            await _until(ended, *readers, *watchers)
            self._end_output()
            await _until(asyncio.gather(*readers), *watchers)
            code = ended.result()
        finally:
            for task in (*readers, *watchers):
                task.cancel()
            await asyncio.gather(*readers, *watchers, return_exceptions=True)
            await self._put_away(ended)
        if code is None:
            raise InvariantError("a process has ended without an exit code")
        return code

    async def _put_away(self, ended: asyncio.Future[int | None]) -> None:
        """Kills what still runs before its descriptors go, because somebody waits for it on them."""
        if not ended.done():
            await self._calls.change(lambda: self._process.signal(signal.SIGKILL))
            await asyncio.wait({ended}, timeout=_KILLED_S)
        await self._calls.change(self._process.close)

    # ------------------------------------------------------------ process → client

    async def _output(self, descriptor: int, channel: int) -> None:
        head = bytes([channel])
        while self._left > 0:
            try:
                data = os.read(descriptor, wire.FRAME_BYTES)
            except BlockingIOError:
                if not await self._more(descriptor):
                    return
                continue
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return  # a terminal whose last process has closed it
            if not data:
                return
            if self._over:
                self._left -= len(data)
            await self._socket.send_bytes(head + data)
            # Where both ends are fast nothing above ever waits, and others must have their turn.
            await asyncio.sleep(0)

    async def _more(self, descriptor: int) -> bool:
        """Waits for more output. False if the process has ended and none came soon."""
        ready: asyncio.Future[bool] = self._loop.create_future()
        self._waiting.add(ready)
        if self._over:
            self._loop.call_later(_LAST_OUTPUT_S, _resolve, ready, False)
        self._loop.add_reader(descriptor, _resolve, ready, True)
        try:
            return await ready
        finally:
            self._loop.remove_reader(descriptor)
            self._waiting.discard(ready)

    def _end_output(self) -> None:
        """The process has ended, and what it wrote is in the pipes. Something that it left behind may hold them
        open for ever, so what is not there soon is not waited for."""
        self._over = True
        for waiting in self._waiting:
            self._loop.call_later(_LAST_OUTPUT_S, _resolve, waiting, False)

    # ------------------------------------------------------------ client → process

    async def _input(self, with_stdin: bool) -> None:
        if not with_stdin:
            self._close_stdin()
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            data = message.get("bytes")
            if data is None:
                await self._control(message["text"])
            elif data[:1] != bytes([wire.STDIN]):
                raise BadRequest("a binary frame must begin with the byte 0, for stdin")
            elif len(data) == 1:
                self._close_stdin()
            else:
                await self._feed(memoryview(data)[1:])

    async def _feed(self, data: memoryview) -> None:
        """What the process does not want to read is dropped, as it would be by a closed pipe."""
        while data and self._stdin_open:
            try:
                data = data[os.write(self._process.stdin, data) :]
            except BlockingIOError:
                await self._writable(self._process.stdin)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                self._stdin_open = False

    async def _writable(self, descriptor: int) -> None:
        ready: asyncio.Future[bool] = self._loop.create_future()
        self._loop.add_writer(descriptor, _resolve, ready, True)
        try:
            await ready
        finally:
            self._loop.remove_writer(descriptor)

    async def _control(self, text: str) -> None:
        try:
            control = wire.ExecControl.model_validate_json(text)
        except ValidationError as error:
            raise BadRequest(complaint(error)) from error
        if control.resize is not None:
            rows, columns = control.resize
            await self._calls.read(lambda: self._process.resize(rows, columns))
        if control.signal is not None:
            number = control.signal
            await self._calls.read(lambda: self._process.signal(number))

    def _close_stdin(self) -> None:
        if self._stdin_open:
            self._stdin_open = False
            self._process.close_stdin()

    async def _stops(self) -> None:
        await self._calls.stops.wait()
        raise Unavailable("the daemon stops, and with it the process", hint="services go on; ask again in a moment")

    async def _hangup(self) -> None:
        """Raises WebSocketDisconnect when the client's end of the connection is closed. `_input` alone would not
        notice while it waits for the process to read. An epoll of its own: the event loop's watches for data."""
        extension = (self._socket.scope.get("extensions") or {}).get(DESCRIPTOR)
        if extension is None:
            return
        with select.epoll() as hangup:
            hangup.register(extension["fd"], select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
            gone: asyncio.Future[bool] = self._loop.create_future()
            self._loop.add_reader(hangup.fileno(), _resolve, gone, True)
            try:
                await gone
            finally:
                self._loop.remove_reader(hangup.fileno())
        raise WebSocketDisconnect(1006)


def _resolve(waiting: asyncio.Future[bool], value: bool) -> None:
    if not waiting.done():
        waiting.set_result(value)


async def _until(wanted: asyncio.Future[Any], *others: asyncio.Future[None]) -> None:
    """Waits for `wanted`. Raises what it, or one of the others before it, raises."""
    pending = {wanted, *others}
    while not wanted.done():
        finished, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for each in finished:
            each.result()
