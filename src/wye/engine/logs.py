"""logs: what services wrote, in the order of time where several are asked for."""

from __future__ import annotations

import heapq
import queue
import threading
from collections.abc import Callable, Iterator

from wye.engine import plan, records
from wye.engine.context import Engine, environment_name
from wye.errors import NotFound
from wye.interfaces import LogLine
from wye.model import SHELL, EnvironmentId

_POLL_S = 0.2


def logs(
    engine: Engine,
    name: str,
    services: tuple[str, ...] = (),
    *,
    since_at: float | None = None,
    tail: int | None = None,
    follow: Callable[[], bool] | None = None,
) -> Iterator[tuple[str, LogLine]]:
    """(replica, line). `tail`: the last lines of each. While `follow()` is true, waits for more."""
    environment = records.require(engine, environment_name(name)).environment
    spec = records.spec_of(engine, environment)
    known = (*plan.replicas(spec), str(SHELL))
    replicas = [
        replica
        for replica in known
        if (not services and replica != SHELL) or replica in services or plan.service_of(spec, replica) in services
    ]
    unknown = [each for each in services if each not in known and each not in spec.services]
    if unknown:
        raise NotFound(
            f"environment {name!r} has no service {unknown[0]!r}", hint=f"there are: {', '.join(sorted(spec.services))}"
        )
    if follow is not None:
        return _followed(engine, environment.id, replicas, since_at, tail, follow)

    def of(replica: str) -> Iterator[tuple[str, LogLine]]:
        for line in engine.runtime.logs(environment.id, replica, since_at=since_at, tail=tail):
            yield replica, line

    return heapq.merge(*(of(replica) for replica in replicas), key=lambda pair: pair[1].at)


def _followed(
    engine: Engine,
    environment: EnvironmentId,
    replicas: list[str],
    since_at: float | None,
    tail: int | None,
    follow: Callable[[], bool],
) -> Iterator[tuple[str, LogLine]]:
    """One reader per replica, into one queue. Bounded: a slow listener slows the readers, not the memory."""
    lines: queue.Queue[tuple[str, LogLine]] = queue.Queue(1000)
    ended = threading.Event()

    def wanted() -> bool:
        return not ended.is_set() and follow()

    def read(replica: str) -> None:
        for line in engine.runtime.logs(environment, replica, since_at=since_at, tail=tail, follow=wanted):
            while wanted():
                try:
                    lines.put((replica, line), timeout=_POLL_S)
                    break
                except queue.Full:
                    continue

    readers = [threading.Thread(target=read, args=(replica,), daemon=True) for replica in replicas]
    for reader in readers:
        reader.start()
    try:
        while wanted():
            try:
                yield lines.get(timeout=_POLL_S)
            except queue.Empty:
                continue
    finally:
        ended.set()
