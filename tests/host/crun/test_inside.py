"""Further processes in a container: who they are, how they are reached, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from wye.drivers.crun.users import UnknownUser
from wye.interfaces import Container, ExecPlan
from wye.testing.containers import Containers, read_all

pytestmark = pytest.mark.host

_SOON_S = 20.0


def processes_in(place: Containers, container: Container) -> list[str]:
    """Command lines in a container but for its first process, zombies and the listing itself."""
    _, text = place.run(container, "ps", "-o", "pid,stat,args")
    rows = [line.split(None, 2) for line in text.splitlines()[1:]]
    return [args for pid, state, args in rows if pid != "1" and "Z" not in state and not args.startswith("ps -o")]


def wait_for(place: Containers, container: Container, count: int) -> None:
    deadline = time.monotonic() + _SOON_S
    while len(found := processes_in(place, container)) < count:
        assert time.monotonic() < deadline, found


def wait_until_alone(place: Containers, container: Container) -> None:
    deadline = time.monotonic() + _SOON_S
    while left := processes_in(place, container):
        assert time.monotonic() < deadline, left


def test_it_has_the_containers_restrictions_and_environment(place: Containers) -> None:
    container = place.start(env={"A": "1", "B": "2"}, working_dir="/tmp", cap_drop=("CHOWN",))
    script = (
        "grep -E '^(Seccomp|NoNewPrivs|CapBnd|CapEff):' /proc/self/status\n"
        "echo $A$B$C $HOME; pwd; cat /proc/self/cgroup"
    )
    first = place.run(container, "sh", "-c", script.replace("self", "1"))[1]
    code, said = place.run(container, "sh", "-c", script, env={"B": "3", "C": "4"})
    assert code == 0
    lines = said.splitlines()
    assert lines[:4] == first.splitlines()[:4]
    assert "NoNewPrivs:\t1" in lines
    assert "Seccomp:\t2" in lines
    assert int(lines[0].split()[1], 16) & 1 == 0
    assert lines[4:6] == ["134 /root", "/tmp"]
    assert all(line.endswith(":/") for line in lines[6:])


def test_users(place: Containers) -> None:
    container = place.start(user="user")
    script = "id -u; echo $HOME; grep CapEff /proc/self/status; echo x > /dev/stdout"
    assert place.run(container, "sh", "-c", script)[1].split() == ["1000", "/home/user", "CapEff:", "0" * 16, "x"]
    assert place.run(container, "sh", "-c", script, user="0")[1].split()[:2] == ["0", "/root"]
    with pytest.raises(UnknownUser):
        place.run(container, "true", user="nobody-here")


def test_input_and_output_of_any_size(place: Containers) -> None:
    process = place.runtime.exec(place.start().id, ExecPlan(argv=("cat",)))
    try:
        data = os.urandom(1 << 16)
        got = b""
        for _ in range(16):
            os.write(process.stdin, data[: 1 << 15])
            got += os.read(process.stdout, 1 << 15)
        process.close_stdin()
        got += read_raw(process.stdout)
        assert got == data[: 1 << 15] * 16
        assert process.wait(_SOON_S) == 0
    finally:
        process.close()


def read_raw(descriptor: int) -> bytes:
    data = b""
    while got := os.read(descriptor, 65536):
        data += got
    return data


@pytest.mark.parametrize(
    ("argv", "expected"),
    [(("no-such",), 127), (("/etc/passwd",), 126), (("sh", "-c", "kill -9 $$"), 137), (("sh", "-c", "exit 255"), 255)],
)
def test_exit_codes(place: Containers, argv: tuple[str, ...], expected: int) -> None:
    code, said = place.run(place.start(), *argv)
    assert code == expected
    assert said or expected not in (126, 127)


def test_a_terminal_has_a_size_and_takes_keys(place: Containers) -> None:
    container = place.start()
    process = place.runtime.exec(container.id, ExecPlan(argv=("sh",), tty=True, rows=40, columns=100))
    try:
        assert process.stderr is None
        os.write(process.stdin, b"stty size; tty; echo $TERM\n")
        process.resize(50, 120)
        os.write(process.stdin, b"stty size\nexit 5\n")
        said = read_all(process.stdout)
        assert "40 100" in said or "50 120" in said
        assert "50 120" in said
        assert "/dev/pts/0" in said
        assert "xterm" in said
        assert process.wait(_SOON_S) == 5
    finally:
        process.close()


def test_a_terminal_for_a_program_that_is_not_there(place: Containers) -> None:
    container = place.start()
    assert place.run(container, "no-such", tty=True)[0] == 127
    files = os.listdir(place.directory / "run" / "containers" / container.id)
    assert [name for name in files if "exec" in name] == []


@pytest.mark.parametrize("tty", [False, True])
def test_signals_reach_the_program_and_its_children(place: Containers, tty: bool) -> None:
    container = place.start()
    process = place.runtime.exec(container.id, ExecPlan(argv=("sh", "-c", "sleep 500; echo never"), tty=tty))
    try:
        wait_for(place, container, 2)
        process.signal(signal.SIGTERM)
        assert process.wait(_SOON_S) == 143
        wait_until_alone(place, container)
    finally:
        process.close()


@pytest.mark.parametrize("tty", [False, True])
def test_close_kills_what_it_left_behind(place: Containers, tty: bool) -> None:
    container = place.start()
    script = "trap '' TERM HUP INT; sleep 500 & (trap '' HUP; sleep 600) & sleep 700"
    process = place.runtime.exec(container.id, ExecPlan(argv=("sh", "-c", script), tty=tty))
    wait_for(place, container, 3)
    process.close()
    wait_until_alone(place, container)
    assert process.wait() == 137
    found = place.runtime.container(container.id)
    assert found is not None
    assert found.pid == container.pid


def test_descriptors_are_given_back(place: Containers) -> None:
    container = place.start()
    before = len(os.listdir("/proc/self/fd"))
    for tty in (False, True):
        for argv in (("true",), ("sleep", "50")):
            process = place.runtime.exec(container.id, ExecPlan(argv=argv, tty=tty))
            process.signal(0)
            process.close()
    place.runtime.check(container.id, ("true",), 5)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_check_that_takes_too_long_is_killed(place: Containers) -> None:
    container = place.start()
    began = time.monotonic()
    assert place.runtime.check(container.id, ("sh", "-c", "echo begun; sleep 500"), 0.5) == (124, "begun\n")
    assert time.monotonic() - began < 5
    wait_until_alone(place, container)


def test_a_check_keeps_the_beginning_of_what_is_said(place: Containers) -> None:
    container = place.start()
    code, said = place.runtime.check(container.id, ("sh", "-c", "yes | head -c 1000000; exit 4"), _SOON_S)
    assert (code, said) == (4, "y\n" * 2048)
    assert place.runtime.check(container.id, ("no-such",), _SOON_S)[0] == 127


def test_what_a_process_leaves_in_the_background_runs_on_and_holds_nothing_up(place: Containers) -> None:
    container = place.start()
    assert place.runtime.check(container.id, ("sh", "-c", "sleep 500 & exit 6"), _SOON_S)[0] == 6
    assert processes_in(place, container) == ["sleep 500"]


def test_exec_in_a_container_of_an_earlier_daemon(place: Containers) -> None:
    container = place.start(env={"A": "1"})
    script = (
        "import sys, pathlib; from wye.host import Host; from wye.drivers.crun.runtime import CrunRuntime\n"
        "d = pathlib.Path(sys.argv[1])\n"
        "r = CrunRuntime(Host(), directory=d / 'run', log_directory=d / 'logs')\n"
        "print(r.check(sys.argv[2], ('sh', '-c', 'echo $A'), 5))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, place.directory, container.id], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(0, '1\\n')\n"
