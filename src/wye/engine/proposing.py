"""What a merge would do: the changes of one side since the base, against the other side as it is now.

A `Proposal` holds all of it: spec, databases, files, and every conflict that can be known before a database was tried.
It is read once and then rehearsed, applied, or shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec

from wye.engine import comparing, plan
from wye.engine.comparing import Side, StoreChanges
from wye.engine.context import Engine
from wye.errors import BadRequest, Unsupported
from wye.interfaces import FilePlan, PathChange
from wye.merge.conflict import Conflict, Decisions, resolutions_from_json
from wye.merge.conflict import Side as Chosen
from wye.merge.spec import merge_spec
from wye.model import Image, MountKind, Service, Spec, replica_names

_UNMERGEABLE = ("mysql", "mysql-server", "mariadb", "percona", "percona-server", "mongo")
"""By the image's name."""
_MARKS = {"ibdata1": "mysql", "aria_log_control": "mariadb", "WiredTiger": "mongo"}
"""By a file in the volume, whatever the image is called."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`spec` and `images`: merged. `stores`: databases that theirs changed. `files`: planned against ours."""

    base: Side
    ours: Side
    theirs: Side
    spec: Spec
    images: dict[str, Image]
    stores: list[StoreChanges]
    paths: Sequence[PathChange]
    """What theirs changed in files since base."""
    files: FilePlan
    conflicts: list[Conflict] = field(default_factory=list)
    back: bool = False
    """Theirs is what base was before a merge."""
    settled: frozenset[str] = frozenset()
    """Ids of resolutions that took effect."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What the project says of merging and means nothing in any of its database servers."""
        unknown = [each.unknown for each in self.stores]
        return tuple(
            f"x-wye: merge: no database server has {name!r}; it counts for SQLite files only"
            for name in sorted(frozenset.intersection(*unknown) if unknown else ())
        )

    @property
    def changes_files_or_spec(self) -> bool:
        """Whether ours lacks anything of theirs besides databases."""
        return bool(self.files.places()) or self.spec != self.ours.spec or self.images != self.ours.images

    def restarts(self) -> list[str]:
        """Services that must be started anew: their spec, image, layer or mounted files change."""
        changed = {
            name
            for name, what in plan.service_changes(self.ours.spec, self.ours.images, self.spec, self.images).items()
            if what in ("created", "changed")
        }
        for place in self.files.disturbed():
            kind, _, name = place.partition(" ")
            for key, service in self.spec.services.items():
                if _is_touched(service, kind, name):
                    changed.add(key)
        return [name for name in plan.start_order(self.spec) if name in changed]


def _is_touched(service: Service, kind: str, name: str) -> bool:
    if kind == "layer":
        return name in replica_names(service)
    return any(mount.source == name for mount in service.mounts)


def propose(
    engine: Engine,
    held: ExitStack,
    base: Side,
    ours: Side,
    theirs: Side,
    resolutions: Mapping[str, Any],
) -> Proposal:
    """Reads what theirs changed since base. `held` as in `comparing.read_stores`. Raises Unsupported for a database
    that cannot be merged at all."""
    _refuse_unknown_databases(engine, theirs)
    stores = comparing.stores_of(engine, theirs)
    read = comparing.read_stores(engine, held, base, theirs, stores, rules=ours.spec)
    paths = comparing.file_changes(engine, base, theirs, stores)
    _refuse_other_clusters(paths)
    return assemble(engine, base, ours, theirs, read, paths, resolutions)


