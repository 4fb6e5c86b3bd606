from __future__ import annotations

from typing import Any

import pytest

from wye.drivers.crun.seccomp import section
from wye.errors import Unsupported


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, "args": [], "comment": "", "includes": {}, "excludes": {}, **more}


PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        rule("read", "mount", "clone", "clone3", "unshare"),
        rule("arch_prctl", includes={"arches": ["amd64"]}),
        rule("arm_thing", includes={"arches": ["arm64"]}),
        rule("not_here", excludes={"arches": ["amd64"]}),
        rule("chroot", includes={"caps": ["CAP_SYS_CHROOT"]}),
        rule("chroot", action="SCMP_ACT_ERRNO", errnoRet=1, excludes={"caps": ["CAP_SYS_CHROOT"]}),
        rule("socket", args=[{"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_NE"}]),
    ],
}


def actions(found: dict[str, Any], name: str) -> list[tuple[str, int | None, bool]]:
    return [(one["action"], one.get("errnoRet"), "args" in one) for one in found["syscalls"] if name in one["names"]]


def test_rules_of_this_machine_and_these_capabilities() -> None:
    found = section(PROFILE, "x86_64", {"CAP_SYS_CHROOT"})
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert actions(found, "read") == actions(found, "arch_prctl") == [("SCMP_ACT_ALLOW", None, False)]
    assert actions(found, "arm_thing") == actions(found, "not_here") == []
    assert actions(found, "chroot") == [("SCMP_ACT_ALLOW", None, False)]
    assert actions(found, "socket") == [("SCMP_ACT_ALLOW", None, True)]
    assert actions(section(PROFILE, "x86_64", ()), "chroot") == [("SCMP_ACT_ERRNO", 1, False)]


def test_namespaces_and_mounts_need_a_capability() -> None:
    found = section(PROFILE, "x86_64", ())
    assert actions(found, "mount") == actions(found, "unshare") == [("SCMP_ACT_ERRNO", 1, False)]
    assert actions(found, "clone") == [("SCMP_ACT_ALLOW", None, True)]
    assert actions(found, "clone3") == [("SCMP_ACT_ERRNO", 38, False)]
    admin = section(PROFILE, "x86_64", {"CAP_SYS_ADMIN"})
    assert actions(admin, "mount") == actions(admin, "clone") == [("SCMP_ACT_ALLOW", None, False)]


def test_an_unknown_machine() -> None:
    with pytest.raises(Unsupported):
        section(PROFILE, "riscv64", ())
