"""diff: what an environment has that what it came from has not: spec, databases, files.

Everything is compared by what the file system itself says has changed, in time proportional to the change. Nothing is
changed, in the environment or anywhere: what is needed for looking is gone when it returns. Names and contents come
from the fork and are hostile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from wye.engine import comparing, records, spec_diff
from wye.engine.comparing import Side, StoreChanges
from wye.engine.context import Engine, environment_name
from wye.engine.servers import Store
from wye.engine.views import DiffResult, FileChange, FileView, PlaceChange, StoreChange
from wye.errors import NotFound
from wye.interfaces import Changes, FileDelta, PathChange
from wye.model import Environment, EnvironmentName, is_name


def diff(
    engine: Engine,
    name: str,
    *,
    against: str | None = None,
    service: str | None = None,
    offset: int = 0,
    limit: int = 500,
    rows: bool = True,
    text: bool = False,
) -> DiffResult:
    """`against`: an environment or a revision; None: what it was forked from, or its own newest revision.

    `rows`: databases too, through their servers; otherwise they are told as places. `text`: unified diffs of text
    files. `offset` and `limit` page through files, and through the rows of each database. Raises NotFound.
    """
    named = environment_name(name)
    with engine.changing(named), ExitStack() as held:
        environment = records.require(engine, named).environment
        with _base(engine, environment, against) as base, comparing.frozen(engine, environment) as theirs:
            databases = stores = comparing.stores_of(engine, theirs)
            if service is not None:
                _check_service(theirs, service)
                stores = [store for store in databases if store.service.name == service]
            descends = against is None
            read = comparing.read_stores(engine, held, base, theirs, stores, descends=descends) if rows else []
            kept = [each.store for each in read]
            told_stores = tuple(_store_change(each, offset, limit) for each in read if each.changes or each.refused)
            changes = comparing.file_changes(engine, base, theirs, kept)
            told = [] if rows else _places(databases, changes)
            changes = _files_only(theirs, databases, changes, service)
            before, after = comparing.bytes_of(engine, base), comparing.bytes_of(engine, theirs)
            deltas = engine.files.changes(before, after, changes, text=text, whole=not rows)
            inside = engine.files.databases(before, after, changes) if rows else []
    return DiffResult(
        environment=name,
        against=base.label,
        base=base.revision,
        spec=spec_diff.changes(base.spec, theirs.spec),
        places=tuple(told),
        files=tuple(_file_change(delta, with_text=text) for delta in deltas[offset : offset + limit]),
        total_files=len(deltas),
        file_counts=_counts(deltas),
        stores=(*told_stores, *(_inside(each, offset, limit) for each in inside)),
    )


def patch(engine: Engine, name: str, *, against: str | None = None) -> bytes:
    """The changes of text files in volumes and layers, as `git apply` takes them."""
    named = environment_name(name)
    with engine.changing(named):
        environment = records.require(engine, named).environment
        with _base(engine, environment, against) as base, comparing.frozen(engine, environment) as theirs:
            stores = comparing.stores_of(engine, theirs)
            changes = comparing.file_changes(engine, base, theirs, stores)
            return engine.files.patch(comparing.bytes_of(engine, base), comparing.bytes_of(engine, theirs), changes)


@contextmanager
def _base(engine: Engine, environment: Environment, against: str | None) -> Iterator[Side]:
    if against is None:
        yield comparing.base_of(engine, environment)
        return
    head = records.find(engine, EnvironmentName(against)) if is_name(against) else None
    if head is None:
        yield comparing.at_revision(engine, environment, against)
        return
    with comparing.frozen(engine, head.environment) as side:
        yield side


def _check_service(side: Side, service: str) -> None:
    if service not in side.spec.services:
        raise NotFound(f"there is no service {service!r}", hint=f"there are: {', '.join(sorted(side.spec.services))}")


def _places(stores: Sequence[Store], changes: list[PathChange]) -> list[PlaceChange]:
    """Databases by their files, which say little to people but cost nothing to count."""
    told = []
    for store in stores:
        own = [change for change in changes if store.holds(change.path)]
        if own:
            kinds = Counter(change.kind for change in own)
            told.append(
                PlaceChange(
                    place=f"volume {store.volume}",
                    kind=store.kind.name,
                    added=kinds["added"],
                    removed=kinds["removed"],
                    modified=kinds["modified"],
                    changed_bytes=sum(length for change in own for _, length in change.extents),
                )
            )
    return told


def _files_only(
    theirs: Side, stores: Sequence[Store], changes: list[PathChange], service: str | None
) -> list[PathChange]:
    """What merges as files; of one service if it is named."""
    mounted = None
    if service is not None:
        mounted = {mount.source for mount in theirs.spec.services[service].mounts}
    return [
        change
        for change in changes
        if not any(store.holds(change.path) for store in stores)
        and (
            mounted is None
            or comparing.volume_of(change.path) in mounted
            or change.path.startswith((f"layers/{service}/", f"layers/{service}-"))
        )
    ]


def _store_change(each: StoreChanges, offset: int, limit: int) -> StoreChange:
    return StoreChange(
        place=each.store.place,
        kind=each.store.kind.name,
        service=str(each.store.service.name),
        stat={} if each.changes is None else each.changes.stat(),
        page={} if each.changes is None else each.changes.page(offset, limit),
        refused=tuple(comparing.conflict_view(conflict) for conflict in each.refused),
    )


def _inside(found: Changes, offset: int, limit: int) -> StoreChange:
    """A database that lies in a file, and that no service serves."""
    return StoreChange(
        place=found.place, kind=found.kind, service="", stat=found.stat(), page=found.page(offset, limit)
    )


def _counts(deltas: Sequence[FileDelta]) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = {}
    for delta in deltas:
        of_place = counted.setdefault(delta.place, {})
        of_place[delta.change] = of_place.get(delta.change, 0) + 1
    return counted


def _file_change(delta: FileDelta, *, with_text: bool) -> FileChange:
    before, after = _view(delta.before), _view(delta.after)
    same = (
        before is not None and after is not None and (before.size_bytes, before.kind) == (after.size_bytes, after.kind)
    )
    return FileChange(
        place=delta.place,
        path=delta.path,
        change=delta.change,
        before=before,
        after=after,
        changed_bytes=0 if after is None else after.size_bytes,
        metadata_only=same and delta.text is None and before != after,
        text=delta.text if with_text else None,
    )


def _view(state: tuple[str, int, int, int, int, str] | None) -> FileView | None:
    if state is None:
        return None
    kind, size, mode, uid, gid, target = state
    kind = "link" if kind == "symlink" else kind
    return FileView(kind=kind, size_bytes=size, mode=mode, uid=uid, gid=gid, target=target)
