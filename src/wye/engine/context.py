"""What every verb is given: the world behind its protocols, and nothing global.

An `Engine` is made once, by the composition root. Verbs are functions in files of their own that take it
first. They are synchronous and may run in several threads at once: whoever changes an environment holds its
lock for the time (`engine.changing(name)`), whoever only reads takes none.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from wye.engine.events import Events
from wye.engine.turns import Turns
from wye.errors import BadRequest
from wye.host import Host
from wye.interfaces import Doors, FileKind, Finding, Images, Kind, Network, Runtime, Supervisor, Volumes
from wye.model import NAME, EnvironmentId, EnvironmentName, IntentId, SnapshotId, is_name
from wye.store.ledger import Ledger

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a site decides, as far as verbs care. `daemon.config` reads it; defaults are for a machine of one."""

    subnet: str = "10.89.0.0/16"
    resolver: str = ""
    """What containers with egress get as /etc/resolv.conf."""
    uid_base: int = 200000
    """The host's user id that is root in every container."""
    fork_disk_bytes: int | None = None
    warm_networks: int = 4
    """Networks kept ready for each project's forks."""
    shell_image: str = "wye/shell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    host: Host
    ledger: Ledger
    volumes: Volumes
    images: Images
    runtime: Runtime
    network: Network
    doors: Doors
    supervisor: Supervisor
    files: FileKind
    kinds: tuple[Kind, ...] = ()
    probes: tuple[tuple[str, Callable[[], list[Finding]]], ...] = ()
    """What doctor asks, by subject."""
    settings: Settings = Settings()
    events: Events = field(default_factory=Events)
    turns: Turns = field(default_factory=Turns)

    def changing(self, name: EnvironmentName) -> AbstractContextManager[None]:
        """Holds `name` for a change of it. One at a time; others wait. The same thread may hold it again."""
        return self.turns.one(name)

    def whole(self, name: EnvironmentName) -> AbstractContextManager[None]:
        """For who takes a snapshot of `name` without holding it: waits while a merge lands there, for its bytes are
        neither before it nor after it then. Keep it for the snapshot only."""
        return self.turns.whole(name)

    def halfway(self, name: EnvironmentName) -> AbstractContextManager[None]:
        """Around changes of `name` that are only right together. The caller holds it."""
        return self.turns.halfway(name)

    def quiet(self) -> AbstractContextManager[None]:
        """Holds everything: no verb changes any environment meanwhile. For collect."""
        return self.turns.all()


def new_environment_id() -> EnvironmentId:
    return EnvironmentId(_random())


def new_snapshot_id() -> SnapshotId:
    return SnapshotId(_random())


def new_intent_id() -> IntentId:
    return IntentId(_random())


def environment_name(text: str) -> EnvironmentName:
    """`text` as a name for an environment. Raises BadRequest."""
    if not is_name(text):
        raise BadRequest(
            f"{text!r} cannot name an environment",
            hint=f"1 to 63 lower-case letters, digits, '-' or '_', without a slash or a dot: {NAME.pattern}",
        )
    return EnvironmentName(text)


def _random() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))
