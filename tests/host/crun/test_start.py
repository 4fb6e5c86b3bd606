"""What a container finds when it starts: its root, its user, its volumes and files, its limits."""

from __future__ import annotations

import base64
import os
import resource
import time
from pathlib import Path

import pytest

from wye.drivers.crun.conmon import StartFailed
from wye.drivers.crun.users import UnknownUser
from wye.errors import BadRequest, NotFound, Unsupported
from wye.host import Host
from wye.interfaces import Bind
from wye.model import File, Limits, Mount, MountKind
from wye.testing.containers import ENVIRONMENT, UID_BASE, Containers

pytestmark = pytest.mark.host


def file(target: str, content: bytes, **options: int) -> File:
    return File(name="f", target=target, content=base64.b64encode(content).decode(), **options)


# ---------------------------------------------------------------- root and layer


def test_what_is_written_is_in_the_layer_and_not_in_the_image(place: Containers) -> None:
    place.shell("echo hi > /etc/greeting; rm /etc/group")
    upper = place.root / "layers" / "web" / "upper"
    assert (upper / "etc" / "greeting").read_text() == "hi\n"
    assert (upper / "etc" / "greeting").stat().st_uid == UID_BASE
    assert not (place.rootfs / "etc" / "greeting").exists()
    assert (place.rootfs / "etc" / "group").exists()
    assert place.shell("cat /etc/greeting; test -e /etc/group || echo gone") == "hi\ngone"


@pytest.mark.parametrize("durable", [True, False])
def test_a_layer_can_be_used_again_whatever_was_under_way_in_it(place: Containers, durable: bool) -> None:
    place.shell("echo hi > /f; sync", durable=durable)
    work = place.root / "layers" / "web" / "work"
    (work / "work").mkdir(exist_ok=True)
    (work / "work" / "#1f").symlink_to("/etc")
    (work / "incompat" / "volatile").mkdir(parents=True, exist_ok=True)
    assert place.output("cat", "/f", durable=not durable) == "hi"


def test_a_read_only_root_takes_no_writes(place: Containers) -> None:
    tmpfs = (Mount(kind=MountKind.TMPFS, source="", target="/scratch", size_bytes=1 << 20, mode=0o700),)
    said = place.shell("touch /x; touch /scratch/x && stat -c %a /scratch", read_only=True, tmpfs=tmpfs)
    assert said == "touch: /x: Read-only file system\n700"


def test_an_environment_or_image_that_is_not_there(place: Containers) -> None:
    with pytest.raises(NotFound, match="no environment"):
        place.runtime.start(place.plan(), place.directory / "nowhere", place.rootfs)
    with pytest.raises(NotFound, match="no image"):
        place.runtime.start(place.plan(), place.root, place.directory / "nowhere")
    assert place.runtime.containers() == []


def test_a_program_that_is_not_there(place: Containers) -> None:
    with pytest.raises(StartFailed, match="no-such-program` not found") as caught:
        place.start("no-such-program")
    assert caught.value.hint is not None
    assert place.runtime.containers() == []
    assert place.leftovers() == []


def test_a_working_directory_is_made(place: Containers) -> None:
    assert place.output("pwd", working_dir="/srv/app/new") == "/srv/app/new"


def test_an_exit_code_is_known_however_soon_it_comes(place: Containers) -> None:
    for tty in (False, True):
        for code in range(3, 13):
            container = place.start("sh", "-c", f"exit {code}", tty=tty)
            ended = place.runtime.wait(container.id, 10)
            assert ended is not None
            assert ended.exit_code == code


# ---------------------------------------------------------------- users


@pytest.mark.parametrize(
    ("user", "group_add", "expected"),
    [
        ("", (), "uid=0(root) gid=0(root) home=/root"),
        ("user", (), "uid=1000(user) gid=1000(user) groups=50(extra) home=/home/user"),
        ("1000", (), "uid=1000(user) gid=1000(user) groups=50(extra) home=/home/user"),
        ("user:extra", (), "uid=1000(user) gid=50(extra) home=/home/user"),
        ("1234:77", ("extra",), "uid=1234 gid=77 groups=50(extra) home=/"),
        ("1234", (), "uid=1234 gid=0(root) home=/"),
    ],
)
def test_users(place: Containers, user: str, group_add: tuple[str, ...], expected: str) -> None:
    said = place.shell("echo $(id) home=$HOME", user=user, group_add=group_add)
    assert said.replace(" groups=0(root)", "") == expected


