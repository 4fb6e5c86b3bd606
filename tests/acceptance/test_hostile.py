"""What root in a fork can try with the kernel and the disk, and what the daemon makes of the files it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.acceptance.conftest import Project
from wye.api.process import ExecResult

pytestmark = pytest.mark.host

CALLS = """
import ctypes, errno, json, platform
libc = ctypes.CDLL(None, use_errno=True)
page = ctypes.create_string_buffer(4096)
calls = {
    "io_uring_setup": (425, 8, page), "bpf": (321, 0, page, 72), "userfaultfd": (323, 1),
    "perf_event_open": (298, page, 0, -1, -1, 0), "add_key": (248, b"user", b"wye", b"x", 1, -3),
    "keyctl": (250, 0, -3, 1), "unshare": (272, 0x10000000), "setns": (308, 0, 0), "clone3": (435, page, 88),
    "mount": (165, b"none", b"/mnt", b"tmpfs", 0, 0), "open_tree": (428, -100, b"/", 1), "fsopen": (430, b"tmpfs", 0),
    "mount_setattr": (442, -100, b"/", 0, page, 32), "open_by_handle_at": (304, -100, page, 0),
    "kexec_load": (246, 0, 0, 0, 0), "finit_module": (313, 0, b"", 0), "syslog": (103, 3, page, 4096),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0, 0), "settimeofday": (164, page, 0), "iopl": (172, 3),
    "mknod": (133, b"/tmp/device", 0o60600, 0x800), "subvolume": (16, 3, 0x5000940E, page),
    "fanotify_init": (300, 0, 0), "quotactl": (179, 0x800001, b"/", 0, page),
}
assert platform.machine() == "x86_64"
found = {}
for name, arguments in calls.items():
    ctypes.set_errno(0)
    numbers = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    found[name] = "done" if libc.syscall(*numbers) >= 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps(found))
"""


def sh(project: Project, script: str, environment: str = "f") -> ExecResult:
    return project.client.exec(environment, ["sh", "-c", script], service="box", user="root")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls are numbered otherwise")
def test_the_kernel_s_back_doors_are_shut(project: Project) -> None:
    project.up()
    project.fork()
    answers = json.loads(project.client.exec("f", ["python3", "-c", CALLS], service="box", user="root").text)
    assert {name: answer for name, answer in answers.items() if answer not in ("EPERM", "ENOSYS")} == {}


LEFT = """
import os, socket
os.chdir("/data")
os.truncate(os.open("huge", os.O_RDWR | os.O_CREAT), 1 << 60)
for name in (b"\\x1b]0;owned\\x07", b"a\\nb", b"--help", b"\\xff\\xfe", "\\u202etxt.exe".encode(), b"[red]markup"):
    with open(name, "wb") as file:
        file.write(b"\\x1b[2J\\x1b]52;c;aGk=\\x07 [bold]text[/]\\n")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
os.symlink("/etc/shadow", "app.db-wal")
for name in ("dump.rdb", "PG_VERSION"):
    open(name, "w").close()
deep = "/data"
for _ in range(40):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
"""


def test_what_it_leaves_is_shown_and_nothing_more(project: Project) -> None:
    project.up()
    project.fork()
    assert project.client.exec("f", ["python3", "-c", LEFT], service="box", user="root").exit_code == 0
    began = time.monotonic()
    for options in ([], ["--stat"], ["--patch"]):
        shown = subprocess.run(
            [sys.executable, "-c", "from wye.cli.main import main; main()", "diff", "f", *options],
            env={**os.environ, "WYE_SOCKET": str(project.running.socket)},
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        assert b"help" in shown or options == ["--stat"]
        # A patch carries the contents as they are; names are quoted in it.
        for line in shown.splitlines():
            assert not {0x1B, 0x07} & set(line) or (options == ["--patch"] and line.startswith(b"+"))
    assert time.monotonic() - began < 10
    found = project.client.diff("f")
    assert (found.total_files, found.stores) == (52, ()), "a name like a database's hides nothing"
    assert project.client.diff("f", rows=False).total_files == 52


def test_a_file_s_name_makes_no_database_of_a_volume(project: Project) -> None:
    """Of production's neither: an app that keeps a backup there must stay one that can be forked."""
    project.up()
    sh(project, "touch /data/dump.rdb; mkdir /data/appendonlydir", "production")
    began = time.monotonic()
    project.fork()
    sh(project, "echo REDIS0011 > /data/dump.rdb")
    assert project.client.merge("f").merged
    assert sh(project, "cat /data/dump.rdb", "production").text == "REDIS0011\n"
    assert time.monotonic() - began < 20


def test_a_disk_limit_holds_for_everything_that_takes_room(project: Project) -> None:
    project.up()
    project.fork(disk_bytes=24 << 20)
    small = "\n".join(
        ("for n in range(20000):", "    with open(f'/data/{n}', 'wb') as file:", "        file.write(b'x' * 6000)")
    )
    for attempt in (
        ["fallocate", "-l", "100M", "/data/big"],
        ["dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=100"],
        ["python3", "-c", small],
    ):
        tried = project.client.exec("f", attempt, service="box", user="root")
        assert tried.exit_code != 0, attempt
        assert b"quota" in tried.stderr.lower(), tried.stderr
        sh(project, "rm -f /data/big /root/big")
    usage = project.client.environment("f").usage
    assert usage is not None
    assert usage.exclusive_bytes is not None
    assert usage.exclusive_bytes < 40 << 20
