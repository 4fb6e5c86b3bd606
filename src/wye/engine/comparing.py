"""Two sides of an environment, and what differs between them: the ground of diff, merge, revert and update.

A side is a snapshot with the spec and images that go with it. Databases are read through servers (`engine.servers`),
files by what the file system says has changed. A side that was made only for looking is gone afterwards.

Of an environment that runs, databases are read through its own servers where that can be done, a moment after its
snapshot was taken. Where the snapshot is kept as the base of what comes later, the two must not differ: what was
written between would be brought twice. Then the servers are asked before and after, and what has moved on is read
again, on a copy of the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wye.engine import apply, records, servers
from wye.engine.context import Engine, new_snapshot_id
from wye.engine.servers import Store, Throwaway
from wye.engine.views import ConflictView
from wye.errors import CheckFailed, NotFound
from wye.interfaces import Bytes, Changes, Endpoint, LiveKind, PathChange, Terms
from wye.merge.conflict import Conflict, conflict_to_json
from wye.merge.refused import Refused
from wye.model import Environment, EnvironmentId, Image, RevisionId, SnapshotId, Spec, replica_names

_READERS = 4
_PASSING = ("/run/", "/tmp/")
"""Sockets, locks and scratch files of processes that run: they say nothing about another run."""


@dataclass(frozen=True, slots=True)
class Side:
    """`environment`: whose bytes these are or were, for its containers' names and limits. `moments`: by volume, when
    the snapshot was taken (`LiveKind.moment`), where that matters."""

    label: str
    environment: Environment
    revision: RevisionId
    snapshot: SnapshotId
    spec: Spec
    images: dict[str, Image]
    moments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreChanges:
    """`changes` None: it could not be read, and `refused` says why. `unknown`: tables and columns that the settings
    name and its databases do not have."""

    store: Store
    changes: Changes | None
    refused: tuple[Conflict, ...] = ()
    unknown: frozenset[str] = frozenset()


@contextmanager
def frozen(engine: Engine, environment: Environment, *, keep: Callable[[], bool] | None = None) -> Iterator[Side]:
    """The environment as it is now, in a snapshot that goes away again, unless by then a revision has it (`keep`): then
    what is read of it is what is in the snapshot."""
    moments = settle(engine, environment, moments=keep is not None)
    snapshot = new_snapshot_id()
    engine.host.at("compare:snapshot")
    engine.volumes.snapshot(environment.id, snapshot)
    try:
        spec = records.spec_of(engine, environment)
        yield Side(environment.name, environment, environment.revision, snapshot, spec, environment.images, moments)
    finally:
        if keep is None or not keep():
            engine.volumes.delete_snapshot(snapshot)


def settle(engine: Engine, environment: Environment, *, moments: bool = False) -> dict[str, str]:
    """Has servers write down what only their memory holds, where their kind needs that. Returns their `moments` by
    volume, if they are asked for."""
    spec = records.spec_of(engine, environment)
    found = {}
    for store in servers.stores_in(engine, environment, spec):
        if is_live(engine, environment, store):
            server = servers.live_if_asked(engine, environment, store)
            servers.keep_told(engine, environment, store, store.kind.settle(server))
            if moments and isinstance(store.kind, LiveKind):
                found[store.volume] = store.kind.moment(server)
    return found


def at_revision(engine: Engine, environment: Environment, revision: str) -> Side:
    """A kept revision, of this environment or of what it came from. Raises NotFound, Unavailable."""
    revision_id, found = records.find_revision(engine, revision)
    forked = environment.source is not None and revision_id in (environment.base, environment.origin)
    label = f"{environment.source} when it was forked" if forked else f"{found.environment} at {revision_id[:12]}"
    spec = engine.ledger.get_spec(found.spec)
    return Side(label, environment, revision_id, found.snapshot, spec, found.images)


def base_of(engine: Engine, environment: Environment) -> Side:
    """What a fork's changes are counted from; for others their newest revision."""
    return at_revision(engine, environment, environment.base or environment.origin or environment.revision)


