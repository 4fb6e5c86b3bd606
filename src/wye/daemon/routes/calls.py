"""Verbs in worker threads, and their answers.

Three sets of threads, so that what may take minutes never holds up what takes a millisecond: `reads` take no
lock, `changes` may wait for an environment's turn, `followers` last as long as somebody listens. An exception
that is no WyeError is a bug in wye: it is logged once, with its traceback, and answered with the number to look
for in the log. That is the one place where every exception is caught.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, TypeAdapter
from starlette.requests import HTTPConnection

from wye.api import faults, wire
from wye.daemon.routes.pipe import Pipe
from wye.engine.context import Engine
from wye.errors import Exhausted, WyeError
from wye.interfaces import Progress, Report

log = logging.getLogger("wye.daemon")

T = TypeVar("T")

_READS, _CHANGES, _FOLLOWERS = 16, 128, 256


class Lines(StreamingResponse):
    """JSON, one document a line."""

    media_type = "application/x-ndjson"


class Mishap(WyeError):
    """A bug in wye, met while carrying out a request."""

    code = "internal"


class Calls:
    """One per application. `stopping` is for threads and `stops` for the loop: set when the daemon is about to stop,
    so that what would never end by itself ends."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.stopping = threading.Event()
        self.stops = asyncio.Event()
        self._reads = ThreadPoolExecutor(_READS, "read")
        self._changes = ThreadPoolExecutor(_CHANGES, "change")
        self._followers = ThreadPoolExecutor(_FOLLOWERS, "follow")
        self._followed = threading.BoundedSemaphore(_FOLLOWERS)

    def stop(self) -> None:
        """Ends what follows. To be called in the loop."""
        self.stopping.set()
        self.stops.set()

    def close(self) -> None:
        """Takes no more calls. Verbs that have begun are finished."""
        self.stopping.set()
        for pool in (self._reads, self._changes, self._followers):
            pool.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ plain answers

    async def read(self, verb: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reads, guarded, verb)

    async def change(self, verb: Callable[[], T]) -> T:
        """Goes on to its end even if nobody waits for it any more."""
        return await asyncio.get_running_loop().run_in_executor(self._changes, guarded, verb)

    # ------------------------------------------------------------ streams

    async def stream(self, verb: Callable[[Report], object], kind: type[BaseModel]) -> Response:
        """Progress as it comes, then the result or the error. A verb that fails before it has said anything is
        answered with a plain error. A client that goes away does not stop the verb."""
        pipe = Pipe()

        def report(progress: Progress) -> None:
            pipe.offer(line("progress", wire.Progress.model_validate(progress)))

        def work() -> None:
            try:
                result = guarded(lambda: verb(report))
            except WyeError as error:
                pipe.end(error=error)
            else:
                pipe.end(line("result", kind.model_validate(result)))

        self._changes.submit(work)
        first = await pipe.take()
        if pipe.error is not None and not first:
            raise pipe.error
        return Lines(_drain(pipe, first))

    async def follow(self, lines: Callable[[Callable[[], bool]], Iterator[bytes]]) -> Response:
        """What the iterator gives that `lines(wanted)` returns; it is to end when `wanted()` is false.

        What `lines` raises is answered with a plain error."""
        self._begin_following()
        pipe = Pipe()

        def wanted() -> bool:
            return not (pipe.abandoned or self.stopping.is_set())

        def work(found: Iterator[bytes]) -> None:
            error = None
            try:
                guarded(lambda: all(pipe.put(each) and not self.stopping.is_set() for each in found))
            except WyeError as raised:
                error = raised
            self._followed.release()
            pipe.end(error=error)

        try:
            opened = await self.read(lambda: lines(wanted))
        except BaseException:
            self._followed.release()
            raise
        self._followers.submit(work, opened)
        return Lines(_drain(pipe, b""))

    def wait_for(self, verb: Callable[[], T]) -> asyncio.Future[T]:
        """For what lasts as long as a process does. Raises Exhausted."""
        self._begin_following()
        future = asyncio.get_running_loop().run_in_executor(self._followers, guarded, verb)
        future.add_done_callback(lambda _: self._followed.release())
        return future

    def _begin_following(self) -> None:
        if not self._followed.acquire(blocking=False):
            raise Exhausted(f"{_FOLLOWERS} logs, events and processes are followed already", hint="end some of them")


async def _drain(pipe: Pipe, first: bytes) -> AsyncIterator[bytes]:
    try:
        if first:
            yield first
        while data := await pipe.take():
            yield data
        if pipe.error is not None:
            yield faults.encode(pipe.error).model_dump_json().encode() + b"\n"
    finally:
        pipe.abandon()


def guarded(verb: Callable[[], T]) -> T:
    """Calls `verb`; a bug in it is logged and becomes a Mishap."""
    try:
        return verb()
    except WyeError:
        raise
    except Exception as error:  # the boundary of a task: a bug is told with its number
        raise mishap(error) from error


def mishap(error: BaseException) -> Mishap:
    """Logs `error` with its traceback."""
    number = secrets.token_hex(4)
    log.error("mishap %s: %s: %s", number, type(error).__name__, error, exc_info=error)
    return Mishap(
        f"wye made a mistake ({type(error).__name__}): mishap {number}",
        hint=f"please report it with what the daemon's log says of mishap {number}",
    )


def line(key: str, value: BaseModel) -> bytes:
    """One line of a stream: {"progress": {...}} or {"result": {...}}."""
    return f'{{"{key}":{value.model_dump_json()}}}\n'.encode()


def answer(kind: type[BaseModel], value: object) -> Response:
    """`value`, a view of the engine, as the wire value `kind`."""
    return Response(kind.model_validate(value).model_dump_json(), media_type="application/json")


def answers(kind: TypeAdapter[Any], value: object) -> Response:
    return Response(kind.dump_json(kind.validate_python(value, from_attributes=True)), media_type="application/json")


def calls_of(connection: HTTPConnection) -> Calls:
    calls: Calls = connection.app.state.calls
    return calls


def actor_of(connection: HTTPConnection) -> str:
    """Who asks: "unix:0 (root)" or "token:name", as `guard` has found."""
    actor: str = connection.scope["wye.actor"]
    return actor


def here(request: Request) -> tuple[Calls, Engine, str]:
    """What every route needs: the calls, the engine, the actor."""
    calls = calls_of(request)
    return calls, calls.engine, actor_of(request)
