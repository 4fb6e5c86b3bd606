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


def verdicts(found: dict[str, Any], request: int) -> list[str]:
    """The actions of all rules that match an ioctl with this request."""
    rules = [one for one in found["syscalls"] if "ioctl" in one["names"]]
    assert all(len(one["args"]) == 1 and one["args"][0]["op"] == "SCMP_CMP_MASKED_EQ" for one in rules)
    return [one["action"] for one in rules if request & one["args"][0]["value"] == one["args"][0]["valueTwo"]]


@pytest.mark.parametrize("capabilities", [(), ("CAP_SYS_ADMIN",)])
def test_of_btrfs_ioctls_only_those_that_share_blocks(capabilities: tuple[str, ...]) -> None:
    found = section({**PROFILE, "syscalls": [rule("read", "ioctl")]}, "x86_64", capabilities)
    sharing = {0x40049409, 0x4020940D, 0xC0189436}
    for low in range(1 << 16):
        expected = ["SCMP_ACT_ALLOW"]
        if low >> 8 == 0x94:
            # What has their number but not their size is left to the default, which is to refuse.
            expected = [] if low & 0xFF in {request & 0xFF for request in sharing} else ["SCMP_ACT_ERRNO"]
        assert verdicts(found, 0x50000000 | low) == expected, hex(low)
    for request in sharing:
        assert verdicts(found, request) == verdicts(found, 0xFFFFFFFF << 32 | request) == ["SCMP_ACT_ALLOW"]
    assert verdicts(found, 0xFFFFFFFF << 32 | 0x5000940E) == ["SCMP_ACT_ERRNO"]
