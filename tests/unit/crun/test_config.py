from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from wye.drivers.crun import capabilities, config, sysctl
from wye.drivers.crun.users import Identity
from wye.errors import BadRequest, Unsupported
from wye.interfaces import ContainerPlan
from wye.model import EnvironmentId, Image, ImageConfig, Limits, Mount, MountKind

PLAN = ContainerPlan(
    environment=EnvironmentId("abcabcabcabc"),
    name="web",
    image=Image(reference="i", digest="d", config=ImageConfig()),
    argv=("serve",),
    env={"A": "1"},
    working_dir="/srv",
    user="",
    hostname="web",
)
FOUND = config.Found(rootfs="/r", cgroup="/wye/x", uid_base=200000, sources=(), filter=b'{"defaultAction":"x"}')
ROOT = Identity(0, 0, (), "/root")


def process(identity: Identity = ROOT, **options: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"rlimits": (), "no_new_privileges": True, **options}
    return config.process(("serve",), {"A": "1"}, "/srv", False, identity, capabilities.DEFAULT, **arguments)


def made(plan: ContainerPlan = PLAN, found: config.Found = FOUND) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(config.configuration(plan, found, process()))
    return decoded


def targets(configuration: dict[str, Any]) -> list[str]:
    return [mount["destination"] for mount in configuration["mounts"]]


def test_every_namespace_is_the_containers_own() -> None:
    kinds = {namespace["type"]: namespace.get("path") for namespace in made()["linux"]["namespaces"]}
    assert kinds == dict.fromkeys(("user", "pid", "ipc", "uts", "mount", "cgroup", "network"))
    given = made(replace(PLAN, namespace="/run/netns/x"))["linux"]["namespaces"]
    assert {"type": "network", "path": "/run/netns/x"} in given


def test_root_is_nobody_on_the_host() -> None:
    linux = made()["linux"]
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 200000, "size": 65536}]
    assert linux["seccomp"] == {"defaultAction": "x"}
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]


def test_only_root_holds_capabilities() -> None:
    assert process()["capabilities"]["effective"] == sorted(capabilities.DEFAULT)
    other = process(Identity(1000, 1000, (50,), "/home/app"))
    assert other["capabilities"]["effective"] == other["capabilities"]["permitted"] == []
    assert other["capabilities"]["bounding"] == sorted(capabilities.DEFAULT)
    assert other["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [50]}
    assert "HOME=/home/app" in other["env"]


def test_home_and_path_of_the_plan_win() -> None:
    env = config.process((), {"HOME": "/x", "PATH": "/y"}, "", True, ROOT, (), rlimits=(), no_new_privileges=True)[
        "env"
    ]
    assert sorted(env) == ["HOME=/x", "PATH=/y", "TERM=xterm"]


def test_limits() -> None:
    limits = Limits(cpus=1.5, memory_bytes=1 << 20, pids=9)
    assert config.resources(limits, limits_swap=True) == {
        "devices": [{"allow": False, "access": "rwm"}],
        "pids": {"limit": 9},
        "memory": {"limit": 1 << 20, "swap": 1 << 20},
        "cpu": {"quota": 150000, "period": 100000},
    }
    assert "swap" not in config.resources(limits, limits_swap=False)["memory"]
    assert config.resources(Limits(), limits_swap=True)["pids"] == {"limit": config.DEFAULT_PIDS}


def test_what_yields_has_a_smaller_share() -> None:
    limits = Limits(cpus=1.5)
    assert "cpu" not in config.resources(Limits(), limits_swap=True)
    assert config.resources(Limits(), limits_swap=True, yields=True)["cpu"] == {"shares": 256}
    assert config.resources(limits, limits_swap=True, yields=True)["cpu"]["quota"] == 150_000


def test_inner_mounts_come_after_outer_ones() -> None:
    sources = (config.Source("/p/a", "/data/a/b", False), config.Source("/p/b", "/data", True))
    tmpfs = (Mount(kind=MountKind.TMPFS, source="", target="/data/a", size_bytes=4096),)
    configuration = made(replace(PLAN, tmpfs=tmpfs), replace(FOUND, sources=sources))
    assert targets(configuration)[-3:] == ["/data", "/data/a", "/data/a/b"]
    outer = configuration["mounts"][-3]
    assert (outer["source"], "ro" in outer["options"]) == ("/p/b", True)


def test_a_mount_over_shared_memory_takes_its_place() -> None:
    tmpfs = (Mount(kind=MountKind.TMPFS, source="", target="/dev/shm/"),)
    assert targets(made(replace(PLAN, tmpfs=tmpfs))).count("/dev/shm") == 1


@pytest.mark.parametrize("target", ["/", "//", "/proc", "/proc/x", "/sys/", "/dev", "/x/../proc", "x", "", "/a\0b"])
def test_where_nothing_may_be_mounted(target: str) -> None:
    with pytest.raises(BadRequest):
        made(found=replace(FOUND, sources=(config.Source("/p", target, False),)))


def test_network_settings_of_a_given_namespace_are_not_the_runtimes() -> None:
    sysctls = {"net.core.somaxconn": "9", "kernel.shmmax": "1"}
    assert made(replace(PLAN, sysctls=sysctls))["linux"]["sysctl"] == sysctls
    given = replace(PLAN, sysctls=sysctls, namespace="/run/netns/x")
    assert made(given)["linux"]["sysctl"] == {"kernel.shmmax": "1"}


def test_rlimits_are_lowered_to_what_is_allowed() -> None:
    wanted = {"nofile": (100, 5000), "core": (-1, -1), "nproc": (9, 9)}
    limits, lowered = config.rlimits(wanted, {"nofile": 1000, "core": -1, "nproc": 10})
    assert limits == [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 1000},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
        {"type": "RLIMIT_NPROC", "soft": 9, "hard": 9},
    ]
    assert len(lowered) == 1
    assert "nofile" in lowered[0]
    assert config.rlimits(wanted, None)[1] == []


# ---------------------------------------------------------------- capabilities, sysctls


def test_capabilities() -> None:
    granted = capabilities.granted
    assert granted((), (), own_network=False) == capabilities.DEFAULT
    assert not {"CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SYS_ADMIN"} & capabilities.DEFAULT
    assert granted(("ipc_lock",), ("ALL",), own_network=False) == {"CAP_IPC_LOCK"}
    assert granted((), ("CAP_CHOWN", "SYS_ADMIN"), own_network=False) == capabilities.DEFAULT - {"CAP_CHOWN"}
    assert "CAP_NET_ADMIN" in granted(("NET_ADMIN",), (), own_network=True)


@pytest.mark.parametrize("name", ["SYS_ADMIN", "ALL", "NET_ADMIN", "CAP_SYS_MODULE", "DAC_READ_SEARCH", "BPF"])
def test_capabilities_that_are_refused(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        capabilities.granted((name,), (), own_network=False)
    assert caught.value.hint is not None


def test_a_name_that_is_no_capability() -> None:
    with pytest.raises(BadRequest):
        capabilities.granted((), ("SYS_ADMINN",), own_network=False)


def test_sysctls_of_namespaces_only() -> None:
    sysctl.check({"net.ipv4.ip_forward": "1", "kernel.shmmax": "1", "fs.mqueue.msg_max": "1"})
    for name in ("kernel.panic", "vm.swappiness", "net/ipv4/ip_forward", "net.../../kernel", "net.", "fs.file-max"):
        with pytest.raises(Unsupported):
            sysctl.check({name: "1"})
