"""Which paths a comparison looks at, and their states on each side: what `merge.files` asks to be given.

`Volumes.changes` names the paths that differ between base and theirs; the target's state is needed there, in the
directories above, and below every directory that theirs removed, replaced or made opaque. Content is read only
where it may differ.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from wye.errors import Exhausted
from wye.interfaces import PathChange
from wye.kinds.files.tree import Place, Side, place_of
from wye.merge.files import FileState, FileType

PATHS_LIMIT = 500_000


@dataclass(slots=True)
class PlaceChanges:
    """The changed paths of one place, relative to it; True: only the metadata differs."""

    place: Place
    paths: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Trees:
    """The three sides of one place, by path relative to it."""

    base: dict[str, FileState] = field(default_factory=dict)
    ours: dict[str, FileState] = field(default_factory=dict)
    theirs: dict[str, FileState] = field(default_factory=dict)


def sort_out(changes: Iterable[PathChange]) -> list[PlaceChanges]:
    """By place, in the order of their names. What lies in no volume and no layer is left out."""
    found: dict[str, PlaceChanges] = {}
    for change in changes:
        place = place_of(change.path)
        if place is None:
            continue
        group = found.setdefault(place.prefix, PlaceChanges(place))
        group.paths[place.inner(change.path)] = change.metadata_only
    return [found[prefix] for prefix in sorted(found)]


def read_trees(group: PlaceChanges, base: Side, ours: Side, theirs: Side) -> Trees:
    """The states that a merge of `group` needs. Raises Exhausted if the target has too many paths below a directory
    that goes away."""
    place, trees = group.place, Trees()
    wanted = {path: not metadata_only for path, metadata_only in group.paths.items()}
    for path in list(wanted):
        above = posixpath.dirname(path)
        while above:
            wanted.setdefault(above, False)
            above = posixpath.dirname(above)
    for path, digest in wanted.items():
        _note(trees.base, path, base.seen(place.path(path), digest=digest))
        _note(trees.ours, path, ours.seen(place.path(path), digest=digest))
        _note(trees.theirs, path, theirs.seen(place.path(path), digest=digest))
    for path in list(wanted):
        mine, other = trees.ours.get(path), trees.theirs.get(path)
        if mine is None or mine.type is not FileType.DIRECTORY or path == ".":
            continue
        if other is None or other.type is not FileType.DIRECTORY:
            _read_below(trees, place, path, ours)
        elif other.opaque and not mine.opaque:
            _read_hidden(trees, place, path, base, ours, theirs)
    return trees


def _read_below(trees: Trees, place: Place, directory: str, ours: Side) -> None:
    """What the target has below a directory that goes away: that it is there is enough."""
    for path in ours.below(place.path(directory)):
        inner = place.inner(path)
        if inner not in trees.ours:
            _note(trees.ours, inner, ours.own(path, digest=False))
        _check_room(trees, place)


def _read_hidden(trees: Trees, place: Place, directory: str, base: Side, ours: Side, theirs: Side) -> None:
    """Theirs emptied a directory of the image (made it opaque): what the target wrote over the image there counts as a
    change of a file that theirs removed."""
    for path in ours.below(place.path(directory)):
        inner = place.inner(path)
        state = ours.own(path)
        if inner in trees.ours or state is None or state.type is FileType.WHITEOUT:
            continue
        _note(trees.ours, inner, state)
        _note(trees.base, inner, base.seen(path))
        _note(trees.theirs, inner, theirs.seen(path))
        _check_room(trees, place)


def _note(tree: dict[str, FileState], path: str, state: FileState | None) -> None:
    if state is not None:
        tree[path] = state


def _check_room(trees: Trees, place: Place) -> None:
    if len(trees.ours) > PATHS_LIMIT:
        raise Exhausted(
            f"{place.name}: more than {PATHS_LIMIT} paths lie below what the fork removed",
            hint="remove the directory in the target itself, then merge again",
        )