def test_accounts_are_those_of_the_layer(place: Containers) -> None:
    place.shell("echo 'late:x:4321:4321::/late:/bin/sh' >> /etc/passwd")
    assert place.output("id", "-u", user="late") == "4321"


@pytest.mark.parametrize("broken", ["ln -sf /proc/1/environ /etc/passwd", "rm /etc/passwd; mkfifo /etc/passwd"])
def test_a_hostile_passwd_names_nobody(place: Containers, broken: str) -> None:
    place.shell(broken)
    with pytest.raises(UnknownUser):
        place.start(user="user")
    assert place.output("stat", "-Lc", "%u", "/proc/self", user="7") == "7"


# ---------------------------------------------------------------- volumes and files


def test_volumes_and_what_is_below_them(place: Containers) -> None:
    volume = place.volume()
    (volume / "sub").mkdir()
    (volume / "sub" / "f").write_text("below\n")
    (volume / "one").write_text("single\n")
    binds = (
        Bind(source="volumes/data", target="/data"),
        Bind(source="volumes/data/sub", target="/data/nested", read_only=True),
        Bind(source="volumes/data/one", target="/etc/one"),
    )
    script = "echo new > /data/new; cat /data/nested/f /etc/one; touch /data/nested/x 2>&1"
    assert place.shell(script, binds=binds) == "below\nsingle\ntouch: /data/nested/x: Read-only file system"
    assert (volume / "new").read_text() == "new\n"
    assert (volume / "one").read_text() == "single\n"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("volumes/data/link", BadRequest),
        ("volumes/data/link/passwd", BadRequest),
        ("volumes/data/pipe", BadRequest),
        ("volumes/data/missing", NotFound),
        ("volumes/missing", NotFound),
        ("layers/web/upper", BadRequest),
        ("volumes/../layers", BadRequest),
        ("/etc", BadRequest),
    ],
)
def test_a_volume_leads_nowhere_else(place: Containers, source: str, error: type[Exception]) -> None:
    volume = place.volume()
    (volume / "link").symlink_to("/etc")
    os.mkfifo(volume / "pipe")
    with pytest.raises(error):
        place.start(binds=(Bind(source=source, target="/data"),))
    assert place.runtime.containers() == []
    assert volume.is_dir()


def test_a_mount_target_that_is_a_link_stays_inside(place: Containers) -> None:
    place.volume()
    place.shell(f"mkdir -p {place.directory}; ln -s ../../../../../..{place.directory} /data")
    binds = (Bind(source="volumes/data", target="/data"),)
    place.output("touch", "/data/x", binds=binds)
    assert not (place.directory / "x").exists()
    assert (place.root / "volumes" / "data" / "x").exists()
    place.shell("rm /data; ln -s ../../../../../../tmp/wye-not-there /data")
    with pytest.raises(StartFailed):
        place.start(binds=binds)
    assert not Path("/tmp/wye-not-there").exists()


@pytest.mark.parametrize("target", ["/", "/proc", "/proc/sys", "/sys/fs", "/dev", "data", "//proc/1", "/a/../proc"])
def test_targets_that_keep_it_apart_from_the_host_are_not_mounted_over(place: Containers, target: str) -> None:
    place.volume()
    with pytest.raises(BadRequest):
        place.start(binds=(Bind(source="volumes/data", target=target),))


def test_files_have_content_mode_and_owner(place: Containers) -> None:
    files = (file("/run/secrets/key", b"s3cret\n", mode=0o400, uid=1000, gid=50), file("/etc/hosts", b"1.2.3.4 db\n"))
    script = "stat -c '%a %u %g' /run/secrets/key; cat /run/secrets/key /etc/hosts; echo x > /etc/hosts"
    said = place.shell(script, files=files, user="user")
    assert said == "400 1000 50\ns3cret\n1.2.3.4 db\nsh: can't create /etc/hosts: Read-only file system"


def test_a_replaced_file_is_seen_at_once(place: Containers) -> None:
    container = place.start(files=(file("/etc/hosts", b"1.2.3.4 a-long-name\n"),))
    place.runtime.replace_file(container.id, "/etc/hosts", b"4.3.2.1 db\n")
    assert place.run(container, "cat", "/etc/hosts") == (0, "4.3.2.1 db\n")


# ---------------------------------------------------------------- network, terminal, init


