"""Packet forwarding on the host: turned on, without making a router of a machine that was none.

`ip_forward` is one switch for all links. If it was off, the links that are there when wye turns it on are remembered
as guarded: the rules drop what would now pass between two of them. Links that others bring later (a container
engine's bridges) are not guarded, so nobody else is cut off; and a machine that forwards anyway is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from wye.drivers.network.settings import Settings
from wye.host import Host

_SWITCH = "ip_forward"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Guard(msgspec.Struct, frozen=True):
    """Valid until the machine restarts, as the switch is."""

    boot: str
    links: frozenset[str]


class Forwarding:
    """The switch, and the file at `path` that says whether we turned it on."""

    def __init__(self, host: Host, path: Path) -> None:
        self._host = host
        self._path = path

    def guarded(self, links: Callable[[], frozenset[str]]) -> frozenset[str]:
        """The links to guard: remembered before the switch is touched, so that no kill can lose them."""
        remembered = self._read()
        if remembered is not None:
            return remembered
        if self.is_on():
            return frozenset()
        guard = Guard(_BOOT.read_text().strip(), links() - {"lo"})
        self._host.write_file("network:remember-guarded", self._path, msgspec.json.encode(guard))
        return guard.links

    def enable(self) -> None:
        if not self.is_on():
            self._turn("network:forward", "1")

    def restore(self, links: frozenset[str]) -> None:
        """Turns it off again if we turned it on and nobody came since who may rely on it."""
        remembered = self._read()
        if remembered is not None and links - {"lo"} <= remembered:
            self._turn("network:stop-forwarding", "0")
        self._path.unlink(missing_ok=True)

    def is_on(self) -> bool:
        """Whether this machine forwards packets."""
        with closing(Settings(self._host)) as settings:
            return settings.read(_SWITCH) != "0"

    def _turn(self, label: str, value: str) -> None:
        with closing(Settings(self._host)) as settings:
            settings.write(label, {_SWITCH: value})

    def _read(self) -> frozenset[str] | None:
        try:
            guard = msgspec.json.decode(self._path.read_bytes(), type=Guard)
        except FileNotFoundError:
            return None
        return guard.links if guard.boot == _BOOT.read_text().strip() else None
