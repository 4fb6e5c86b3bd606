"""What a daemon has on this machine, counted from outside: by the kernel and the file system, not by wye."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from wye.testing.running_daemon import RunningDaemon


def inventory(running: RunningDaemon) -> dict[str, int | list[str]]:
    """Two of these are equal if nothing was left behind between them and nothing was lost."""
    pool = running.root / "pool"
    return {
        "environments": len(list((pool / "environments").iterdir())),
        "loans": len(list((pool / "lent").iterdir())),
        "snapshots": len([path for path in (pool / "snapshots").iterdir() if not path.name.startswith(".")]),
        "containers": _count(running.run / "containers" / "containers") + _count(running.run / "containers" / "crun"),
        "container processes": len(_processes(str(running.run / "containers"))),
        "mounts": len(_mounts(running)),
        "interfaces": len(_interfaces(running.settings["WYE_INSTANCE"])),
        "firewall elements": _firewall_elements(running.settings["WYE_INSTANCE"]),
        "staged files": _count(running.run, pattern="**/.*.tmp"),
    }


def _count(directory: Path, pattern: str = "*") -> int:
    return len(list(directory.glob(pattern))) if directory.exists() else 0


def _processes(word: str) -> list[int]:
    """conmon names the container's directory on its command line."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words and words[0].endswith(b"conmon") and any(word.encode() in each for each in words):
            found.append(int(path.name))
    return found


def _mounts(running: RunningDaemon) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if str(running.run) in line.split()[4]]


def _interfaces(prefix: str) -> list[str]:
    done = subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True)
    return [link["ifname"] for link in json.loads(done.stdout) if link["ifname"].startswith(prefix)]


def _firewall_elements(table: str) -> int:
    done = subprocess.run(["nft", "-j", "list", "table", "inet", table], capture_output=True, text=True, check=False)
    if done.returncode:
        return 0
    return sum(len(re.findall(r'"elem": \[(.*)\]', json.dumps(item))) for item in json.loads(done.stdout)["nftables"])
