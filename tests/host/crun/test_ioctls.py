"""What root in a container may ask of the file system and of devices by ioctl, on a real btrfs and of a real kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wye.interfaces import Bind
from wye.testing.containers import UID_BASE, Containers, containers
from wye.testing.loop_pool import loop_pool

pytestmark = pytest.mark.host

BINDS = (Bind(source="volumes/data", target="/data"),)

PROBE = """
import ctypes, os, sys
program = open(sys.argv[1], "rb").read()
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_ulong]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, program))) == 0, os.strerror(ctypes.get_errno())
for line in sys.stdin:
    assert libc.syscall({ioctl}, -1, int(line)) == -1
    print(ctypes.get_errno())
"""
_IOCTL = {"x86_64": 16, "aarch64": 29}
_EBADF, _EPERM, _ENOSYS = 9, 1, 38


@pytest.fixture
def btrfs(tiny: Path) -> Iterator[Containers]:
    """A place for containers whose volumes and layers are on btrfs."""
    with tempfile.TemporaryDirectory(prefix="wye-ioctls-") as name:
        Path(name).chmod(0o711)
        with loop_pool(Path(name), 256 << 20) as pool, containers(tiny) as place:
            place.root = pool.path / "environment"
            (place.root / "volumes").mkdir(parents=True)
            yield place


def bring(place: Containers, *programs: str) -> None:
    """Copies programs of this machine, with the libraries they need, into a volume; each gets a script to start it."""
    volume = place.volume()
    for program in programs:
        path = shutil.which(program)
        assert path is not None
        linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        files = {word for word in linked.split() if word.startswith("/")}
        for file in (path, *files):
            shutil.copy(file, volume / f"{program}.real" if file == path else volume)
        (loader,) = (Path(file).name for file in files if "/ld-linux" in file)
        (volume / program).write_text(
            f'#!/bin/sh\nexec /data/{loader} --library-path /data /data/{program}.real "$@"\n'
        )
        (volume / program).chmod(0o755)
    for path in volume.iterdir():
        os.chown(path, UID_BASE, UID_BASE)


def test_no_subvolumes_but_shared_blocks(btrfs: Containers) -> None:
    bring(btrfs, "btrfs", "cp")
    container = btrfs.start(binds=BINDS)
    script = """
        exec 2>&1
        head -c 1000000 /dev/urandom > /data/a
        /data/cp --reflink=always /data/a /data/b && cmp /data/a /data/b && echo SHARED
        /data/btrfs subvolume create /data/sub && echo DONE
        /data/btrfs filesystem df /data && echo DONE
        ls -d /data/sub
    """
    first = btrfs.shell(script, name="other", binds=BINDS)
    for said in (first, btrfs.run(container, "sh", "-c", script)[1]):
        assert "SHARED" in said
        assert "DONE" not in said
        assert "create subvolume: Operation not permitted" in said
        assert "cannot get space info: Operation not permitted" in said
        assert "ls: /data/sub: No such file or directory" in said
    assert not (btrfs.root / "volumes" / "data" / "sub").exists()


def test_terminals_go_on_working(btrfs: Containers) -> None:
    container = btrfs.start()
    # crun says how large it is just after it has started the program.
    script = "until stty size 2>/dev/null | grep 33; do sleep 0.01; done; stty -echo; stty -a"
    code, said = btrfs.run(container, "sh", "-c", script, tty=True, rows=33, columns=99)
    assert code == 0
    assert "33 99" in said
    assert "-echo" in said


def test_the_filter_itself(place: Containers) -> None:
    """The kernel is asked about every type and number: the filter speaks before anybody looks at the descriptor."""
    container = place.start()
    compiled = place.directory / "run" / "crun" / container.id / "seccomp.bpf"
    sharing = (0x40049409, 0x4020940D, 0xC0189436)
    requests = [high | low for high in (0, 0x50000000) for low in range(1 << 16)]
    requests += [*sharing, *(0xFFFFFFFF << 32 | request for request in (*sharing, 0x5000940E))]
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(ioctl=_IOCTL[os.uname().machine]), str(compiled)],
        input="\n".join(map(str, requests)),
        capture_output=True,
        text=True,
        check=True,
    )
    for request, answer in zip(requests, map(int, done.stdout.split()), strict=True):
        low = request & 0xFFFFFFFF
        expected = {_EBADF}
        if low >> 8 & 0xFF == 0x94 and low not in sharing:
            expected = {_EPERM, _ENOSYS}
        assert answer in expected, hex(request)
