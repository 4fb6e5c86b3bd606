"""restore: an environment back to one of its revisions, bytes and spec.

What it held until now is kept as a revision first, after its services have stopped, so that nothing
acknowledged is lost and the restore itself can be undone. The restored bytes are made beside the old ones under
a new id; the compare-and-swap exchanges them.
"""

from __future__ import annotations

from dataclasses import replace

from wye.engine import apply, inspect, plan, records, undoing
from wye.engine.context import Engine, environment_name, new_environment_id
from wye.engine.views import EnvironmentView
from wye.errors import WyeError
from wye.interfaces import Report
from wye.model import Environment, Revision, RevisionId, SnapshotId, Spec, Verb


def restore(engine: Engine, name: str, revision: str, *, actor: str, report: Report) -> EnvironmentView:
    """Raises NotFound for a revision that is not there or whose bytes are gone; then nothing has changed."""
    named = environment_name(name)
    with engine.changing(named):
        head = records.require(engine, named)
        revision_id, target = records.find_revision(engine, revision)
        spec = engine.ledger.get_spec(target.spec)
        for image in target.images.values():
            engine.images.rootfs(image)  # NotFound now rather than half-way
        with records.change(engine, Verb.RESTORE, named, actor=actor, previous=head.id, revision=revision_id) as doing:
            environment = _exchange(engine, doing, head, revision_id, target, spec, report)
            old = head.environment
            engine.host.at("restore:delete-old")
            engine.volumes.delete_environment(old.id)
            engine.runtime.delete_logs(old.id)
            if environment.awake:
                apply.bring_up(engine, environment, spec, verb="restore", fresh=True, report=report)
        return inspect.view(engine, environment)


def _exchange(
    engine: Engine,
    doing: records.Change,
    head: records.Head,
    revision_id: RevisionId,
    target: Revision,
    spec: Spec,
    report: Report,
) -> Environment:
    """Stops the services, keeps the old bytes as a revision, moves the ref to the new ones.

    After an error the environment runs again as it was.
    """
    old = head.environment
    before = records.spec_of(engine, old)
    identity = new_environment_id()
    try:
        engine.host.at("restore:volumes")
        engine.volumes.fork(SnapshotId(target.snapshot), identity, limit_bytes=old.disk_bytes)
        undoing.settle_copy(engine, engine.volumes.environment_path(identity))
        apply.bring_down(engine, old, before, verb="restore", report=report)
        engine.network.detach(old.id)
        kept = records.keep_as_revision(engine, doing, head, message="before restore")
        ports = engine.doors.hold(old.name, plan.wanted_doors(spec, held=old.ports, fork=old.is_fork))
        restored = records.new_revision(
            engine,
            old,
            target.snapshot,
            parents=(kept.environment.revision, revision_id),
            spec=target.spec,
            images=target.images,
        )
        environment = replace(
            kept.environment,
            id=identity,
            spec=target.spec,
            images=target.images,
            revision=restored,
            addresses=plan.assign_addresses(spec, old.addresses, engine.settings.subnet),
            ports=ports,
            stopped=tuple(name for name in old.stopped if name in spec.services),
            completed=(),
        )
        return doing.commit(environment, previous=kept.id).environment
    except WyeError:
        engine.volumes.delete_environment(identity)
        engine.doors.hold(old.name, plan.wanted_doors(before, held=old.ports, fork=old.is_fork))
        if old.awake:
            apply.bring_up(engine, old, before, verb="restore", fresh=True)
        raise
