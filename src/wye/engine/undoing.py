"""What takes a merge back in the target's databases, kept beside its bytes before anything is committed there.

A kind tells the engine exactly what it is about to write (`ServerKind.apply`, `keep`); that is on disk before the
database's own commit. So a merge that fails half-way, a daemon that is killed half-way, and a revert months later all
take back what the merge did and nothing else: what others wrote meanwhile is not in it. The files lie in `.wye-undo` at
the environment's root, where no container can look; the snapshot that the merge's revision has holds them too. They
bear the name of the intent, so that nobody takes an earlier merge's for his own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from wye.engine import comparing, records, servers
from wye.engine.context import Engine
from wye.errors import Unavailable
from wye.interfaces import Changes, Endpoint
from wye.merge.conflict import Conflict, Side
from wye.merge.refused import Refused
from wye.model import Environment, EnvironmentId, IntentId, SnapshotId, Spec

_DIRECTORY = ".wye-undo"
_PATHS = "paths"
_ATTEMPTS = 5
LOCK_TIMEOUT = "lock-timeout"
"""A conflict that may be gone in a moment: somebody has not given up a lock."""


def forget(engine: Engine, environment: EnvironmentId) -> None:
    """What an earlier merge kept in the live bytes. Its revision's snapshot still has it."""
    engine.host.remove_tree("undo:forget", engine.volumes.environment_path(environment) / _DIRECTORY)


def settle_copy(engine: Engine, root: Path) -> None:
    """After bytes were made from a merge's own snapshot: its files were all in place, and nothing is under way."""
    engine.files.recover(root, finish=True)
    engine.host.remove_tree("undo:forget", root / _DIRECTORY)


def keeper(
    engine: Engine, environment: EnvironmentId, intent: IntentId, volume: str, *, attempt: int | None = None
) -> Callable[[bytes], None]:
    """Keeps what takes the changes of one volume back; durable when it returns. `attempt`: to take them back, and what
    is kept takes that back."""
    directory = engine.volumes.environment_path(environment) / _DIRECTORY / intent
    name = _name(volume, attempt)

    def keep(data: bytes) -> None:
        engine.host.make_directory("undo:make-directory", directory, mode=0o700)
        engine.host.write_file("undo:keep", directory / name, data, mode=0o600)
        _make_durable(engine, directory / name)
        _make_durable(engine, directory)

    return keep


def keep_paths(engine: Engine, environment: EnvironmentId, intent: IntentId, paths: Iterable[str]) -> None:
    """Which paths the merge writes; a byte of one that is no text is kept as it is."""
    directory = engine.volumes.environment_path(environment) / _DIRECTORY / intent
    engine.host.make_directory("undo:make-directory", directory, mode=0o700)
    engine.host.write_file("undo:keep", directory / _PATHS, json.dumps(sorted(paths)).encode(), mode=0o600)


def kept(root: Path, intent: IntentId, volume: str, *, attempt: int | None = None) -> bytes | None:
    """What was kept for a volume. `root`: an environment's or a snapshot's; `attempt` as in `keeper`."""
    try:
        return (root / _DIRECTORY / intent / _name(volume, attempt)).read_bytes()
    except FileNotFoundError:
        return None


def _name(volume: str, attempt: int | None) -> str:
    return f"volume-{volume}" if attempt is None else f"back-{attempt}-{volume}"


def kept_paths(root: Path, intent: IntentId) -> frozenset[str]:
    try:
        return frozenset(json.loads((root / _DIRECTORY / intent / _PATHS).read_bytes()))
    except FileNotFoundError:
        return frozenset()


def take_back(engine: Engine, environment: Environment, spec: Spec, intent: IntentId, *, verb: str) -> list[str]:
    """Everything that was kept and came to its commit, out of the environment's databases, the last one first. What
    others have written to the same rows and keys since stays: a line for each. Once more is harmless. Raises Refused,
    Unavailable, after all the other databases were seen to."""
    stays: list[str] = []
    trouble: Exception | None = None
    for store in reversed(servers.stores_in(engine, environment, spec)):
        try:
            stays += _take_back(engine, environment, spec, intent, store, verb)
        except Exception as error:  # noqa: BLE001 - raised below; a bug in one must not keep the others as they are
            trouble = trouble or error
    for line in stays:
        records.emit(engine, "undo-kept", environment.name, what=line)
    if trouble is not None:
        raise trouble
    return stays


def _take_back(
    engine: Engine, environment: Environment, spec: Spec, intent: IntentId, store: servers.Store, verb: str
) -> list[str]:
    root = engine.volumes.environment_path(environment.id)
    data = kept(root, intent, store.volume)
    if data is None:
        return []
    back: list[bytes] = []  # of earlier attempts, each perhaps cut short between the commits of two databases
    while (one := kept(root, intent, store.volume, attempt=len(back))) is not None:
        back.append(one)
    engine.host.at(f"{verb}:take-back")
    with servers.serving(engine, environment, spec, store) as target:
        before = comparing.at_revision(engine, environment, environment.revision)
        earlier = partial(server_before, engine, before, store)
        changes = store.kind.load(data, place=store.place, target=target, back=back, before=earlier)
        if not changes:
            return []
        keep = keeper(engine, environment.id, intent, store.volume, attempt=len(back))
        return _apply_back(store, target, changes, spec, keep)


@contextmanager
def server_before(engine: Engine, before: comparing.Side, store: servers.Store) -> Iterator[Endpoint]:
    """A throwaway server on the bytes before a merge, for what only they have."""
    own, images = before.environment, before.images
    with servers.throwaway(engine, own, before.spec, images, before.snapshot, store) as found:
        yield found.endpoint


def _apply_back(
    store: servers.Store, target: Endpoint, changes: Changes, spec: Spec, keep: Callable[[bytes], None]
) -> list[str]:
    """What stays, resolved as "ours"."""
    given: dict[str, Conflict] = {}
    for attempt in range(_ATTEMPTS):
        try:
            resolutions = dict.fromkeys(given, str(Side.OURS))
            store.kind.apply(target, changes, comparing.terms(spec, resolutions), keep)
            break
        except Refused as error:
            open_ones = {
                each.id: each for each in error.conflicts if Side.OURS in each.choices and each.id not in given
            }
            passing = all(each.kind == LOCK_TIMEOUT for each in error.conflicts)
            if attempt == _ATTEMPTS - 1 or not (open_ones or passing):
                raise
            given |= open_ones
    return [_told(each) for each in given.values()]


def _told(conflict: Conflict) -> str:
    key = ", ".join("null" if part is None else part for part in conflict.key)
    what = f"{conflict.place} ({key}) {conflict.column}".strip()
    return f"{what} stays as it is: {conflict.detail or 'it was written to after the merge'}"


def remove_new_volumes(engine: Engine, environment: EnvironmentId, before: SnapshotId) -> None:
    """Volumes that a merge made: those that were not there before it."""
    live, was = (path / "volumes" for path in (engine.volumes.environment_path(environment),
                                               engine.volumes.snapshot_path(before)))  # fmt: skip
    there = {path.name for path in was.iterdir()} if was.exists() else set()
    for path in sorted(live.iterdir()) if live.exists() else []:
        if path.name not in there:
            engine.host.remove_tree("undo:remove-volume", path)


def _make_durable(engine: Engine, path: Path) -> None:
    engine.host.at("undo:sync")
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        raise Unavailable(f"{path} could not be written: {error.strerror}") from error
