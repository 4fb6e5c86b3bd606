"""fork: a new environment that starts from a revision of another one, its running state included.

One snapshot of the source serves all forks that are made at once; each is then one more ioctl and one
compare-and-swap, or only the second if it is to sleep: see `owning`. The source is not locked, stopped or told: a
snapshot is one instant over all its services. Only while a merge lands there a fork waits, for the bytes of that time
are neither before it nor after it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from wye.engine import apply, inspect, plan, preparing, records, undoing
from wye.engine.context import Engine, environment_name, new_environment_id
from wye.engine.discard import erase
from wye.engine.timing import Steps
from wye.engine.views import ForkResult
from wye.errors import BadRequest, Conflict, WyeError
from wye.interfaces import Progress, Report, silent
from wye.model import Environment, EnvironmentId, EnvironmentName, Revision, RevisionId, SnapshotId, Spec, Verb

_MOST_AT_ONCE = 1000
_WAKERS = 4


class NameTaken(Conflict):
    """There is an environment of that name, or somebody is making it this instant."""

    code = "name_taken"


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a fork starts from."""

    source: Environment
    revision_id: RevisionId
    revision: Revision
    spec: Spec
    base: RevisionId | None = None
    """With databases made ready: what the forks then start from."""


def fork(
    engine: Engine,
    source: str,
    name: str | None,
    *,
    count: int = 1,
    revision: str | None = None,
    asleep: bool = False,
    disk_bytes: int | None = None,
    actor: str,
    report: Report,
) -> ForkResult:
    """Makes `count` environments from `source` as it is now, or from one of its revisions.

    Named `name`, or `name`-1 … `name`-N; without a name, after the source. Wakes them unless `asleep`. A fork that
    cannot be made leaves nothing; of several, those that were made stay. Raises NotFound, NameTaken, Exhausted.
    """
    if not 1 <= count <= _MOST_AT_ONCE:
        raise BadRequest(f"cannot make {count} forks at once", hint=f"1 to {_MOST_AT_ONCE}")
    source_name = environment_name(source)
    names = _names(source_name, name, count)
    steps = Steps(engine.host)
    with ExitStack() as held:
        for each in sorted(names):
            held.enter_context(engine.changing(each))
        for each in names:
            if records.find(engine, each) is not None:
                raise NameTaken(f"there is an environment {each!r} already", hint="choose another name, or discard it")
        with records.change(
            engine, Verb.FORK, names[0], actor=actor, previous=None, source=source_name, count=str(count)
        ) as doing:
            fresh = [new_environment_id() for _ in names]
            with _making(engine, fresh) as heads, ExitStack() as shared:
                with steps("snapshot"):
                    origin = _origin(engine, source_name, revision, lend_to=fresh if asleep else ())
                if not asleep and count > 1:
                    with steps("prepare databases"):
                        report(Progress(step="prepare", subject="databases, once for all forks"))
                        origin = _prepared(engine, shared, origin)
                with steps("fork"):
                    for each, identity in zip(names, fresh, strict=True):
                        head = _make(engine, doing, origin, each, identity, asleep=asleep, disk_bytes=disk_bytes)
                        heads.append(head)
            made = [head.environment for head in heads]
            if not asleep:
                with steps("start services"):
                    made = _wake_all(engine, doing, heads, origin.spec, report)
    return ForkResult(
        environments=tuple(inspect.view(engine, environment) for environment in made),
        revision=origin.revision_id,
        steps=steps.taken,
    )


def _names(source: EnvironmentName, name: str | None, count: int) -> list[EnvironmentName]:
    if name is None:
        name = f"{source}-{secrets.token_hex(2)}"
    if count == 1:
        return [environment_name(name)]
    return [environment_name(f"{name}-{number}") for number in range(1, count + 1)]


@contextmanager
def _making(engine: Engine, fresh: list[EnvironmentId]) -> Iterator[list[records.Head]]:
    """Yields the list to put forks into as they are made. After an error the bytes of the others go."""
    heads: list[records.Head] = []
    try:
        yield heads
    except WyeError:
        for identity in fresh[len(heads) :]:
            engine.volumes.delete_environment(identity)
        raise


