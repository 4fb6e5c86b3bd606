"""discard: an environment and its bytes are gone for good; its ledger stays readable.

The ref is removed first: from then on nothing brings it back, and what a crash leaves is removed by reconcile.
Environments forked from it live on: their bytes are their own. The snapshot it started from goes with the
next collect if nobody else needs it.
"""

from __future__ import annotations

from dataclasses import replace

from wye.engine import apply, plan, records
from wye.engine.context import Engine, environment_name
from wye.engine.views import EntryView
from wye.errors import Denied
from wye.interfaces import Progress, Report
from wye.model import SHELL, Environment, Verb


def discard(engine: Engine, name: str, *, confirm_production: bool = False, actor: str, report: Report) -> EntryView:
    """Raises Denied for an environment that is no fork, unless `confirm_production`."""
    named = environment_name(name)
    with engine.changing(named):
        head = records.require(engine, named)
        environment = head.environment
        if not environment.is_fork and not confirm_production:
            raise Denied(
                f"{named!r} is not a fork: discarding it deletes its data and its history for good",
                hint="if that is what you want, say --yes-i-mean-production",
            )
        return erase(engine, head, actor=actor, report=report)


def erase(engine: Engine, head: records.Head, *, actor: str, report: Report) -> EntryView:
    """Discards without asking. The caller holds the environment."""
    environment = head.environment
    name = environment.name
    with records.change(engine, Verb.DISCARD, name, actor=actor, previous=head.id) as doing:
        entry = doing.entry(replace(environment, awake=False, down=True))
        engine.host.at("discard:commit")
        entry_id = engine.ledger.discard(name, head.id, entry)
        engine.host.at("discard:committed")
        remove(engine, environment, report=report)
    return EntryView(
        id=entry_id,
        previous=head.id,
        environment=name,
        verb=str(Verb.DISCARD),
        actor=actor,
        at=entry.at,
        message="",
        arguments={},
        revision=environment.revision,
        source=environment.source,
    )


def remove(engine: Engine, environment: Environment, *, report: Report) -> None:
    """All that an environment has on this machine."""
    report(Progress(step="remove", subject=environment.name))
    engine.doors.release(environment.name)
    spec = records.spec_of(engine, environment)
    for replica in (str(SHELL), *plan.replicas(spec)):
        identity = apply.container_id(environment, replica)
        engine.supervisor.forget(identity)
        engine.host.at("discard:container")
        engine.runtime.delete(identity)
    engine.host.at("discard:network")
    engine.network.detach(environment.id)
    if not environment.is_fork:
        engine.network.warm(plan.network_shape(spec, environment.addresses, engine.settings.subnet), 0)
    engine.host.at("discard:volumes")
    engine.volumes.delete_environment(environment.id)
    engine.runtime.delete_logs(environment.id)