def bytes_of(engine: Engine, side: Side) -> Bytes:
    """A side's files, with the images below its layers."""
    return Bytes(root=engine.volumes.snapshot_path(side.snapshot), images=image_paths(engine, side.spec, side.images))


def image_paths(engine: Engine, spec: Spec, images: Mapping[str, Image]) -> dict[str, Any]:
    """Root file systems by replica."""
    found = {}
    for key, service in spec.services.items():
        try:
            path = engine.images.rootfs(images[key])
        except (KeyError, NotFound):
            continue  # a service whose image is gone has a layer all the same
        found.update(dict.fromkeys(replica_names(service), path))
    return found


def terms(spec: Spec, resolutions: Mapping[str, Any] | None = None, *, dry_run: bool = False) -> Terms:
    """What the project says of merging (`x-wye: merge:`), and what people decided (`by_conflict`)."""
    text = spec.settings.get("merge")
    return Terms(
        settings=(msgspec.json.decode(text) if text else None) or {},
        resolutions=by_conflict(resolutions or {}),
        dry_run=dry_run,
    )


def by_conflict(resolutions: Mapping[str, Any]) -> dict[str, Any]:
    """Those for one conflict each, without the default for all others."""
    return {identity: value for identity, value in resolutions.items() if identity != "default"}


def stores_of(engine: Engine, side: Side, services: Collection[str] | None = None) -> list[Store]:
    found = servers.find_stores(engine, engine.volumes.snapshot_path(side.snapshot), side.spec, side.images)
    return [store for store in found if services is None or store.service.name in services]


def read_stores(
    engine: Engine,
    held: ExitStack,
    base: Side,
    theirs: Side,
    stores: Sequence[Store],
    *,
    descends: bool = True,
    rules: Spec | None = None,
) -> list[StoreChanges]:
    """What happened in databases between two sides, several read at a time. Theirs is an environment: while it runs it
    is read through its own servers, where the kind copes with others writing. `descends`: theirs came of base.
    `rules`: whose settings say what a merge must know (None: theirs). The servers that were started for this stay up
    until `held` is closed: some changes take values from them."""

    def read(store: Store, own: ExitStack) -> StoreChanges:
        def attempt(*, live: bool) -> StoreChanges:
            return _read_store(engine, own, base, theirs, store, live=live, descends=descends, rules=rules)

        is_own = isinstance(store.kind, LiveKind) and is_live(engine, theirs.environment, store)
        if not is_own or _has_moved(engine, theirs, store):
            return attempt(live=False)
        found = attempt(live=True)
        if not _has_moved(engine, theirs, store):
            return found
        own.close()
        return attempt(live=False)

    owns = [held.enter_context(ExitStack()) for _ in stores]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
        return list(pool.map(read, stores, owns))


def _has_moved(engine: Engine, theirs: Side, store: Store) -> bool:
    """Whether something was committed since the snapshot of theirs, where that matters and a copy has all of it."""
    moment = theirs.moments.get(store.volume)
    if moment is None or not isinstance(store.kind, LiveKind):
        return False
    if store.kind.moment(servers.live(engine, theirs.environment, store)) == moment:
        return False
    return store.kind.outlives(engine.volumes.snapshot_path(theirs.snapshot) / "volumes" / store.volume)


def _read_store(
    engine: Engine,
    stack: ExitStack,
    base: Side,
    theirs: Side,
    store: Store,
    *,
    live: bool,
    descends: bool,
    rules: Spec | None,
) -> StoreChanges:
    environment = theirs.environment
    settings = terms(rules or theirs.spec)
    told = servers.read_told(engine.volumes.snapshot_path(theirs.snapshot), store)
    try:
        began = stack.enter_context(
            servers.throwaway(
                engine, base.environment, base.spec, base.images, base.snapshot, store, told_elsewhere=told
            )
        )
        if live:
            other: Endpoint = servers.live(engine, environment, store)
        else:
            thrown = stack.enter_context(
                servers.throwaway(engine, environment, theirs.spec, theirs.images, theirs.snapshot, store)
            )
            other, environment = thrown.endpoint, thrown.environment
        freeze = _freezer(engine, stack, base, environment, store, None if descends else began)
        changes = store.kind.read(
            began.endpoint, other, freeze, place=store.place, settings=settings, descends=descends
        )
    except Refused as error:
        return StoreChanges(store, None, tuple(error.conflicts))
    unknown = store.kind.unknown_tables(other, settings) if rules is not None else frozenset()
    return StoreChanges(store, changes, unknown=unknown)


