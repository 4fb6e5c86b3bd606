"""A chamber: where programs of an image run while it is made.

Package scripts, and above all the code that a build of the user's brings, must not touch the machine. They
run with crun in a user namespace that maps to the same ids as every container, with no privilege outside of
it, and see the image's own files and what is bound, nothing else. The network is shared only on request.

The tree and the binds are first mounted below /mnt in a mount namespace of our own: crun resolves paths as
the container's root, who may not pass the private directories that the pool or a home lie in. Inside, views
belong below /mnt, which is a tmpfs, so that nothing of them stays in the tree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wye.drivers.images.programs import stream
from wye.host import Host

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IDS = 65536

_ENTER = """
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
n=0
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir /mnt/$n; else : > /mnt/$n; fi
  mount --bind -- "$1" /mnt/$n
  n=$((n+1)); shift
done
shift
exec "$@"
"""

# What installing software needs: owners, modes, other users, file capabilities. Nothing that mounts or traces.
_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SYS_CHROOT",
]  # fmt: skip
_RLIMITS = {"RLIMIT_NPROC": 4096, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 8 << 30}
_TMP_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class View:
    """A file or directory of the host that the chamber sees, read-only unless `writable`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chamber:
    """Runs programs over one root file system whose ownership is shifted by `uid_base`."""

    host: Host
    rootfs: Path
    work: Path
    """A private directory for the bundle; the caller removes it."""
    uid_base: int
    views: tuple[View, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    network: bool = False
    cwd: str = "/"

    def run(
        self, label: str, argv: Sequence[str], on_line: Callable[[str], None], *, timeout_s: float = 1800.0
    ) -> None:
        """Raises ProgramFailed with the end of its output."""
        self.host.make_directory(label, self.work, mode=0o700)
        config = json.dumps(self._bundle(argv)).encode()
        self.host.write_file(label, self.work / "config.json", config)
        sources = [str(self.rootfs), *(str(view.source) for view in self.views)]
        crun = [
            "crun", "--cgroup-manager=disabled", "--root", str(self.work / "crun"),
            "run", "--bundle", str(self.work), "chamber",
        ]  # fmt: skip
        stream(self.host, label, ["sh", "-c", _ENTER, "sh", *sources, "--", *crun], on_line, timeout_s=timeout_s)

    def _bundle(self, argv: Sequence[str]) -> dict[str, Any]:
        env = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **self.env}
        mapping = [{"containerID": 0, "hostID": self.uid_base, "size": IDS}]
        spaces = ["user", "mount", "pid", "ipc", "uts"] + ([] if self.network else ["network"])
        mounts: list[dict[str, Any]] = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            _tmpfs("/dev", "755", 1 << 20),
            _tmpfs("/dev/shm", "1777", _TMP_BYTES),
            _tmpfs("/mnt", "755", 1 << 20),
            _tmpfs("/tmp", "1777", _TMP_BYTES),
        ]
        for number, view in enumerate(self.views, start=1):
            options = ["bind", "rw" if view.writable else "ro", "nosuid", "nodev"]
            mounts.append({"destination": view.target, "type": "none", "source": f"/mnt/{number}", "options": options})
        return {
            "ociVersion": "1.0.0",
            "hostname": "localhost",
            "root": {"path": "/mnt/0"},
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": list(argv),
                "env": [f"{name}={value}" for name, value in env.items()],
                "cwd": self.cwd,
                "noNewPrivileges": True,
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
                "rlimits": [{"type": kind, "soft": limit, "hard": limit} for kind, limit in _RLIMITS.items()],
            },
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": kind} for kind in spaces],
                "uidMappings": mapping,
                "gidMappings": mapping,
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/proc/timer_list"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
            },
        }


def _tmpfs(target: str, mode: str, size_bytes: int) -> dict[str, Any]:
    options = ["nosuid", f"mode={mode}", f"size={size_bytes}"]
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}
