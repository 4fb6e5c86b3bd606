"""The system-call filter: the distribution's default profile, as an OCI section and as a compiled filter.

The profile (containers-common's seccomp.json) states rules for all machines and capabilities; `section` picks those
of this machine. It is stricter in two ways. Making namespaces and mounting stay with CAP_SYS_ADMIN, as in Docker's own
profile, since a nested user namespace is the shortest way to kernel code that root in a container could not reach.
And btrfs's own ioctls are refused whatever the capabilities: anybody who may write to a directory may make a subvolume
there, whose bytes neither the environment's disk limit nor its snapshots would see. Sharing blocks between files
(`cp --reflink`) stays allowed.

Compiling the filter costs libseccomp 10 to 15 ms per start. crun leaves the compiled form with the container's
state and takes it back by annotation, so it is compiled once per set of capabilities and kept in `directory`.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from wye.errors import Unsupported
from wye.host import Host

PROFILES = (Path("/etc/containers/seccomp.json"), Path("/usr/share/containers/seccomp.json"))
ANNOTATION = "run.oci.seccomp_bpf_data"

_ARCHES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
_ADMIN_ONLY = frozenset(
    (
        "clone", "clone3", "fsconfig", "fsmount", "fsopen", "fspick", "keyctl", "mount", "mount_setattr", "move_mount",
        "open_tree", "pivot_root", "reboot", "setns", "syslog", "umount", "umount2", "unshare",
    )
)  # fmt: skip
_ENOSYS, _EPERM = 38, 1
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEW* of clone(2) but for CLONE_NEWTIME, which clone cannot ask for."""
_BTRFS = 0x94
"""The type of btrfs's ioctls: the second byte of the request."""
_SHARING = (0x40049409, 0x4020940D, 0xC0189436)
"""FICLONE, FICLONERANGE, FIDEDUPERANGE: of btrfs's type for reasons of history, and known to other file systems."""
_REQUEST_MASK = 0xFFFFFFFF
"""The kernel takes 32 bits of the request; a filter sees 64, and some C libraries extend the sign."""
_CLONE_IS_FIRST = {"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}


def section(profile: dict[str, Any], machine: str, capabilities: Collection[str]) -> dict[str, Any]:
    """The OCI `linux.seccomp` section for a machine (as `uname -m`) and a container's capabilities.

    Raises Unsupported for a machine that is not known here.
    """
    if machine not in _ARCHES:
        raise Unsupported(f"no system-call filter for {machine} machines", hint="run wye on x86_64 or aarch64")
    arch, native = _ARCHES[machine]
    families = {family["architecture"]: family["subArchitectures"] for family in profile["archMap"]}
    rules = [_rule(rule) for rule in profile["syscalls"] if _applies(rule, arch, capabilities)]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules = _without_namespaces(rules)
    rules = _without_btrfs(rules)
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", _EPERM),
        "architectures": [native, *families.get(native, [])],
        "syscalls": rules,
    }


def _applies(rule: dict[str, Any], arch: str, capabilities: Collection[str]) -> bool:
    """Rules bound to a `minKernel` are kept: none of the default profile asks for one newer than wye needs."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if arch in (excludes.get("arches") or ()):
        return False
    if not set(includes.get("caps") or ()) <= set(capabilities):
        return False
    return not set(excludes.get("caps") or ()) & set(capabilities)


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {"names": rule["names"], "action": rule["action"]}
    if rule.get("args"):
        kept["args"] = rule["args"]
    if "errnoRet" in rule:
        kept["errnoRet"] = rule["errnoRet"]
    return kept


def _without_namespaces(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = _without(rules, _ADMIN_ONLY)
    refused = sorted(_ADMIN_ONLY - {"clone", "clone3"})
    return [
        *kept,
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [_CLONE_IS_FIRST]},
        # glibc falls back to clone, whose flags a filter can see, only for ENOSYS.
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
    ]


def _without_btrfs(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """No two of the rules match the same request, so that nothing hangs on the order in which a filter asks them."""
    sharing = frozenset(request & 0xFF for request in _SHARING)
    allowed = [(mask << 8, value << 8) for mask, value in _all_but(frozenset((_BTRFS,)))]
    allowed += [(_REQUEST_MASK, request) for request in _SHARING]
    refused = [(0xFF00 | mask, _BTRFS << 8 | value) for mask, value in _all_but(sharing)]
    return [
        *_without(rules, frozenset(("ioctl",))),
        *({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [_request(*one)]} for one in allowed),
        *(
            {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": [_request(*one)]}
            for one in refused
        ),
    ]


def _without(rules: list[dict[str, Any]], names: Collection[str]) -> list[dict[str, Any]]:
    kept = [{**rule, "names": [name for name in rule["names"] if name not in names]} for rule in rules]
    return [rule for rule in kept if rule["names"]]


def _all_but(values: frozenset[int], bit: int = 7, mask: int = 0, value: int = 0) -> Iterator[tuple[int, int]]:
    """All bytes but `values`, as disjoint (mask, value): filters compare bits, and know no "not this one".

    Halves the range until a half holds none of `values`.
    """
    if not values:
        yield mask, value
    elif bit >= 0:
        for side in (0, 1 << bit):
            yield from _all_but(
                frozenset(v for v in values if v & 1 << bit == side), bit - 1, mask | 1 << bit, value | side
            )


def _request(mask: int, value: int) -> dict[str, Any]:
    return {"index": 1, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


class Filters:
    """Sections and compiled filters by set of capabilities. Compiled ones survive in `directory`."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self._directory = directory
        self._profile: dict[str, Any] | None = None
        self._sections: dict[frozenset[str], bytes] = {}
        self._compiled: dict[frozenset[str], str] = {}

    def section(self, capabilities: frozenset[str]) -> bytes:
        """JSON for `linux.seccomp`. Raises Unsupported if no profile is installed."""
        found = self._sections.get(capabilities)
        if found is None:
            if self._profile is None:
                self._profile = _installed_profile()
            found = msgspec.json.encode(section(self._profile, os.uname().machine, capabilities))
            self._sections[capabilities] = found
        return found

    def compiled(self, capabilities: frozenset[str]) -> str | None:
        """The annotation's value (base64), or None: nothing has been compiled for these capabilities yet."""
        found = self._compiled.get(capabilities)
        if found is None:
            try:
                found = self._file(capabilities).read_text()
            except FileNotFoundError:
                return None
            self._compiled[capabilities] = found
        return found

    def keep(self, capabilities: frozenset[str], state: Path) -> None:
        """Keeps the filter that crun compiled for the container whose state directory is `state`."""
        try:
            data = (state / "seccomp.bpf").read_bytes()
        except FileNotFoundError:
            # Another runtime, or a crun that keeps it elsewhere: starts are slower, nothing else.
            return
        text = base64.b64encode(data).decode()
        self._host.write_file("start:filter", self._file(capabilities), text.encode(), mode=0o600)
        self._compiled[capabilities] = text

    def _file(self, capabilities: frozenset[str]) -> Path:
        return self._directory / f"{hashlib.sha256(self.section(capabilities)).hexdigest()}.bpf"


def _installed_profile() -> dict[str, Any]:
    for path in PROFILES:
        if path.exists():
            profile: dict[str, Any] = msgspec.json.decode(path.read_bytes())
            return profile
    raise Unsupported(
        f"no system-call filter profile at {PROFILES[-1]}", hint="apt-get install golang-github-containers-common"
    )