def _origin(
    engine: Engine, source: EnvironmentName, revision: str | None, *, lend_to: Collection[EnvironmentId]
) -> _Origin:
    """The source as it is now (one snapshot), or one of its revisions (none)."""
    head = records.require(engine, source)
    environment = head.environment
    if revision is not None:
        revision_id, found = records.find_revision(engine, revision)
        for each in lend_to:
            engine.volumes.lend(SnapshotId(found.snapshot), each)
        return _Origin(environment, revision_id, found, engine.ledger.get_spec(found.spec))
    with engine.whole(source):
        environment = records.require(engine, source).environment
        snapshot = records.take_snapshot(engine, environment, verb=Verb.FORK, lend_to=lend_to)
    revision_id = records.new_revision(engine, environment, snapshot)
    return _Origin(
        environment, revision_id, engine.ledger.get_revision(revision_id), records.spec_of(engine, environment)
    )


def _prepared(engine: Engine, shared: ExitStack, origin: _Origin) -> _Origin:
    """The origin with databases that are ready, if it has any."""
    base = shared.enter_context(
        preparing.prepared_once(engine, origin.source, origin.revision_id, origin.revision, origin.spec)
    )
    return origin if base is None else replace(origin, base=base)


def _make(
    engine: Engine,
    doing: records.Change,
    origin: _Origin,
    name: EnvironmentName,
    identity: EnvironmentId,
    *,
    asleep: bool,
    disk_bytes: int | None,
) -> records.Head:
    """The fork's bytes unless it was lent some, its doors, its record. After an error its doors are free again."""
    limit = disk_bytes or origin.spec.fork.disk_bytes or engine.settings.fork_disk_bytes
    source = origin.source
    start = engine.ledger.get_revision(origin.base) if origin.base is not None else origin.revision
    try:
        engine.host.at("fork:volumes")
        if not asleep:
            engine.volumes.fork(SnapshotId(start.snapshot), identity, limit_bytes=limit)
            undoing.settle_copy(engine, engine.volumes.environment_path(identity))
        elif limit is not None:
            engine.volumes.require_limits()
        engine.host.at("fork:doors")
        ports = engine.doors.hold(name, plan.wanted_doors(origin.spec, held={}, fork=True))
        environment = Environment(
            name=name,
            id=identity,
            project=source.project,
            spec=origin.revision.spec,
            images=origin.revision.images,
            revision=origin.revision_id,
            awake=not asleep,
            stopped=source.stopped,
            completed=apply.completed_replicas(engine, source, origin.spec),
            addresses=plan.assign_addresses(origin.spec, source.addresses, engine.settings.subnet),
            ports=ports,
            origin=origin.revision_id,
            base=origin.base,
            source=source.name,
            created_at=engine.host.now(),
            disk_bytes=limit,
        )
        unprepared = not asleep and preparing.needs_preparing(engine, environment, origin.spec)
        if unprepared:
            environment = replace(environment, awake=False)  # until its databases are ready for others
        return doing.commit(environment, durable=not unprepared)
    except WyeError:
        engine.doors.release(name)
        raise


def _wake_all(
    engine: Engine, doing: records.Change, heads: list[records.Head], spec: Spec, report: Report
) -> list[Environment]:
    if len(heads) == 1:
        return [_wake(engine, doing, heads[0], spec, report)]
    with ThreadPoolExecutor(_WAKERS, thread_name_prefix="fork") as pool:
        return list(pool.map(lambda head: _wake(engine, doing, head, spec, report), heads))


def _wake(engine: Engine, doing: records.Change, head: records.Head, spec: Spec, report: Report) -> Environment:
    """Starts a new fork's services. A service that fails leaves the fork there to look at; anything else undoes it."""
    environment = head.environment
    report(Progress(step="wake", subject=environment.name))
    try:
        if environment.awake:
            apply.bring_up(engine, environment, spec, verb="fork", fresh=True)
            preparing.await_databases(engine, environment, spec)
            return environment
        prepared = preparing.wake_unprepared(engine, environment, spec, verb="fork")
        return doing.commit(replace(prepared, awake=True), verb=Verb.WAKE, previous=head.id).environment
    except apply.ServiceFailed as error:
        name = environment.name
        error.hint = f"the fork {name!r} is there: see 'wye logs {name}', or 'wye discard {name}'"
        raise
    except WyeError:
        erase(engine, records.require(engine, environment.name), actor=doing.intent.actor, report=silent)
        raise
