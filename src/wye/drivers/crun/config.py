"""What the OCI runtime is told: a ContainerPlan and what was found out for it become `config.json`. Pure.

Guarantees, whatever the plan says: every namespace is the container's own (but for the network's, given by path), its
root is an unprivileged uid of the host, the default system-call filter applies, /proc is masked, and no path of the
host appears but those given as binds.

/sys is a read-only tmpfs with the few directories that programs need. The whole of it, which runtimes otherwise bind
from the host when the network namespace is not the container's own, would show the host's devices, mounts and
control groups.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from wye.drivers.crun.users import IDS, Identity
from wye.errors import BadRequest
from wye.interfaces import ContainerPlan
from wye.model import Limits

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_PIDS = 4096
DEFAULT_SHM_BYTES = 64 << 20
INIT_TARGET = "/dev/wye-init"
"""Below /dev, which is a tmpfs: a mount point in the root file system would become part of the layer."""

_CPU_PERIOD_US = 100_000
_YIELDING_SHARES = 256
"""Of the processor while it is wanted by several; 1024 is everybody's."""
_UNLIMITED = 2**64 - 1
_NAMESPACES = ("user", "pid", "ipc", "uts", "mount", "cgroup")
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_RLIMITS = frozenset(
    ("as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
     "rttime", "sigpending", "stack")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A path of the host, ours or made safe by us, that appears at `target` in the container."""

    path: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found out for a plan before its configuration can be written."""

    rootfs: str
    cgroup: str
    uid_base: int
    sources: tuple[Source, ...]
    """Volumes and files."""
    system: tuple[str, ...] = ()
    """Directories below /sys that the host has and the container may see."""
    cgroup_mount: bool = False
    limits_swap: bool = True
    filter: bytes = b"{}"
    """JSON of `linux.seccomp`."""
    annotations: Mapping[str, str] | None = None


def process(
    argv: Sequence[str],
    env: Mapping[str, str],
    working_dir: str,
    tty: bool,
    identity: Identity,
    capabilities: Iterable[str],
    *,
    rlimits: Sequence[Mapping[str, Any]],
    no_new_privileges: bool,
) -> dict[str, Any]:
    """The OCI `process`, of a container or of an exec in one.

    Only root holds capabilities; for others they only bound what a setuid program gets.
    """
    bounding = sorted(capabilities)
    held = bounding if identity.uid == 0 else []
    complete = {"PATH": DEFAULT_PATH, "HOME": identity.home, **({"TERM": "xterm"} if tty else {}), **env}
    return {
        "terminal": tty,
        "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups)},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in complete.items()],
        "cwd": working_dir or "/",
        "capabilities": {"bounding": bounding, "effective": held, "permitted": held},
        "noNewPrivileges": no_new_privileges,
        "rlimits": list(rlimits),
    }


def configuration(plan: ContainerPlan, found: Found, process: Mapping[str, Any]) -> bytes:
    """`config.json`. Raises BadRequest for a mount target that may not be."""
    mapping = [{"containerID": 0, "hostID": found.uid_base, "size": IDS}]
    network: dict[str, str] = {"type": "network"}
    if plan.namespace is not None:
        network["path"] = plan.namespace
    return msgspec.json.encode(
        {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": found.rootfs, "readonly": plan.read_only},
            "hostname": plan.hostname,
            "mounts": _mounts(plan, found),
            "annotations": dict(found.annotations or {}),
            "linux": {
                "cgroupsPath": found.cgroup,
                "namespaces": [*({"type": kind} for kind in _NAMESPACES), network],
                "uidMappings": mapping,
                "gidMappings": mapping,
                "resources": resources(plan.limits, limits_swap=found.limits_swap, yields=plan.yields),
                "sysctl": {
                    name: value
                    for name, value in plan.sysctls.items()
                    if plan.namespace is None or not name.startswith("net.")
                },
                "maskedPaths": list(_MASKED),
                "readonlyPaths": list(_READ_ONLY),
                "seccomp": msgspec.Raw(found.filter),
            },
        }
    )


def resources(limits: Limits, *, limits_swap: bool, yields: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "pids": {"limit": limits.pids or DEFAULT_PIDS},
    }
    if limits.memory_bytes is not None:
        made["memory"] = {"limit": limits.memory_bytes}
        if limits_swap:
            # Memory and swap together: equal means that nothing is swapped.
            made["memory"]["swap"] = limits.memory_bytes
    cpu = {"shares": _YIELDING_SHARES} if yields else {}
    if limits.cpus is not None:
        cpu |= {"quota": max(1000, int(limits.cpus * _CPU_PERIOD_US)), "period": _CPU_PERIOD_US}
    if cpu:
        made["cpu"] = cpu
    return made


def rlimits(
    wanted: Mapping[str, tuple[int, int]], ceilings: Mapping[str, int] | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The OCI `process.rlimits`, and what had to be lowered, in words.

    `wanted`: (soft, hard) by name, -1 for no limit. `ceilings`: this process's own hard limits, -1 for none, which only
    CAP_SYS_RESOURCE may exceed; None if it is held. Raises BadRequest for an unknown name.
    """
    made, lowered = [], []
    for name, (soft, hard) in wanted.items():
        if name not in _RLIMITS:
            raise BadRequest(f"no ulimit is called {name!r}", hint=f"one of {', '.join(sorted(_RLIMITS))}")
        ceiling = _unsigned((ceilings or {}).get(name, -1))
        allowed = min(_unsigned(hard), ceiling)
        if _unsigned(hard) > ceiling:
            lowered.append(f"ulimit {name} is {allowed}, the daemon's own hard limit, instead of {hard}")
        made.append({"type": f"RLIMIT_{name.upper()}", "soft": min(_unsigned(soft), allowed), "hard": allowed})
    return made, lowered


# ---------------------------------------------------------------- mounts


def _mounts(plan: ContainerPlan, found: Found) -> list[dict[str, Any]]:
    shm = plan.limits.shm_bytes or DEFAULT_SHM_BYTES
    fixed = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={shm}"),
        _mount("/sys", "tmpfs", "tmpfs", "nosuid", "noexec", "nodev", "ro", "mode=555", "size=64k"),
    ]
    fixed += [_mount(path, "bind", path, "rbind", "ro", "nosuid", "noexec", "nodev") for path in found.system]
    if found.cgroup_mount:
        fixed.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro"))
    wanted = [
        _mount(_target(source.target), "bind", source.path, "rbind", "rprivate", *(("ro",) if source.read_only else ()))
        for source in found.sources
    ]
    for tmpfs in plan.tmpfs:
        size = () if tmpfs.size_bytes is None else (f"size={tmpfs.size_bytes}",)
        options = ("nosuid", "nodev", "noexec", f"mode={0o1777 if tmpfs.mode is None else tmpfs.mode:o}", *size)
        read_only = ("ro",) if tmpfs.read_only else ()
        wanted.append(_mount(_target(tmpfs.target), "tmpfs", "tmpfs", *options, *read_only))
    wanted.sort(key=lambda mount: mount["destination"].count("/"))
    taken = {mount["destination"] for mount in wanted}
    return [mount for mount in fixed if mount["destination"] not in taken] + wanted


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _target(target: str) -> str:
    """Where a mount may be: not over the root, nor over what keeps the container apart from the host."""
    if target == INIT_TARGET:
        return target
    normal = posixpath.normpath(target)
    if not target.startswith("/") or "\0" in target:
        raise BadRequest(f"mount target {target!r} is not an absolute path", hint="start it with a slash")
    normal = "/" + normal.lstrip("/")
    if normal in ("/", "/dev", "/dev/pts") or f"{normal}/".startswith(("/proc/", "/sys/")):
        raise BadRequest(f"nothing may be mounted at {normal}", hint="choose a directory of the image")
    return normal


def _unsigned(limit: int) -> int:
    return _UNLIMITED if limit < 0 else limit