def assemble(
    engine: Engine,
    base: Side,
    ours: Side,
    theirs: Side,
    read: list[StoreChanges],
    paths: Sequence[PathChange],
    resolutions: Mapping[str, Any],
    *,
    back: bool = False,
) -> Proposal:
    """A proposal of changes that were read. `back` as in `FileKind.plan`."""
    given = comparing.by_conflict(resolutions)
    files = engine.files.plan(
        comparing.bytes_of(engine, base),
        comparing.bytes_of(engine, ours),
        comparing.bytes_of(engine, theirs),
        paths,
        given,
        comparing.terms(ours.spec).settings,
        back=back,
    )
    decisions = Decisions(resolutions_from_json(given))
    spec, images = _merge_specs(base, ours, theirs, decisions)
    unreadable = [conflict for each in read for conflict in each.refused]
    conflicts = [*decisions.open, *unreadable, *files.conflicts]
    settled = files.settled | decisions.settled
    return Proposal(base, ours, theirs, spec, images, read, paths, files, conflicts, back, settled)


def settled(engine: Engine, proposal: Proposal, resolutions: Mapping[str, Any]) -> tuple[Proposal, dict[str, Any]]:
    """The proposal with the default resolution spelled out, if there is one, and the resolutions that it then has."""
    given = with_default(proposal.conflicts, resolutions)
    if given == dict(resolutions):
        return proposal, given
    sides = (proposal.base, proposal.ours, proposal.theirs)
    return assemble(engine, *sides, proposal.stores, proposal.paths, given, back=proposal.back), given


def with_default(conflicts: Sequence[Conflict], resolutions: Mapping[str, Any]) -> dict[str, Any]:
    """Resolutions completed by the default that they name, for each conflict that allows it."""
    default = resolutions.get("default")
    if default is None:
        return dict(resolutions)
    if default not in (str(Chosen.OURS), str(Chosen.THEIRS)):
        raise BadRequest(f"the default resolution cannot be {default!r}", hint="ours or theirs")
    filled = {
        conflict.id: str(default)
        for conflict in conflicts
        if any(str(choice) == default for choice in conflict.choices)
    }
    return {**filled, **resolutions}


def _merge_specs(base: Side, ours: Side, theirs: Side, decisions: Decisions) -> tuple[Spec, dict[str, Image]]:
    """The merged spec, with the image of whichever side changed it. Raises BadRequest for a value given that makes no
    spec."""
    merged, _ = merge_spec(_tree(base.spec), _tree(ours.spec), _tree(theirs.spec), decisions)
    try:
        spec = msgspec.convert(merged, Spec)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the value given for a setting does not fit: {error}") from error
    images = {}
    for name in spec.services:
        mine, was, other = (side.images.get(name) for side in (ours, base, theirs))
        image = other if mine is None or (mine == was and other is not None) else mine
        if image is None:
            raise BadRequest(f"service {name!r} has no image on either side")
        images[name] = image
    return spec, images


def _tree(spec: Spec) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(spec)
    return tree


def _refuse_other_clusters(paths: Sequence[PathChange]) -> None:
    """Of two PostgreSQL data directories in one volume only one is read by its server."""
    for change in paths:
        if change.path.startswith("volumes/") and change.path.endswith("/global/pg_control"):
            folder = change.path.removeprefix("volumes/").removesuffix("/global/pg_control")
            raise Unsupported(
                f"the fork changed a second PostgreSQL data directory in a volume, {folder}",
                hint="keep one in each volume: 'wye merge' reads the first",
            )


def _refuse_unknown_databases(engine: Engine, side: Side) -> None:
    """A database that nobody here understands must not be merged as files: its files are not its data."""
    volumes = engine.volumes.snapshot_path(side.snapshot) / "volumes"
    for name, service in side.spec.services.items():
        image = re.split("[:@]", (service.image or "").rsplit("/", 1)[-1])[0]
        found = image if image in _UNMERGEABLE else None
        for mount in service.mounts:
            if mount.kind is MountKind.VOLUME and found is None:
                marks = (each for mark, each in _MARKS.items() if os.path.lexists(volumes / mount.source / mark))
                found = next(marks, None)
        if found is not None:
            raise Unsupported(
                f"service {name!r} runs {found}, whose rows cannot be merged yet",
                hint="merge without it is not offered either: half of an environment is no merge",
            )
