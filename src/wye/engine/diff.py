"""diff: what an environment has that what it came from has not: files of every volume and layer, and the spec.

Two snapshots are compared by what the file system itself says has changed, in time proportional to the
change. A database's files say nothing to people and are told in one line. Paths and contents come from the fork and
are hostile: nothing here follows a link or trusts a name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wye.engine import layers, records, spec_diff
from wye.engine.context import Engine, environment_name, new_snapshot_id
from wye.engine.views import DiffResult, FileChange, FileView, PlaceChange
from wye.errors import NotFound, Unavailable
from wye.interfaces import PathChange, silent
from wye.model import (
    SHELL,
    Environment,
    EnvironmentName,
    Image,
    ObjectId,
    RevisionId,
    SnapshotId,
    is_name,
    replica_names,
)

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


@dataclass(frozen=True, slots=True)
class _Side:
    """Bytes to compare, and the spec and images that go with them."""

    label: str
    revision: RevisionId
    snapshot: SnapshotId
    spec: ObjectId
    images: dict[str, Image]
    """By replica."""


def diff(engine: Engine, name: str, *, against: str | None = None, offset: int = 0, limit: int = 500) -> DiffResult:
    """`against`: an environment or a revision; None: what it was forked from, or its own newest revision.

    Raises NotFound. Changes nothing: the snapshots it needs are gone when it returns.
    """
    environment = records.require(engine, environment_name(name)).environment
    with _base(engine, environment, against) as base, _live(engine, environment) as new:
        changes = engine.volumes.changes(base.snapshot, new.snapshot)
        if any(change.path.startswith(f"layers/{SHELL}/") for change in changes):
            base.images.update(_shell_image(engine))
        files, places = _sort_out(engine, base, new, changes)
        files = _differing(engine, base, new, files)
        page = files[offset : offset + limit]
        shown = tuple(_file_change(engine, base, new, change) for change in page)
    return DiffResult(
        environment=name,
        against=base.label,
        base=base.revision,
        spec=spec_diff.changes(engine.ledger.get_spec(base.spec), engine.ledger.get_spec(new.spec)),
        places=tuple(places),
        files=shown,
        total_files=len(files),
    )


@contextmanager
def _base(engine: Engine, environment: Environment, against: str | None) -> Iterator[_Side]:
    if against is not None:
        head = records.find(engine, EnvironmentName(against)) if is_name(against) else None
        if head is not None:
            with _live(engine, head.environment) as side:
                yield side
            return
    revision_id, revision = records.find_revision(engine, against or environment.origin or environment.revision)
    label = f"{revision.environment} at {revision_id[:12]}"
    images = _by_replica(engine, revision.spec, revision.images)
    yield _Side(label, revision_id, revision.snapshot, revision.spec, images)


@contextmanager
def _live(engine: Engine, environment: Environment) -> Iterator[_Side]:
    """The environment as it is now, in a snapshot that goes away again."""
    snapshot = new_snapshot_id()
    engine.host.at("diff:snapshot")
    engine.volumes.snapshot(environment.id, snapshot)
    try:
        images = _by_replica(engine, environment.spec, environment.images)
        yield _Side(environment.name, environment.revision, snapshot, environment.spec, images)
    finally:
        engine.volumes.delete_snapshot(snapshot)


def _by_replica(engine: Engine, spec: ObjectId, images: dict[str, Image]) -> dict[str, Image]:
    services = engine.ledger.get_spec(spec).services.values()
    found = {replica: images.get(service.name) for service in services for replica in replica_names(service)}
    return {replica: image for replica, image in found.items() if image is not None}


def _shell_image(engine: Engine) -> dict[str, Image]:
    try:
        return {SHELL: engine.images.resolve(engine.settings.shell_image, pull=False, report=silent)}
    except (NotFound, Unavailable):
        # It has gone since: what is in the shell's layer counts as added.
        return {}


def _sort_out(
    engine: Engine, base: _Side, new: _Side, changes: list[PathChange]
) -> tuple[list[PathChange], list[PlaceChange]]:
    """Files that people read, and volumes of a known kind in a line each."""
    files: list[PathChange] = []
    kinds: dict[str, str | None] = {}
    counts: dict[str, list[int]] = {}
    for change in changes:
        place = _place(change.path)
        if place is None:
            continue
        if place not in kinds:
            kinds[place] = _kind_of(engine, base, new, place)
        kind = kinds[place]
        if kind is None:
            files.append(change)
            continue
        count = counts.setdefault(place, [0, 0, 0, 0])
        count[("added", "removed", "modified").index(change.kind)] += 1
        count[3] += sum(length for _, length in change.extents)
    return files, [
        PlaceChange(
            place=place,
            kind=kinds[place] or "",
            added=added,
            removed=removed,
            modified=modified,
            changed_bytes=changed,
        )
        for place, (added, removed, modified, changed) in sorted(counts.items())
    ]


def _differing(engine: Engine, base: _Side, new: _Side, files: list[PathChange]) -> list[PathChange]:
    """Those that are a change to people, in the same order: not a time stamp, nor what an overlay or the runtime made.

    What happened in a volume, and whatever has other contents than before, is one without a look.
    """
    specs = [engine.ledger.get_spec(side.spec) for side in (base, new)]
    points: dict[str, frozenset[str]] = {}
    found = []
    for change in files:
        place = _place(change.path) or ""
        in_volume = place.startswith("volume ")
        if not (change.extents or (in_volume and change.kind != "modified")):
            seen = _file_change(engine, base, new, change)
            if seen.before == seen.after and not seen.changed_bytes:
                continue
            if not in_volume:
                replica = place.removeprefix("layer ")
                if replica not in points:
                    points[replica] = frozenset().union(*(layers.mount_points(spec, replica) for spec in specs))
                if layers.is_mount_point(seen, points[replica]):
                    continue
        found.append(change)
    return found


def _place(path: str) -> str | None:
    """ "volume data", "layer web"; None for what is not anybody's: overlay's work directories."""
    parts = path.split("/")
    if parts[0] == "volumes" and len(parts) > 2:
        return f"volume {parts[1]}"
    if parts[0] == "layers" and len(parts) > 3 and parts[2] == "upper":
        return f"layer {parts[1]}"
    return None


def _kind_of(engine: Engine, base: _Side, new: _Side, place: str) -> str | None:
    what, _, name = place.partition(" ")
    if what != "volume":
        return None
    for side in (new, base):
        root = engine.volumes.snapshot_path(side.snapshot) / "volumes" / name
        for kind in engine.kinds:
            if kind.claims(root):
                return kind.name
    return None


def _file_change(engine: Engine, base: _Side, new: _Side, change: PathChange) -> FileChange:
    place = _place(change.path) or ""
    in_layer = place.startswith("layer ")
    inner = "/" + "/".join(change.path.split("/")[3 if in_layer else 2 :])
    before = _look(engine, engine.volumes.snapshot_path(base.snapshot), change.path)
    after = _look(engine, engine.volumes.snapshot_path(new.snapshot), change.path)
    if in_layer:
        image = base.images.get(place.removeprefix("layer "))
        if before is None and image is not None:
            before = _look(engine, engine.images.rootfs(image), inner)
        before, after = _unless_whiteout(before), _unless_whiteout(after)
    kind = "added" if before is None else "removed" if after is None else "modified"
    return FileChange(
        place=place,
        path=inner,
        change=kind,
        before=before,
        after=after,
        changed_bytes=sum(length for _, length in change.extents)
        or (
            after.size_bytes if after and after.kind == "file" and kind != "removed" and not change.metadata_only else 0
        ),
        metadata_only=change.metadata_only,
    )


def _look(engine: Engine, root: Path, path: str) -> FileView | None:
    """What is at `path` below `root`, without following a link anywhere on the way."""
    directory, _, name = path.strip("/").rpartition("/")
    try:
        parent = engine.host.open_beneath(root, directory or ".", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(found.st_mode) else ""
    except OSError:
        return None
    finally:
        os.close(parent)
    base = engine.settings.uid_base
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "other")
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        kind = "whiteout"
    return FileView(
        kind=kind,
        size_bytes=found.st_size if kind == "file" else 0,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid - base,
        gid=found.st_gid - base,
        target=target,
    )


def _unless_whiteout(view: FileView | None) -> FileView | None:
    """A layer records that an image's file is gone by a whiteout in its place."""
    return None if view is not None and view.kind == "whiteout" else view
