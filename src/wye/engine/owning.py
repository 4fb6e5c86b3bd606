"""Bytes of its own for a fork that shares its source's snapshot: before anything of it is written to.

A fork that is made asleep may never be woken, and making a subvolume commits the whole file system, for which
production's own syncs wait. So whoever is about to write to an environment that may never have been awake asks
for its bytes first.
"""

from __future__ import annotations

from wye.engine import undoing
from wye.engine.context import Engine
from wye.model import Environment


def own(engine: Engine, environment: Environment) -> None:
    """Nothing happens if it has bytes of its own. Raises DiskFull."""
    engine.volumes.own(
        environment.id, limit_bytes=environment.disk_bytes, settle=lambda root: undoing.settle_copy(engine, root)
    )
