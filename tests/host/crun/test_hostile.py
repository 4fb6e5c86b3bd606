"""Root in a container tries what it should not be able to do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from wye.drivers.crun.conmon import LOG_BYTES
from wye.errors import Unsupported
from wye.interfaces import Bind, ExecPlan
from wye.model import Limits
from wye.testing.containers import ENVIRONMENT, UID_BASE, Containers

pytestmark = pytest.mark.host


def test_it_sees_no_process_of_the_host(place: Containers) -> None:
    other = place.start(name="other")
    said = place.shell("ls -d /proc/[0-9]* | wc -l; hostname; ipcs -m | wc -l; kill -9 " + str(other.pid), name="web")
    assert int(said.split()[0]) < 6
    found = place.runtime.container(other.id)
    assert found is not None
    assert found.pid == other.pid


@pytest.mark.parametrize(
    "attempt",
    [
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /proc/sys",
        "mount --bind / /tmp",
        "umount /proc/sys",
        "mknod /dev/sda b 8 0",
        "mknod /tmp/mem c 1 1",
        "unshare -U true",
        "unshare -m true",
        "nsenter -t 1 -n true",
        "chroot / mount -t proc none /tmp",
        "dmesg",
        "insmod /tmp/x.ko",
        "reboot -f",
        "date -s 2001-01-01 2>&1; test $(date +%Y) = 2001",
        "hostname other",
        "swapoff -a && swapon /tmp/x",
        "losetup -f /etc/passwd",
        "ip link set lo down",
        "head -c 1 /proc/kcore",
        "grep . /proc/keys || ls /proc/keys/x",
        "ls /sys/class/net /sys/fs/btrfs /sys/block",
        "mkdir /sys/fs/cgroup && echo 1 > /sys/fs/cgroup/cgroup.procs",
        "echo 0 > /sys/devices/system/cpu/cpu1/online",
        "nice -n -20 true",
    ],
)
def test_it_cannot(place: Containers, attempt: str, tmp_path: Path) -> None:
    before = (Path("/proc/sys/kernel/panic").read_text(), Path("/proc/sys/kernel/core_pattern").read_text())
    said = place.shell(f"mkdir -p /mnt; ({attempt}) && echo DONE")
    assert "DONE" not in said
    assert said
    assert before == (Path("/proc/sys/kernel/panic").read_text(), Path("/proc/sys/kernel/core_pattern").read_text())


def test_a_device_in_an_image_or_a_volume_is_no_device(place: Containers) -> None:
    volume = place.volume()
    layer = place.root / "layers" / "web" / "upper"
    layer.mkdir(parents=True)
    os.chown(layer, UID_BASE, UID_BASE)
    for directory in (volume, layer):
        # 7:0 is a loop device, whether it is attached or not.
        os.mknod(directory / "disk", 0o60666, os.makedev(7, 0))
        os.chown(directory / "disk", UID_BASE, UID_BASE)
    binds = (Bind(source="volumes/data", target="/data"),)
    said = place.shell("head -c 1 /disk; head -c 1 /data/disk", binds=binds)
    assert said.splitlines() == ["head: /disk: Permission denied", "head: /data/disk: Operation not permitted"]


def test_it_cannot_reach_another_environment_or_the_host(place: Containers) -> None:
    (place.volume("mine") / "f").write_text("mine")
    other = place.directory / "other-environment" / "volumes" / "data"
    other.mkdir(parents=True)
    (other / "f").write_text("secret")
    (other / "f").chmod(0o777)
    binds = (Bind(source="volumes/mine", target="/data"),)
    script = f"""
        cat {other}/f /data/../../other-environment/volumes/data/f /proc/1/root/{other}/f /proc/1/cwd/{other}/f
        ls {place.directory} /run/wye /var/lib; ls /proc/1/fd/../../../root
        for fd in /proc/self/fd/* /proc/1/fd/*; do ls -d $fd/../other-environment; done
        cat /data/f
    """
    said = place.shell(script, binds=binds)
    assert "secret" not in said
    assert "other-environment\n" not in said.replace("No such file or directory", "")
    assert said.endswith("mine")


def test_no_descriptor_of_the_host_comes_along(place: Containers) -> None:
    descriptor = os.open("/", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        container = place.start()
        for pid in ("1", "self"):
            script = f"for fd in /proc/{pid}/fd/*; do readlink $fd; done"
            _, said = place.run(container, "sh", "-c", script)
            assert {line.partition(":")[0] for line in said.splitlines()} <= {"pipe", "/dev/null", "/proc/1/fd"}
    finally:
        os.close(descriptor)


def test_a_fork_bomb_is_held(place: Containers) -> None:
    container = place.start("sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 1000", limits=Limits(pids=64))
    group = f"wye/*/{container.id}/pids.events"
    root = Path("/sys/fs/cgroup")
    deadline = time.monotonic() + 20
    while not any("max 0" not in path.read_text() for path in (*root.glob(group), *root.glob(f"*/{group}"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    place.runtime.delete(container.id)
    assert place.leftovers() == []


def test_a_flood_of_words_is_bounded(place: Containers) -> None:
    container = place.start("sh", "-c", f"yes 0123456789abcdef | head -c {3 * LOG_BYTES}; echo last")
    assert place.runtime.wait(container.id, 120) is not None
    directory = place.directory / "logs" / ENVIRONMENT
    assert sum(file.stat().st_size for file in directory.iterdir()) <= LOG_BYTES + (1 << 20)
    began = time.monotonic()
    assert [line.text for line in place.runtime.logs(ENVIRONMENT, "web", tail=2)] == ["0123456789abcdef", "012last"]
    assert time.monotonic() - began < 2


def test_a_follower_goes_on_when_the_log_starts_anew(place: Containers) -> None:
    container = place.start("sh", "-c", f"head -c {LOG_BYTES + 100} /dev/zero | tr '\\0' '\\n'; echo last")
    seen = [""]
    for line in place.runtime.logs(ENVIRONMENT, "web", follow=lambda: seen[-1] != "last"):
        seen[:] = [line.text]
    assert seen == ["last"]
    assert place.runtime.wait(container.id, 60) is not None


def test_a_line_without_an_end(place: Containers) -> None:
    container = place.start("sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no end'")
    assert place.runtime.wait(container.id, 60) is not None
    lines = [line.text for line in place.runtime.logs(ENVIRONMENT, "web")]
    assert [len(line) for line in lines] == [100000, 6]


@pytest.mark.parametrize(("no_new_privileges", "expected"), [(True, "su: must be suid to work properly"), (False, "0")])
def test_setuid_programs(place: Containers, no_new_privileges: bool, expected: str) -> None:
    place.shell(
        "mkdir /setuid; cp /bin/busybox /setuid/su; chmod 4755 /setuid/su; sed -i s/root:x:/root::/ /etc/passwd"
    )
    said = place.shell("/setuid/su root -c 'id -u'", user="user", no_new_privileges=no_new_privileges)
    assert said == expected


@pytest.mark.parametrize("name", ["SYS_ADMIN", "CAP_SYS_MODULE", "all", "mknod", "NET_ADMIN"])
def test_dangerous_capabilities_are_refused(place: Containers, name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        place.start(cap_add=(name,), namespace="/run/netns/none")
    assert caught.value.hint is not None
    assert place.runtime.containers() == []


def test_capabilities(place: Containers) -> None:
    script = "grep CapEff /proc/self/status"
    assert place.shell(script).split()[1] == "00000000800405fb"
    assert place.shell(script, cap_drop=("ALL",)).split()[1] == "0" * 16
    assert place.shell(script, cap_drop=("all",), cap_add=("kill",)).split()[1] == f"{1 << 5:016x}"
    assert int(place.shell(script, cap_add=("NET_RAW",)).split()[1], 16) & 1 << 13


@pytest.mark.parametrize("stdin_open", [False, True])
@pytest.mark.parametrize("tty", [False, True])
def test_the_host_s_null_device_does_not_change_hands(place: Containers, tty: bool, stdin_open: bool) -> None:
    """The runtime gives its standard streams to the container's root; a device of the host must not be one of them."""
    before = os.stat("/dev/null")
    assert before.st_uid == 0
    container = place.start(name="web", tty=tty, stdin_open=stdin_open)
    assert place.runtime.check(container.id, ["true"], 5.0)[0] == 0
    for exec_tty in (False, True):
        process = place.runtime.exec(container.id, ExecPlan(argv=("chmod", "600", "/dev/null"), tty=exec_tty))
        assert process.wait(5.0) not in (0, None)
        process.close()
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
