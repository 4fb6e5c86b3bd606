"""A real daemon in a process of its own, with a root of its own, for tests and benchmarks.

It is the daemon that people run, on real btrfs, crun and nftables; only the places are others. Killed with SIGKILL it
leaves everything as a crash would, and `start` brings it back. `close` stops the daemon and leaves its root, so
that images need not be made again; `dismantle` also takes all that it has on the machine outside its root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from wye.api.client import Client, connect
from wye.errors import InvariantError, Unavailable
from wye.host import Host

# Tests that run side by side on one machine need a lane each: 0 to 4. It moves what daemons have of the machine's own.
LANE = int(os.environ.get("WYE_TEST_LANE") or "0")
ROOT = Path(os.environ.get("WYE_TEST_ROOT") or f"/var/lib/wye-tests{f'-{LANE}' if LANE else ''}")
"""What tests keep from run to run: a pool, images, a database."""
_START_S = 60.0
_STOP_S = 60.0


class Popen(Protocol):
    """What `Host.spawn` answers with, as far as it matters here."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    @property
    def returncode(self) -> Any: ...


class RunningDaemon:
    """`instance` (1 to 6 letters) keeps its interfaces and firewall table apart from other daemons'."""

    def __init__(
        self,
        root: Path,
        *,
        instance: str,
        uplinks: str = "100.72.0.0/16",
        pool_bytes: str = "6GiB",
        ports: tuple[int, int] = (21000, 28999),
        command: Sequence[str] = ("-m", "wye.daemon.main"),
        settings: dict[str, str] | None = None,
    ) -> None:
        if LANE:
            octets = uplinks.split(".", 2)
            uplinks = f"{octets[0]}.{int(octets[1]) + 10 * LANE}.{octets[2]}"
            instance = instance[:5] + "wxyz"[LANE - 1]
            ports = (10000 + 2000 * LANE, 11999 + 2000 * LANE)
        if not root.is_absolute():  # by their paths it knows which processes are its own
            raise InvariantError(f"{str(root)!r} is no absolute path")
        self.root, self.run, self.log = root, root / "run", root / "log"
        self.socket = self.run / "wye.sock"
        self.command = tuple(command)
        self.settings = {
            "WYE_ROOT": str(root),
            "WYE_RUN": str(self.run),
            "WYE_LOG": str(self.log),
            "WYE_INSTANCE": instance,
            "WYE_UPLINKS": uplinks,
            "WYE_POOL_BYTES": pool_bytes,
            "WYE_PORT_FIRST": str(ports[0]),
            "WYE_PORT_LAST": str(ports[1]),
            "WYE_COLLECT_INTERVAL_S": "3600",
            **(settings or {}),
        }
        self._host = Host()
        self._client: Client | None = None
        self.process: Popen | None = None

    def start(self, *arguments: str) -> Client:
        """Starts it and waits until it answers. Raises Unavailable with the log's end if it does not."""
        for directory in (self.root, self.run, self.log):
            directory.mkdir(parents=True, exist_ok=True)
        self._client = None
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WYE_")}
        with (self.log / "daemon.log").open("ab") as log:
            self.process = self._host.spawn(
                "test:daemon",
                [sys.executable, *self.command, *arguments],
                stdout=log,
                stderr=log,
                env={**inherited, **self.settings},
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Unavailable(f"the daemon ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                return self.client
            except Unavailable:
                time.sleep(0.02)
        raise Unavailable(f"the daemon does not answer:\n{self.log_tail()}")

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = connect(f"unix://{self.socket}")
        return self._client

    def new_client(self) -> Client:
        """A connection of its own, for another thread."""
        return connect(f"unix://{self.socket}")

    def kill(self) -> None:
        """As a crash would: SIGKILL, nothing else."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def wait_for_death(self, timeout_s: float) -> int | None:
        """Its exit status; None if it still lives then."""
        deadline = time.monotonic() + timeout_s
        while self.process is not None:
            status = self.process.poll()
            if status is not None:
                self.process = None
                return status
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)
        return None

    def close(self) -> None:
        """Stops the daemon; its services go on, its root stays."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            if self.wait_for_death(_STOP_S) is None:
                self.kill()

    def power_off(self) -> None:
        """What a power failure ends is ended: every process in a container and its conmon, mounts, namespaces,
        firewall rules, the pool's loop device, and all that lay in the run directory (a tmpfs, as a rule)."""
        self.kill()
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _STOP_S
        while self._processes() and time.monotonic() < deadline:
            time.sleep(0.01)
        for target in self._mounts():
            self._host.unmount("test:power-off", target, lazy=True)
        self._host.unmount("test:power-off", self.root / "pool")
        image = str(self.root / "pool.img")
        # Nothing is said of an image that is not there.
        found = self._host.run("test:power-off", ["losetup", "-n", "-O", "NAME", "-j", image], check=False)
        for device in found.text.split():
            self._host.run("test:power-off", ["losetup", "-d", device])
        table = ["nft", "delete", "table", "inet", self.settings["WYE_INSTANCE"]]
        self._host.run("test:power-off", table, check=False)
        links = self._host.run("test:power-off", ["ip", "-br", "link"]).text.splitlines()
        for name in (line.split("@")[0].split()[0] for line in links):
            if name.startswith(f"{self.settings['WYE_INSTANCE']}-"):
                self._host.run("test:power-off", ["ip", "link", "delete", name], check=False)
        route = ["ip", "route", "delete", "unreachable", self.settings["WYE_UPLINKS"]]
        self._host.run("test:power-off", route, check=False)
        self._host.remove_tree("test:power-off", self.run)

    def dismantle(self) -> None:
        """Stops it, and leaves nothing on the machine but its root. Also right for one that was never started."""
        self.close()
        self.power_off()

    def _processes(self) -> list[int]:
        """Each conmon of ours, and all below it."""
        parents: dict[int, int] = {}
        ours: set[int] = set()
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if words[0].endswith(b"conmon") and any(f"{self.run}/".encode() in word for word in words):
                ours.add(int(path.name))
        grown = True
        while grown:
            below = {pid for pid, parent in parents.items() if parent in ours} - ours
            ours |= below
            grown = bool(below)
        return sorted(ours)

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in reversed(lines) if line.split()[4].startswith(f"{self.run}/")]

    def log_tail(self, lines: int = 30) -> str:
        try:
            text = (self.log / "daemon.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def discard_everything(self) -> None:
        """All environments, forks first."""
        found = sorted(self.client.environments(), key=lambda each: each.source is None)
        for environment in found:
            self.client.discard(environment.name, confirm_production=True)
