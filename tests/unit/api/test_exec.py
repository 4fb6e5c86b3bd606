"""exec end to end: bytes, exit codes, terminals, backpressure, and who is killed when."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from wye.api import wire
from wye.api.process import RemoteProcess
from wye.api.transport import Address
from wye.errors import BadRequest, NotFound, Unavailable

if TYPE_CHECKING:
    Served = Any

MEBIBYTE = 1 << 20


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def vanish(process: RemoteProcess) -> None:
    """What the kernel does for a client that is killed."""
    with socket.socket(fileno=os.dup(process.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def test_output_and_exit_code(shop: Served) -> None:
    result = shop.client.exec("production", ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (result.exit_code, result.stdout, result.stderr, result.text) == (7, b"out\n", b"err\n", "out\n")


def test_a_signal_gives_128_and_its_number(shop: Served) -> None:
    assert shop.client.exec("production", ["sh", "-c", "kill -9 $$"]).exit_code == 137


def test_stdin_is_passed_on_and_closed(shop: Served) -> None:
    data = bytes(range(256)) * 4096
    assert shop.client.exec("production", ["cat"], stdin=data).stdout == data
    assert shop.client.exec("production", ["cat"], stdin=b"").stdout == b""


def test_without_stdin_there_is_none(shop: Served) -> None:
    assert shop.client.exec("production", ["cat"], timeout_s=10).exit_code == 0


def test_variables_and_directory(shop: Served) -> None:
    result = shop.client.exec("production", ["sh", "-c", "echo $A; pwd"], env={"A": "1"}, working_dir="/usr")
    assert result.text == "1\n/usr\n"


def test_a_sleeping_fork_wakes(shop: Served) -> None:
    shop.client.fork("production", "fix-1", asleep=True)
    assert shop.client.exec("fix-1", ["true"]).exit_code == 0
    assert shop.client.environment("fix-1").awake


def test_errors_say_what_is_wrong(shop: Served) -> None:
    with pytest.raises(NotFound, match="nobody"):
        shop.client.exec("nobody", ["true"])
    with pytest.raises(NotFound, match="no service 'db'") as caught:
        shop.client.exec("production", ["true"], service="db")
    assert caught.value.hint == "there are: web"
    with pytest.raises(BadRequest, match="argv"):
        shop.client.exec("production", [])
    with pytest.raises(BadRequest, match="one string"):
        shop.client.exec("production", "true")


def test_a_time_limit_kills(shop: Served) -> None:
    with pytest.raises(Unavailable, match="did not end within"):
        shop.client.exec("production", ["sleep", "1000"], timeout_s=0.2)
    wait_until(lambda: not alive(shop.runtime.execs[-1].pid))


def test_a_terminal_with_its_size(shop: Served) -> None:
    script = "stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.02; done"
    with shop.client.exec_stream("production", ["sh", "-c", script], tty=True, stdin=True, rows=31, columns=99) as it:
        seen = bytearray()
        for output in it:
            seen += output.data
            if b"ready" in seen and b"50 120" not in seen:
                it.resize(50, 120)
    assert bytes(seen).split() == [b"31", b"99", b"ready", b"50", b"120"]
    assert it.exit_code == 3


def test_keys_reach_a_terminal(shop: Served) -> None:
    with shop.client.exec_stream("production", ["cat"], tty=True, stdin=True) as process:
        process.write(b"hello\n")
        seen = b""
        while seen.count(b"hello") < 2:  # the terminal's echo, and cat's
            seen += b"".join(output.data for output in process.pump(5))
        process.write(b"\x03")
        assert list(process) is not None
    assert process.exit_code == 130


def test_a_signal_is_passed_on(shop: Served) -> None:
    script = "trap 'exit 42' USR1; echo ready; while :; do sleep 0.02; done"
    with shop.client.exec_stream("production", ["sh", "-c", script]) as process:
        for output in process:
            if b"ready" in output.data:
                process.signal(10)
    assert process.exit_code == 42


def test_what_is_left_in_the_background_does_not_hold_up_the_end(shop: Served) -> None:
    began = time.monotonic()
    result = shop.client.exec("production", ["sh", "-c", "echo first; sleep 1000 & exit 5"])
    assert (result.exit_code, result.stdout) == (5, b"first\n")
    assert time.monotonic() - began < 2
    noisy = shop.client.exec("production", ["sh", "-c", "yes & exit 6"], timeout_s=20)
    assert noisy.exit_code == 6


def test_closing_kills(shop: Served) -> None:
    process = shop.client.exec_stream("production", ["sleep", "1000"])
    wait_until(lambda: bool(shop.runtime.execs))
    pid = shop.runtime.execs[-1].pid
    assert alive(pid)
    process.close()
    wait_until(lambda: not alive(pid))


@pytest.mark.parametrize("command", [["sleep", "1000"], ["yes"], ["sh", "-c", "exec >&- 2>&-; sleep 1000"]])
def test_a_client_that_vanishes_takes_its_process_with_it(shop: Served, command: list[str]) -> None:
    process = shop.client.exec_stream("production", command, stdin=True)
    wait_until(lambda: bool(shop.runtime.execs))
    pid = shop.runtime.execs[-1].pid
    vanish(process)
    wait_until(lambda: not alive(pid))


def test_a_client_that_vanishes_while_its_input_is_not_read(shop: Served) -> None:
    process = shop.client.exec_stream("production", ["sleep", "1000"], stdin=True)
    wait_until(lambda: bool(shop.runtime.execs))
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and process.pending_bytes < MEBIBYTE:
        process.write(bytes(wire.FRAME_BYTES))
    assert process.pending_bytes, "the daemon took input without end"
    pid = shop.runtime.execs[-1].pid
    vanish(process)
    wait_until(lambda: not alive(pid))


def test_input_nobody_reads_is_dropped_when_the_process_closes_it(shop: Served) -> None:
    result = shop.client.exec(
        "production", ["sh", "-c", "exec <&-; sleep 0.1; echo done"], stdin=bytes(4 * MEBIBYTE), timeout_s=20
    )
    assert (result.exit_code, result.stdout) == (0, b"done\n")


def test_200_megabytes_pass_in_little_memory(shop: Served) -> None:
    size = 200 * 1000 * 1000
    shop.client.exec("production", ["true"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, total, began = hashlib.sha256(), 0, time.monotonic()
    script = f"head -c {size} /dev/zero | openssl enc -aes-128-ctr -K 0 -iv 0 2>/dev/null"
    with shop.client.exec_stream("production", ["sh", "-c", script]) as process:
        for output in process:
            digest.update(output.data)
            total += len(output.data)
    assert (process.exit_code, total) == (0, size)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"{grown} KiB more for {total} bytes"
    print(f"{total / 1e6 / (time.monotonic() - began):.0f} MB/s")


def test_a_slow_reader_slows_the_process_down(shop: Served) -> None:
    with shop.client.exec_stream("production", ["sh", "-c", "head -c 50000000 /dev/zero; echo done >&2"]) as process:
        first = process.pump(5)
        time.sleep(0.5)
        assert process.exit_code is None
        assert len(first) > 0
        rest = sum(len(output.data) for output in process if output.channel == wire.STDOUT)
    assert rest + sum(len(output.data) for output in first) == 50_000_000


def test_many_at_once_do_not_hold_each_other_up(shop: Served) -> None:
    shop.client.exec("production", ["true"])
    busy = [shop.client.exec_stream("production", ["yes"]) for _ in range(3)]
    drain = threading.Thread(target=lambda: [list(zip(range(200), each, strict=False)) for each in busy])
    drain.start()
    assert shop.client.exec("production", ["true"], timeout_s=10).exit_code == 0
    assert shop.client.version().api == 1
    drain.join()
    for each in busy:
        each.close()


def test_a_first_message_that_makes_no_sense(shop: Served) -> None:
    request = wire.ExecRequest(argv=("true",)).model_copy(update={"argv": ()})
    process = RemoteProcess(Address(path=str(shop.socket)), None, "production", request)
    with process, pytest.raises(BadRequest, match="argv"):
        process.communicate()


@pytest.mark.parametrize("command", [["sleep", "1000"], ["yes"]])
def test_a_client_that_neither_reads_nor_goes_does_not_hold_up_the_daemons_end(
    own_shop: Served, command: list[str]
) -> None:
    process = own_shop.client.exec_stream("production", command, stdin=True)
    process.write(bytes(4 * MEBIBYTE))
    own_shop.stop()
    process.close()


def test_stopping_the_daemon_ends_what_follows_it(own_shop: Served) -> None:
    process = own_shop.client.exec_stream("production", ["sleep", "1000"])
    wait_until(lambda: bool(own_shop.runtime.execs))
    pid = own_shop.runtime.execs[-1].pid
    own_shop.stop()
    with pytest.raises(Unavailable, match="the daemon stops"):
        list(process)
    wait_until(lambda: not alive(pid))