def test_it_starts_in_the_namespace_that_it_is_given(place: Containers) -> None:
    host, name = Host(), f"wyetest-{os.getpid()}"
    host.run("test:netns", ("ip", "netns", "add", name))
    try:
        host.run("test:netns", ("ip", "-n", name, "link", "add", "wye-probe", "type", "veth"))
        said = place.shell(
            "cat /proc/net/dev; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys",
            namespace=f"/run/netns/{name}",
            sysctls={"net.ipv4.ip_unprivileged_port_start": "80"},
        )
        assert "wye-probe" in said
        assert said.splitlines()[-3:] == ["80", "devices", "kernel"]
        with pytest.raises(Unsupported):
            place.start(namespace=f"/run/netns/{name}", cap_add=("NET_ADMIN",))
    finally:
        host.run("test:netns", ("ip", "netns", "del", name))


def test_a_network_of_its_own_has_only_loopback(place: Containers) -> None:
    said = place.shell("ls /sys/class 2>&1; cut -d: -f1 /proc/net/dev", sysctls={"net.core.somaxconn": "99"})
    assert said.split()[-1] == "lo"


@pytest.mark.parametrize("name", ["kernel.core_pattern", "vm.overcommit_memory", "net/ipv4/ip_forward", "kernel.shm.."])
def test_settings_of_the_whole_machine_are_refused(place: Containers, name: str) -> None:
    with pytest.raises(Unsupported):
        place.start(sysctls={name: "1"})


def test_a_terminal(place: Containers) -> None:
    assert "/dev/pts/0\r" in place.output("tty", tty=True)


def test_an_init_reaps_and_passes_on(place: Containers) -> None:
    container = place.start("sh", "-c", "(sleep 0.1 &); sleep 1000", init=True)
    assert "wye-init" in place.run(container, "cat", "/proc/1/cmdline")[1]
    deadline = time.monotonic() + 10
    while place.run(container, "pgrep", "-f", "^sleep 0.1")[0] == 0:
        assert time.monotonic() < deadline
    place.runtime.signal(container.id, 15)
    assert place.runtime.wait(container.id, 10) is not None
    assert not (place.root / "layers" / "web" / "upper" / "dev").exists()


def test_without_an_init_program_init_is_unsupported(place: Containers) -> None:
    place.init_programs = ()
    with pytest.raises(Unsupported, match="init"):
        place.runtime_with(Host()).start(place.plan(init=True), place.root, place.rootfs)


# ---------------------------------------------------------------- limits


def test_limits_are_set(place: Containers) -> None:
    limits = Limits(cpus=0.5, memory_bytes=64 << 20, pids=33, shm_bytes=1 << 20)
    container = place.start(limits=limits)
    _, memory = place.run(container, "df", "-k", "/dev/shm")
    assert " 1024 " in memory
    group = f"wye/*/{ENVIRONMENT}-web"
    found = {path.name: path.read_text().strip() for path in _control_files(group)}
    assert found.get("memory.limit_in_bytes", found.get("memory.max")) == str(64 << 20)
    assert found["pids.max"] == "33"
    assert found.get("cpu.cfs_quota_us", found.get("cpu.max", "").split(" ")[0]) == "50000"


def _control_files(group: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    names = ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max")
    return [path for name in names for path in (*root.glob(f"{group}/{name}"), *root.glob(f"*/{group}/{name}"))]


def test_ulimits_are_clamped_to_what_the_daemon_may(place: Containers) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    said = place.shell("ulimit -Sn; ulimit -Hn; ulimit -Sc", ulimits={"nofile": (64, -1), "core": (0, 0)})
    expected = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    assert said in (f"64\n{expected}\n0", "64\nunlimited\n0")
    with pytest.raises(BadRequest):
        place.start(ulimits={"no-such": (1, 1)})


def test_a_memory_hog_is_ended_and_reported(place: Containers) -> None:
    container = place.start("sh", "-c", "tail /dev/zero", limits=Limits(memory_bytes=16 << 20))
    ended = place.runtime.wait(container.id, 30)
    assert ended is not None
    assert ended.out_of_memory
    assert place.runtime.containers()[0].out_of_memory


def test_a_socket_path_may_be_long(place: Containers) -> None:
    container = place.start(name="n" * 60)
    assert place.run(container, "tty", tty=True) == (0, "/dev/pts/0\r\n")
