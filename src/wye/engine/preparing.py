"""Making a fork's databases ready to be changed and, later, compared: before anybody can reach them.

A kind that needs it (Postgres) is started, prepared through its own server, and a base snapshot is taken: what the fork
changes, it changes since then. Only afterwards its ports open and other services start. Several forks made at once
share one preparation: it happens on a throwaway, which is stopped cleanly, so that none of them has to recover.

Until that snapshot, which is durable, the servers do not sync. So a preparation that was cut short leaves bytes that a
power failure may have torn: a mark says so, and the next one begins anew with the bytes that the fork began with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wye.engine import apply, comparing, records, servers
from wye.engine.context import Engine, new_environment_id, new_snapshot_id
from wye.errors import Unavailable, WyeError
from wye.interfaces import Report, silent
from wye.model import Environment, Revision, RevisionId, SnapshotId, Spec, replica_names

_ANSWER_S = 20.0
_MARK = ".wye-unsynced"
"""At the environment's root, where no container can look. Holds the id of the environment that it is true of: copies of
the bytes have it too."""


def needs_preparing(engine: Engine, environment: Environment, spec: Spec) -> bool:
    """Whether it is a fork that was never awake and holds databases."""
    if not environment.is_fork or environment.base is not None:
        return False
    return bool(servers.stores_in(engine, environment, spec))


def wake_unprepared(
    engine: Engine, environment: Environment, spec: Spec, *, verb: str, report: Report = silent
) -> Environment:
    """Starts everything in a fork that was never awake. Returns it with its base, to be recorded by the caller: maybe
    under another id, and then `forget` the old one."""
    stores = servers.stores_in(engine, environment, spec)
    if not stores:
        apply.bring_up(engine, environment, spec, verb=verb, fresh=True, report=report)
        return environment
    made = _begin(engine, environment, spec, stores, verb)
    try:
        return _prepare(engine, made, spec, stores, verb=verb, report=report)
    except WyeError:
        if made.id != environment.id:
            apply.bring_down(engine, made, spec, verb=verb, kill=True)
            engine.network.detach(made.id)
            forget(engine, made)
        raise


def _prepare(
    engine: Engine, environment: Environment, spec: Spec, stores: list[servers.Store], *, verb: str, report: Report
) -> Environment:
    closed = replace(environment, ports={})
    wanted = _closure(spec, [str(store.service.name) for store in stores]) - set(environment.stopped)
    apply.bring_up(engine, closed, spec, verb=verb, services=wanted, fresh=False, report=report)
    for store in stores:
        if store.service.name in wanted:
            engine.host.at(f"{verb}:prepare")
            server = servers.endpoint(engine, environment, store)
            store.kind.prepare_fork(server)
            servers.keep_told(engine, environment, store, store.kind.tell(server))
    base = keep_base(engine, environment, verb=verb)
    engine.host.remove_tree(f"{verb}:synced", _mark(engine, environment))
    prepared = replace(environment, base=base)
    apply.bring_up(engine, prepared, spec, verb=verb, fresh=False, report=report)
    return prepared


def forget(engine: Engine, environment: Environment) -> None:
    """Removes the bytes that nobody has recorded, or that nobody has any more."""
    engine.volumes.delete_environment(environment.id)
    engine.runtime.delete_logs(environment.id)


def _begin(engine: Engine, environment: Environment, spec: Spec, stores: list[servers.Store], verb: str) -> Environment:
    """Its volumes ready for servers that do not sync, unless what it began with is gone."""
    start = SnapshotId(engine.ledger.get_revision(environment.revision).snapshot)
    can_begin_anew = engine.volumes.snapshot_path(start).is_dir()
    if can_begin_anew and _is_unsynced(engine, environment):
        environment = _anew(engine, environment, spec, start, verb)
    if can_begin_anew:
        engine.host.write_file(f"{verb}:unsynced", _mark(engine, environment), environment.id.encode(), mode=0o600)
    apply.prepare_volumes(engine, environment, spec)
    for store in stores:
        if can_begin_anew and store.service.name not in environment.stopped:
            store.kind.hasten(engine.volumes.environment_path(environment.id) / "volumes" / store.volume)
    return environment


def _anew(engine: Engine, environment: Environment, spec: Spec, start: SnapshotId, verb: str) -> Environment:
    """The same fork with the bytes that it began with, under a new id. Until that is recorded the old one stays."""
    apply.bring_down(engine, environment, spec, verb=verb, kill=True)
    engine.network.detach(environment.id)
    made = replace(environment, id=new_environment_id())
    engine.host.at(f"{verb}:anew")
    engine.volumes.fork(start, made.id, limit_bytes=environment.disk_bytes)
    return made


def _is_unsynced(engine: Engine, environment: Environment) -> bool:
    try:
        return _mark(engine, environment).read_text() == environment.id
    except FileNotFoundError:
        return False


def _mark(engine: Engine, environment: Environment) -> Path:
    return engine.volumes.environment_path(environment.id) / _MARK


def await_databases(engine: Engine, environment: Environment, spec: Spec) -> None:
    """Until the databases that run answer, as whoever started them expects. One that does not is no error here: people
    must be able to get in and mend it."""
    for store in servers.stores_in(engine, environment, spec):
        if comparing.is_live(engine, environment, store):
            try:
                servers.live(engine, environment, store, timeout_s=_ANSWER_S)
            except Unavailable as error:
                name = str(store.service.name)
                records.emit(engine, "database-silent", environment.name, name, error=error.message)


def keep_base(engine: Engine, environment: Environment, *, verb: str) -> RevisionId:
    """The environment's bytes of this instant, as the revision that its changes are counted from."""
    snapshot = new_snapshot_id()
    engine.host.at(f"{verb}:base")
    engine.volumes.snapshot(environment.id, snapshot)
    parents = (environment.origin,) if environment.origin is not None else (environment.revision,)
    return records.new_revision(engine, environment, snapshot, parents=parents)