def _freezer(
    engine: Engine, stack: ExitStack, base: Side, environment: Environment, store: Store, began: Throwaway | None
) -> Callable[[], list[PathChange]]:
    """Takes a snapshot when called and says what differs from the base's, relative to the store's volume.

    `began`: the base's server, if theirs did not come of this base. What the base has only in a log is then in no file
    of either side: its server, which has read the log, says where it belongs."""
    prefix = f"volumes/{store.volume}/"

    def changes(changed: EnvironmentId) -> list[PathChange]:
        snapshot = new_snapshot_id()
        engine.host.at("compare:freeze")
        engine.volumes.snapshot(changed, snapshot)
        stack.callback(engine.volumes.delete_snapshot, snapshot)
        return [
            PathChange(
                path=change.path.removeprefix(prefix),
                kind=change.kind,
                extents=change.extents,
                metadata_only=change.metadata_only,
            )
            for change in engine.volumes.changes(base.snapshot, snapshot)
            if change.path.startswith(prefix)
        ]

    def freeze() -> list[PathChange]:
        found = changes(environment.id)
        if began is not None:
            began.wait()
            found += changes(began.environment.id)
        return found

    return freeze


def is_live(engine: Engine, environment: Environment, store: Store) -> bool:
    """Whether its own server runs."""
    if not environment.awake or store.service.name in environment.stopped:
        return False
    return apply.runs(engine, environment, str(store.service.name))


def file_changes(engine: Engine, base: Side, theirs: Side, stores: Collection[Store]) -> list[PathChange]:
    """Paths that differ and belong to no database and to nobody's work directory: what merges as files."""
    return [
        change
        for change in engine.volumes.changes(base.snapshot, theirs.snapshot)
        if not any(store.holds(change.path) for store in stores) and _is_somebodys(base, theirs, change.path)
    ]


def volume_of(path: str) -> str:
    """Of a path in a volume; empty for one in a layer."""
    parts = path.split("/")
    return parts[1] if parts[0] == "volumes" else ""


def _is_somebodys(base: Side, theirs: Side, path: str) -> bool:
    """Volumes and the layers of declared services. The shell's own layer is scratch: nothing of it is ever merged."""
    parts = path.split("/")
    if parts[0] == "volumes":
        return len(parts) > 2
    if parts[0] != "layers" or len(parts) < 4 or parts[2] != "upper":
        return False
    return not _is_made_by_runtime(base, theirs, parts[1], "/" + "/".join(parts[3:]))


def _is_made_by_runtime(base: Side, theirs: Side, replica: str, inner: str) -> bool:
    """Mount points, and files that are mounted over: the runtime makes them, they say nothing."""
    for side in (theirs, base):
        for service in side.spec.services.values():
            if replica in replica_names(service):
                targets = [mount.target for mount in service.mounts] + [file.target for file in service.files]
                targets += ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/proc", "/sys", "/dev"]
                return inner.startswith(_PASSING) or any(
                    inner == target or (target.startswith(f"{inner}/") and inner != "/") for target in targets
                )
    return True  # of no service: the shell's


def conflict_view(conflict: Conflict) -> ConflictView:
    told = conflict_to_json(conflict)
    return ConflictView(
        id=conflict.id,
        kind=conflict.kind,
        place=conflict.place,
        key=conflict.key,
        column=conflict.column,
        base=told.get("base"),
        ours=told.get("ours"),
        theirs=told.get("theirs"),
        choices=tuple(sorted(str(choice) for choice in conflict.choices)),
        detail=conflict.detail,
    )


def conflicts_in(error: CheckFailed) -> tuple[Conflict, ...]:
    """Those that a refusal carries."""
    return tuple(error.conflicts) if isinstance(error, Refused) else ()
