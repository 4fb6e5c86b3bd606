"""A fork may not read or write its source's files, sockets or memory, nor see its processes: tried from inside, as
root in the fork, with the tools that an attacker would bring."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project
from wye.api.process import ExecResult

pytestmark = pytest.mark.host

SECRET = "the production secret 8c1f"


class Attacked(Project):
    def sh(self, environment: str, script: str, service: str | None = "box") -> ExecResult:
        """As root, in the shell too, where people are somebody else."""
        return self.client.exec(environment, ["sh", "-c", script], service=service, user="root")


@pytest.fixture
def pair(project: Project) -> Project:
    """Production with a secret in memory, on disk and behind a port; and a fork made before it was written."""
    project.up()
    project.fork()
    project.sh("production", f"echo '{SECRET}' > /data/secret")
    return Attacked(project.running, project.directory)


@pytest.mark.parametrize("service", ["box", None], ids=["service", "shell"])
def test_no_file_of_the_source_is_seen(pair: Project, service: str | None) -> None:
    found = pair.sh("f", f"grep -rl '{SECRET}' / --exclude-dir=proc --exclude-dir=sys 2>/dev/null | head", service)
    assert found.stdout == b""
    for path in (
        "/var/lib/wye-tests",
        str(pair.running.root),
        "/proc/1/root/var/lib",
        "/proc/1/root/../../var/lib/wye",
    ):
        assert pair.sh("f", f"ls {path}/pool 2>/dev/null", service).stdout == b""


@pytest.mark.parametrize("service", ["box", None], ids=["service", "shell"])
def test_no_process_of_anybody_else_is_seen(pair: Project, service: str | None) -> None:
    seen = pair.sh("f", "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done", service).text
    assert "conmon" not in seen
    assert "wye.daemon" not in seen
    assert seen.count("http.server") <= 1, "its own at most"
    production = next(each.pid for each in pair.client.environment("production").services if each.service == "box")
    assert pair.sh("f", f"kill -9 {production}", service).exit_code != 0
    assert pair.sh("f", "kill -9 -1; true", "other").exit_code in (0, 137)
    assert pair.sh("production", "cat /data/secret").text.strip() == SECRET, "production runs on"


@pytest.mark.parametrize("service", ["box", None], ids=["service", "shell"])
def test_no_memory_of_anybody_else_is_read(pair: Project, service: str | None) -> None:
    production = next(each.pid for each in pair.client.environment("production").services if each.service == "box")
    for path in (f"/proc/{production}/mem", f"/proc/{production}/maps", "/dev/mem", "/dev/kmem", "/proc/kcore"):
        assert pair.sh("f", f"head -c 64 {path} 2>/dev/null", service).stdout == b"", path


CONNECT = """
import socket, sys, threading
def attempt(address, port):
    try:
        socket.create_connection((address, int(port)), 1).close()
    except OSError:
        return
    print(address, port)
for target in sys.argv[1:]:
    threading.Thread(target=attempt, args=target.split(":")).start()
"""


def reached(pair: Project, environment: str, addresses: list[str], port: int) -> list[str]:
    """Those at which the environment's own box gets a connection; tried all at once."""
    targets = [f"{address}:{port}" for address in dict.fromkeys(addresses)]
    tried = pair.client.exec(environment, ["python3", "-c", CONNECT, *targets, "box:7000"], service="box")
    assert tried.exit_code == 0
    found = tried.text.splitlines()
    assert "box 7000" in found, "its own services it reaches by name"
    return sorted(set(found) - {"box 7000"})


def test_the_source_cannot_be_reached_over_the_network(pair: Project) -> None:
    addresses = ["127.0.0.1", "10.89.0.1", socket.gethostbyname(socket.gethostname()), *_host_addresses()]
    assert not reached(pair, "f", addresses, pair.port("production"))


def test_the_host_s_own_services_cannot_be_reached(pair: Project) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        for environment in ("f", "production"):
            assert not reached(pair, environment, ["10.89.0.1", *_host_addresses()], port)


def test_a_fork_has_no_way_out(pair: Project) -> None:
    connect = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    assert pair.client.exec("f", ["python3", "-c", connect], service="box").exit_code != 0


def test_the_kernel_is_not_for_a_fork_to_change(pair: Project) -> None:
    for attempt in (
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "mount -t tmpfs none /mnt",
        "mknod /dev/sda b 8 0 && head -c 1 /dev/sda",
        "unshare -n true",
        "echo 0 > /sys/fs/cgroup/memory/memory.limit_in_bytes",
        "echo '|/bin/sh' > /proc/sys/kernel/core_pattern",
        "chroot /proc/1/root ls /var/lib/wye-tests",
        "ip link add x type dummy",
    ):
        assert pair.sh("f", f"({attempt}) 2>/dev/null").exit_code != 0, attempt


def test_links_in_a_fork_lead_nowhere_on_the_host(pair: Project) -> None:
    """The daemon looks at a fork's files for diff: a link there must not make it look elsewhere."""
    pair.sh("f", "ln -s /etc/shadow /data/innocent; ln -s / /data/root; rm -rf /srv; ln -s /etc /srv")
    found = pair.client.diff("f")
    links = {change.path: change for change in found.files}
    assert links["/innocent"].after is not None
    assert links["/innocent"].after.kind == "link"
    assert not any(change.path.startswith("/root/") for change in found.files)
    assert pair.client.sleep("f").awake is False
    assert pair.client.wake("f").awake, "and neither does its start"


def test_the_docker_socket_and_ours_are_not_inside(pair: Project) -> None:
    found = pair.sh("f", "find / -xdev -type s 2>/dev/null").text
    assert "docker.sock" not in found
    assert "wye.sock" not in found
    assert not Path("/proc/self/root/nonexistent").exists()


def _host_addresses() -> list[str]:
    """Every IPv4 address of this machine but loopback's."""
    found = []
    for line in Path("/proc/net/fib_trie").read_text().split("Local:")[-1].splitlines():
        word = line.strip().split()[-1] if line.strip() else ""
        if (
            line.strip().startswith("|--")
            and not word.startswith(("127.", "0.", "255."))
            and not word.endswith((".0", ".255"))
        ):
            found.append(word)
    return list(dict.fromkeys(found))