def _closure(spec: Spec, names: list[str]) -> set[str]:
    """Services and all that they depend on."""
    found, todo = set(names), list(names)
    while todo:
        for dependency in spec.services[todo.pop()].depends_on:
            if dependency in spec.services and dependency not in found:
                found.add(dependency)
                todo.append(dependency)
    return found


def shared_base(engine: Engine, origin: RevisionId) -> RevisionId | None:
    """A base that some other fork of the same revision has already."""
    for entry in engine.ledger.environments().values():
        if entry.environment.origin == origin and entry.environment.base is not None:
            revision = engine.ledger.get_revision(entry.environment.base)
            if revision.snapshot in engine.volumes.snapshots():
                return entry.environment.base
    return None


@contextlib.contextmanager
def prepared_once(
    engine: Engine, source: Environment, origin_id: RevisionId, origin: Revision, spec: Spec
) -> Iterator[RevisionId | None]:
    """For several forks of one revision: a base that all of them start from, recovered, prepared and cleanly stopped.

    None if there are no databases to prepare. The snapshot is reachable only once a fork that has it is recorded.
    """
    root = engine.volumes.snapshot_path(origin.snapshot)
    stores = servers.find_stores(engine, root, spec, origin.images)
    if not stores:
        yield None
        return
    found = shared_base(engine, origin_id)
    if found is not None:
        yield found
        return
    snapshot = SnapshotId(origin.snapshot)
    made: list[SnapshotId] = []
    try:
        for store in stores:
            with servers.throwaway(engine, source, spec, origin.images, snapshot, store, durable=True) as thrown:
                store.kind.prepare_fork(thrown.endpoint)
                service = spec.services[str(store.service.name)]
                for replica in replica_names(service)[:1]:
                    apply.stop_replica(engine, thrown.environment, service, replica, verb="fork")
                # Its forks start by their own settings, whatever was told of the running origin.
                servers.keep_told(engine, thrown.environment, store, b"")
                snapshot = new_snapshot_id()
                engine.host.at("fork:base")
                engine.volumes.snapshot(thrown.environment.id, snapshot)
                made.append(snapshot)
        yield records.new_revision(
            engine, source, snapshot, parents=(origin_id,), spec=origin.spec, images=origin.images
        )
    finally:
        for each in made[:-1]:
            engine.volumes.delete_snapshot(each)
