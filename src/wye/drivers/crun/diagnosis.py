"""What a machine lacks for containers, in words, for `wye doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from wye.drivers.crun import seccomp
from wye.drivers.crun.cgroup import Finding

_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")


def findings(programs: Sequence[str], init_programs: Sequence[Path]) -> list[Finding]:
    """Reads only. One finding per subject."""
    found = [_program(program) for program in programs]
    profile = next((path for path in seccomp.PROFILES if path.exists()), None)
    found.append(
        Finding("system-call filter", True, str(profile))
        if profile
        else Finding("system-call filter", False, "no profile", "apt-get install golang-github-containers-common")
    )
    namespaces = int(_USER_NAMESPACES.read_text())
    hint = (
        None if namespaces else f"sysctl -w user.max_user_namespaces=100000, and in /etc/sysctl.d ({_USER_NAMESPACES})"
    )
    found.append(Finding("user namespaces", namespaces > 0, f"at most {namespaces}", hint))
    init = next((path for path in init_programs if path.exists()), None)
    detail = str(init) if init else "none: services with `init: true` cannot start (apt-get install catatonit)"
    found.append(Finding("init program", True, detail))
    return found


def _program(program: str) -> Finding:
    path = shutil.which(program)
    if path is None:
        return Finding(program, False, "not installed", f"apt-get install {Path(program).name}")
    return Finding(program, True, path)
