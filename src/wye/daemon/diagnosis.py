"""What of the daemon itself, and of the room it has, may come to an end, in words, for `wye doctor`."""

from __future__ import annotations

import platform
import resource
import shutil
from pathlib import Path

from wye.api.start import SYSTEMD, UNIT
from wye.daemon.config import Config
from wye.interfaces import Finding

_OPEN_FILES = 1 << 16
_BESIDES_PORTS = 2048
"""Descriptors for everything that is not a held port: clients, containers that are watched, snapshots, logs."""
_LOW_DISK_BYTES = 1 << 30
_LOW_POOL = 0.9
_GIB = 1 << 30


def raise_open_files() -> None:
    """As many descriptors as this process may have, 65,536 at most: each published port takes one, asleep or awake.
    Containers inherit the limit where they set none, so it is not raised beyond what programs are used to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def findings(config: Config, capacity: tuple[int, int]) -> list[Finding]:
    """`capacity` of the pool: (used, all) bytes. Reads only."""
    return [
        Finding(subject="python", level="ok", text=platform.python_version()),
        open_files(config, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        unit(UNIT, systemd=SYSTEMD.is_dir()),
        disk(config.root, shutil.disk_usage(config.root).free),
        pool(*capacity),
    ]


def open_files(config: Config, limit: int) -> Finding:
    ports = config.port_last - config.port_first + 1
    if limit == resource.RLIM_INFINITY or limit >= ports + _BESIDES_PORTS:
        return Finding(subject="open files", level="ok", text="no limit" if limit < 0 else f"{limit:,} at most")
    return Finding(
        subject="open files",
        level="warning",
        text=f"{limit:,} at most, and {ports:,} ports may be published",
        fix=f"start the daemon with 'ulimit -n {_OPEN_FILES}', or have systemd start it: wye daemon install",
    )


def unit(path: Path, *, systemd: bool) -> Finding:
    subject = "start with the machine"
    if not systemd:
        text = "systemd does not run here: the first 'wye' after a restart starts the daemon and all services"
        return Finding(subject=subject, level="ok", text=text)
    if not path.exists():
        text = "after a restart of the machine services stay down until somebody runs 'wye'"
        return Finding(subject=subject, level="warning", text=text, fix="wye daemon install")
    return Finding(subject=subject, level="ok", text=str(path))


def disk(root: Path, free: int) -> Finding:
    told = f"{free / _GIB:.1f} GiB are free at {root}"
    if free < _LOW_DISK_BYTES:
        fix = "free some: the ledger, logs and downloads live there, besides the pool"
        return Finding(subject="disk", level="warning", text=told, fix=fix)
    return Finding(subject="disk", level="ok", text=told)


def pool(used: int, whole: int) -> Finding:
    told = f"{used / _GIB:.1f} of {whole / _GIB:.1f} GiB are used"
    if used > whole * _LOW_POOL:
        fix = "discard forks, run 'wye collect', or enlarge the pool"
        return Finding(subject="pool space", level="warning", text=told, fix=fix)
    return Finding(subject="pool space", level="ok", text=told)
