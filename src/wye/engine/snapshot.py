"""snapshot: an environment's bytes and spec of this instant, kept as a revision with a message."""

from __future__ import annotations

from dataclasses import replace

from wye.engine import records
from wye.engine.context import Engine, environment_name
from wye.engine.views import SnapshotResult
from wye.model import Verb


def snapshot(engine: Engine, name: str, *, message: str = "", actor: str) -> SnapshotResult:
    """No service stops or notices. Raises NotFound, DiskFull."""
    named = environment_name(name)
    began = engine.host.monotonic()
    with engine.changing(named):
        head = records.require(engine, named)
        with records.change(engine, Verb.SNAPSHOT, named, actor=actor, previous=head.id) as doing:
            taken = records.take_snapshot(engine, head.environment, verb=Verb.SNAPSHOT)
            revision = records.new_revision(engine, head.environment, taken)
            doing.commit(replace(head.environment, revision=revision), message=message)
    return SnapshotResult(environment=named, revision=revision, snapshot=taken, seconds=engine.host.monotonic() - began)
