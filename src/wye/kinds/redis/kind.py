"""Redis and Valkey as the engine knows them: this room's parts behind `interfaces.ServerKind`.

Two servers that nobody writes to are compared, both over snapshots; they stay up until the merge is over, because a
plan is made against the target as it is at that moment and takes the values from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from wye.errors import InvariantError, Unavailable, WyeError
from wye.host import Host
from wye.interfaces import Applied, Changes, Endpoint, PathChange, Served, Terms
from wye.kinds.redis import apply as merging
from wye.kinds.redis import told
from wye.kinds.redis.aof import Loaded, touched_keys
from wye.kinds.redis.changes import RedisChanges, changes, page, stat
from wye.kinds.redis.connection import Client, ConnectionLost, require_supported
from wye.kinds.redis.plan import RedisPlan, from_json, inverse, plan, to_json
from wye.kinds.redis.server import settings, settle
from wye.kinds.redis.undo import is_in_effect, plan_undo, undo_page, undo_stat
from wye.kinds.redis.volume import RedisVolume
from wye.merge.conflict import Decisions, resolutions_from_json
from wye.merge.foreign import is_passing, refusals
from wye.merge.refused import Refused

_PORT = 6379
_POLL_S = 0.003
_READY_S = 60.0
_PASSWORDS = ("REDIS_PASSWORD", "VALKEY_PASSWORD")


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """Satisfies `interfaces.Changes`. Usable as long as the two servers are up."""

    place: str
    found: RedisChanges
    base: Client
    theirs: Client
    kind: str = "redis"

    def __bool__(self) -> bool:
        return bool(self.found.keys) or self.found.functions_differ

    def stat(self) -> dict[str, Any]:
        return dict(stat(self.found))

    def page(self, offset: int, limit: int) -> dict[str, Any]:
        return {"keys": page(self.base, self.theirs, self.found, offset=offset, limit=limit)}

    def to_json(self) -> bytes:
        return msgspec.json.encode(self.stat())


@dataclass(frozen=True, slots=True)
class KeyUndo:
    """Satisfies `interfaces.Changes`: what takes an earlier application back. Needs no servers."""

    place: str
    writes: RedisPlan
    kind: str = "redis"

    def __bool__(self) -> bool:
        return bool(self.writes.writes)

    def stat(self) -> dict[str, Any]:
        return dict(undo_stat(self.writes))

    def page(self, offset: int, limit: int) -> dict[str, Any]:
        return {"keys": undo_page(self.writes, offset=offset, limit=limit)}

    def to_json(self) -> bytes:
        return to_json(self.writes)


class RedisKind(RedisVolume):
    """Satisfies `interfaces.ServerKind`."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._host = host

    def throwaway_argv(self, program: str | None, root: Path, *, durable: bool, served: Served) -> tuple[str, ...]:
        files = told.resolve(self._host, root, served)
        told.refuse_elsewhere(files, served)
        return (program or "redis-server", *settings(files))

    def await_ready(self, server: Endpoint, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            client = self._client(server)
            try:
                answer = client.execute("PING")
                if answer == b"PONG":
                    return
                said = f"it says {str(answer)[:100]!r}"
            except WyeError as error:  # nobody listens yet, or it is loading
                said = error.message
            finally:
                client.close()
            if time.monotonic() > deadline:
                raise Unavailable(f"redis does not answer after {timeout_s:g} s: {said}")
            time.sleep(_POLL_S)

    def settle(self, server: Endpoint) -> bytes:
        client = self._client(server)
        try:
            return told.to_json(settle(self._host, client, server.root, server.target))
        finally:
            client.close()

    def tell(self, server: Endpoint) -> bytes:
        client = self._client(server)
        try:
            found = told.ask(client)
        except Unavailable:  # one that does not say it starts all the same
            return b""
        finally:
            client.close()
        return told.to_json(replace(found, saved=told.dump_of(self._host, server.root, found, server.target)))

    def hasten(self, root: Path) -> None:
        """It loads what is there and syncs nothing for that."""

    def prepare_fork(self, server: Endpoint) -> None:
        """A fork's Redis needs nothing: what it writes from now on is told by its own file."""
        self.await_ready(server, _READY_S)

    def read(
        self,
        base: Endpoint,
        theirs: Endpoint,
        freeze: Callable[[], list[PathChange]],
        *,
        place: str,
        settings: Terms,
        descends: bool = True,
    ) -> Changes:
        before, after = self._client(base), self._client(theirs)
        for client in (before, after):
            require_supported(client)
        self._refuse_foreign(freeze(), told.ask(after), theirs.target, place)
        touched = touched_keys(
            self._host, Loaded(before, base.root, base.target), Loaded(after, theirs.root, theirs.target)
        )
        return KeyChanges(place, changes(before, after, touched), before, after)

    def _refuse_foreign(self, changed: Sequence[PathChange], files: told.Files, target: str, place: str) -> None:
        """Raises Refused for files beside the keys: its users, its settings."""
        folder = told.folder(files, target)
        above = f"{folder}/" if folder else ""
        found = [
            change.path
            for change in changed
            if not (change.metadata_only or is_passing(change.path) or f"{change.path}/" == above)
            and not (change.path.startswith(above) and files.is_own(change.path.removeprefix(above)))
        ]
        if found:
            raise Refused(refusals(place, found))

    def unknown_tables(self, server: Endpoint, settings: Terms) -> frozenset[str]:
        return frozenset(map(str, (*(settings.settings.get("table") or {}), *(settings.settings.get("delta") or ()))))

    def apply(
        self, target: Endpoint, changes: Changes, terms: Terms, keep: Callable[[bytes], None] | None = None
    ) -> Applied:
        client = self._client(target)
        try:
            began = time.monotonic()
            decisions = Decisions(resolutions_from_json(terms.resolutions))
            planned = _planned(client, changes, decisions, terms)
            if planned.conflicts:
                raise Refused(planned.conflicts)
            if not terms.dry_run:
                if keep is not None:
                    keep(to_json(inverse(planned)))
                try:
                    merging.apply(changes.place, client, planned)
                except ConnectionLost:
                    client.close()
                    client = self._client(target)
                    if not merging.is_applied(client, planned):
                        raise
            seconds = {"keys": time.monotonic() - began}
            return Applied(seconds=seconds, items=len(planned.writes), settled=frozenset(decisions.settled))
        finally:
            client.close()

    def load(
        self,
        kept: bytes,
        *,
        place: str,
        target: Endpoint | None = None,
        back: Sequence[bytes] = (),
        before: Callable[[], AbstractContextManager[Endpoint]] | None = None,
    ) -> Changes:
        writes = from_json(kept)
        if target is None:
            return KeyUndo(place, writes)
        client = self._client(target)
        try:
            is_back = any(is_in_effect(client, from_json(each)) for each in back)
            return KeyUndo(place, RedisPlan() if is_back or not is_in_effect(client, writes) else writes)
        finally:
            client.close()

    def _client(self, server: Endpoint) -> Client:
        return Client(self._host, lambda: server.dial(_PORT), password=_password(server))


def _planned(client: Client, changes: Changes, decisions: Decisions, terms: Terms) -> RedisPlan:
    if isinstance(changes, KeyUndo):
        return plan_undo(changes.place, client, changes.writes, decisions)
    if not isinstance(changes, KeyChanges):
        raise InvariantError(f"{changes.kind} changes given to redis")
    by_field = frozenset(str(name) for name in terms.settings.get("fields", ()))
    return plan(
        changes.place,
        changes.base,
        client,
        changes.theirs,
        changes.found,
        decisions,
        lambda key: key.decode(errors="surrogateescape") in by_field,
    )


def _password(server: Endpoint) -> str | None:
    """As the service was told: on its command line, or in the variables that images know."""
    argv: Sequence[str] = server.argv
    for word, value in pairwise(argv):
        if word == "--requirepass":
            return value or None
    return next((server.env[name] for name in _PASSWORDS if server.env.get(name)), None)
