"""What a machine lacks for containers, in words, for `wye doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from wye.drivers.crun import seccomp
from wye.interfaces import Finding

_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")


def findings(programs: Sequence[str], init_programs: Sequence[Path]) -> list[Finding]:
    """Reads only. One finding per subject."""
    return [*map(_program, programs), _filter(), _user_namespaces(), _init(init_programs)]


def _program(program: str) -> Finding:
    path = shutil.which(program)
    if path is None:
        fix = f"apt-get install {Path(program).name}"
        return Finding(subject=program, level="failure", text="not installed", fix=fix)
    return Finding(subject=program, level="ok", text=path)


def _filter() -> Finding:
    for path in seccomp.PROFILES:
        if path.exists():
            return Finding(subject="system-call filter", level="ok", text=str(path))
    fix = "apt-get install golang-github-containers-common"
    return Finding(subject="system-call filter", level="failure", text="no profile is installed", fix=fix)


def _user_namespaces() -> Finding:
    most = int(_USER_NAMESPACES.read_text())
    if most > 0:
        return Finding(subject="user namespaces", level="ok", text=f"at most {most}")
    fix = "sysctl -w user.max_user_namespaces=100000, and the same in /etc/sysctl.d"
    return Finding(subject="user namespaces", level="failure", text="switched off", fix=fix)


def _init(programs: Sequence[Path]) -> Finding:
    for path in programs:
        if path.exists():
            return Finding(subject="init program", level="ok", text=str(path))
    text = "none, so services with `init: true` cannot start"
    return Finding(subject="init program", level="warning", text=text, fix="apt-get install catatonit")
