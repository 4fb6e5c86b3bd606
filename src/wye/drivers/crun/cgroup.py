"""Control groups: which hierarchy this machine has, what is in a container's group, and ending all of it.

Three layouts exist. *Unified* (v2) is one tree. *Legacy* (v1) has a tree per controller. *Hybrid* has both, and there
crun refuses every limit while the v2 tree still owns a controller ("drop all controllers from cgroupv2"): `prepare`
mounts that controller's v1 tree, which takes it away from v2.

Moving a process into a group, which every start and every exec does, makes the kernel wait for a grace period: 10 to
30 ms on an idle machine. Mounted with `favordynmods` (Linux 6.0) the v2 tree does not wait, and forks and exits cost a
little more in exchange; measured: a start 45 ms without and 14 ms with it, an exec 24 and 7.5. `prepare` asks for it.

In a v1 tree a group counts as much as one process outside of all groups. All containers together would get what one of
the host's own processes gets: measured with thirty of those busy, a fork's start took four times as long as the same
program's on the host. So the group of all of them gets the weight of a few. With systemd's v2 tree every process is in
some group, and groups count alike.

crun makes and limits the groups; this module only reads them, kills in them, and removes what crun left.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
from enum import StrEnum
from pathlib import Path

from wye.drivers.crun import process
from wye.errors import Unavailable, Unsupported
from wye.host import MS_NOATIME, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT, Host, OperationFailed
from wye.interfaces import Finding

ROOT = Path("/sys/fs/cgroup")

_MS_RELATIME = 1 << 21
_log = logging.getLogger(__name__)
FAVOR = "favordynmods"
_MOUNT_FLAGS = {
    "ro": MS_RDONLY,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "relatime": _MS_RELATIME,
}
_NEEDED = ("cpu", "memory", "pids")
_ONE_WEIGHT, _WEIGHT_PER_PROCESSOR = 1024, 2048
"""Of a process outside of all groups, and of all containers together."""
_EMPTY_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.001


class Layout(StrEnum):
    UNIFIED = "unified"
    HYBRID = "hybrid"
    LEGACY = "legacy"


class Cgroups:
    """The groups below `parent` ("/wye/..."), a path in every hierarchy."""

    def __init__(self, host: Host, parent: str, root: Path = ROOT) -> None:
        self._host = host
        self._parent = parent
        self._root = root
        if (root / "cgroup.controllers").exists():
            self.layout = Layout.UNIFIED
        elif (root / "unified" / "cgroup.controllers").exists():
            self.layout = Layout.HYBRID
        else:
            self.layout = Layout.LEGACY

    def path(self, container_id: str) -> str:
        """As the OCI configuration wants it: absolute within each hierarchy."""
        return f"{self._parent}/{container_id}"

    # ------------------------------------------------------------ the machine

    def prepare(self) -> None:
        """Makes limits possible, and moves quick where the kernel can. Raises Unsupported where limits are not."""
        if self.layout is Layout.HYBRID:
            for controller in self._owned_by_unified():
                self._take_from_unified(controller)
        self._favor_moves()
        missing = self._missing()
        if missing:
            raise Unsupported(
                f"the cgroup controllers {', '.join(missing)} are not there", hint="boot with systemd's unified cgroups"
            )
        if self.layout is not Layout.UNIFIED:
            self._weigh()

    def diagnose(self) -> list[Finding]:
        """For `wye doctor`. Changes nothing."""
        owned = self._owned_by_unified() if self.layout is Layout.HYBRID else []
        missing = self._missing()
        if owned:
            text = f"on this hybrid machine the v2 tree owns {', '.join(owned)}, so crun refuses limits"
            fix = f"mount -t cgroup -o {owned[0]} cgroup {self._root / owned[0]} (done at the first start)"
            limits = Finding(subject="cgroup limits", level="warning", text=text, fix=fix)
        elif missing:
            text = f"no controller {', '.join(missing)}"
            limits = Finding(subject="cgroup limits", level="failure", text=text, fix="enable it at boot")
        else:
            limits = Finding(subject="cgroup limits", level="ok", text=f"cpu, memory and pids ({self.layout.value})")
        return [limits]

    @property
    def limits_swap(self) -> bool:
        """Whether a limit on memory and swap together can be set."""
        return self.layout is Layout.UNIFIED or (self._root / "memory" / "memory.memsw.limit_in_bytes").exists()

    def _favor_moves(self) -> None:
        tree = self._root / ("unified" if self.layout is Layout.HYBRID else "")
        mounted = remount(Path("/proc/self/mountinfo").read_text(), tree)
        if mounted is None or FAVOR in mounted[1]:
            return
        flags, options = mounted
        try:
            self._host.mount(
                "cgroup:favor", "none", tree, "none", flags=MS_REMOUNT | flags, options=",".join([*options, FAVOR])
            )
        except OperationFailed as error:
            # An older kernel, or one that lets nobody change it: starts are slower, nothing else.
            _log.info("cgroups stay slow to change: %s", error)

    def _weigh(self) -> None:
        """Leaves alone what somebody else has set."""
        group = self._root / "cpu" / self._parent.strip("/").split("/")[0]
        self._host.make_directory("cgroup:weigh", group)
        if _read(group / "cpu.shares") == f"{_ONE_WEIGHT}\n":
            _write(group / "cpu.shares", str(_WEIGHT_PER_PROCESSOR * (os.cpu_count() or 1)))

    def _owned_by_unified(self) -> list[str]:
        return (self._root / "unified" / "cgroup.controllers").read_text().split()

    def _take_from_unified(self, controller: str) -> None:
        target = self._root / controller
        hint = f"mount -t cgroup -o {controller} cgroup {target}, or boot with systemd's unified cgroups"
        try:
            target.mkdir(exist_ok=True)
            self._host.mount(
                "cgroup:cure", "cgroup", target, "cgroup", flags=MS_NOSUID | MS_NODEV | MS_NOEXEC, options=controller
            )
        except (OSError, OperationFailed) as error:
            if controller not in self._owned_by_unified():
                return  # Somebody else mounted it at the same moment.
            raise Unsupported(
                f"crun refuses limits while the cgroup v2 tree owns {controller}, and it could not be taken: {error}",
                hint=hint,
            ) from error

    def _missing(self) -> list[str]:
        if self.layout is Layout.UNIFIED:
            there = set((self._root / "cgroup.controllers").read_text().split())
        else:
            there = {name for name in _NEEDED if (self._root / name / "cgroup.procs").exists()}
        return [name for name in _NEEDED if name not in there]

    # ------------------------------------------------------------ one container

    def processes(self, path: str) -> list[int]:
        """The pids in a group; none if there is no such group."""
        return [int(pid) for pid in (_read(self._tracker(path) / "cgroup.procs") or "").split()]

    def kill(self, path: str) -> None:
        """SIGKILL to all in a group, and waits until it is empty. Raises Unavailable if it does not get empty."""
        self._host.at("delete:kill")
        with contextlib.suppress(FileNotFoundError):
            # In one go, forks under way included; kernels before 5.14 and v1 trees do not have it.
            _write(self._tracker(path) / "cgroup.kill", "1")
        deadline = self._host.monotonic() + _EMPTY_WITHIN_S
        while left := self.processes(path):
            if self._host.monotonic() > deadline:
                raise Unavailable(f"{len(left)} processes of {path} do not end", hint=f"look at /proc/{left[0]}/stack")
            for pid in left:
                process.send(process.identify(pid), signal.SIGKILL)
            self._host.sleep(_LOOK_EVERY_S)

    def out_of_memory(self, path: str) -> bool:
        """Whether the kernel killed a process of this group for want of memory."""
        name = "memory.events" if self.layout is Layout.UNIFIED else "memory.oom_control"
        counters = (line.split() for line in (_read(self._memory(path) / name) or "").splitlines())
        return any(key == "oom_kill" and count != "0" for key, count in counters)

    def memory_bytes(self, path: str) -> int | None:
        name = "memory.current" if self.layout is Layout.UNIFIED else "memory.usage_in_bytes"
        text = _read(self._memory(path) / name)
        return None if text is None else int(text)

    def erase(self) -> None:
        """Removes `parent` itself, for those who uninstall. A group that is in use stays."""
        for hierarchy in self._hierarchies():
            with contextlib.suppress(OSError):
                os.rmdir(hierarchy / self._parent.lstrip("/"))

    def remove(self, path: str) -> None:
        """Removes an empty group from every hierarchy."""
        self._host.at("delete:cgroup")
        for hierarchy in self._hierarchies():
            for below, _, _ in os.walk(hierarchy / path.lstrip("/"), topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(below)

    def _hierarchies(self) -> list[Path]:
        if self.layout is Layout.UNIFIED:
            return [self._root]
        return [Path(entry) for entry in os.scandir(self._root) if entry.is_dir(follow_symlinks=False)]

    def _tracker(self, path: str) -> Path:
        tree = {Layout.UNIFIED: "", Layout.HYBRID: "unified", Layout.LEGACY: "pids"}[self.layout]
        return self._root / tree / path.lstrip("/")

    def _memory(self, path: str) -> Path:
        return self._root / ("" if self.layout is Layout.UNIFIED else "memory") / path.lstrip("/")


def remount(mountinfo: str, tree: Path) -> tuple[int, list[str]] | None:
    """The flags and options with which the cgroup v2 `tree` is mounted: a remount forgets those it is not given.

    None if no v2 tree is mounted there. Pure; `mountinfo` as in proc(5).
    """
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        of_mount, of_tree = before.split(), after.split()
        if of_mount[4] == str(tree) and of_tree[0] == "cgroup2":
            flags = sum(flag for name, flag in _MOUNT_FLAGS.items() if name in of_mount[5].split(","))
            return flags, [option for option in of_tree[2].split(",") if option not in ("rw", "ro")]
    return None


def _read(path: Path) -> str | None:
    """What a control file says, or None if its group is not there, or goes while it is read."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def _write(path: Path, text: str) -> None:
    """Writes to a control file that is there. Raises FileNotFoundError, and never makes one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
