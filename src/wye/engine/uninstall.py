"""uninstall: the part of it that knows what environments are. Nothing of them may be left on the machine, and none is
taken away that nobody said.

What the drivers keep besides (the network's table, the pool) is the caller's to erase, once this has returned.
"""

from __future__ import annotations

from wye.engine import discard, records
from wye.engine.context import Engine
from wye.engine.reconcile import remove_strangers
from wye.errors import Denied
from wye.interfaces import Report


def uninstall(engine: Engine, *, discard_everything: bool, actor: str, report: Report) -> None:
    """For a machine where no daemon runs. Raises Denied while there are environments, unless `discard_everything`."""
    engine.volumes.open()
    engine.network.open()
    engine.ledger.settle()
    environments = [entry.environment for entry in engine.ledger.environments().values()]
    if environments and not discard_everything:
        raise Denied(
            f"there are environments: {', '.join(sorted(environment.name for environment in environments)[:20])}",
            hint="discard them first, or say --discard-everything: their data is then gone for good",
        )
    for environment in sorted(environments, key=lambda each: (not each.is_fork, each.name)):
        discard.erase(engine, records.require(engine, environment.name), actor=actor, report=report)
    remove_strangers(engine, set())
