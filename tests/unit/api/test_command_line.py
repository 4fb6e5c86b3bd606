"""The command line as people and scripts call it, against a daemon that answers."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from wye.api import wire

if TYPE_CHECKING:
    Served = Any

Run = Callable[..., tuple[int, str, str]]


def program(served: Served, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Calls `wye` as a program of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from wye.cli.main import main; main()", *arguments],
        env={**os.environ, "WYE_ADDRESS": f"unix://{served.socket}"},
        capture_output=True,
        check=False,
        timeout=30,
        **options,
    )


def test_the_first_minute(shop: Served, run: Run) -> None:
    code, out, err = run("up", "--no-wait")
    assert code == 0
    assert re.search(r"web +unchanged", out)
    assert "production is up" in out
    code, out, err = run("fork", "production", "fix-1")
    assert (code, err) == (0, "")
    assert re.match(r"fix-1: forked from production at [0-9a-f]{12} in [\d.]+ m?s \(.*\)\n", out)
    assert re.search(r"web +8000/tcp +127\.0\.0\.1:\d+", out)
    assert run("exec", "fix-1", "--", "sh", "-c", "echo $0; exit 3", "x") == (3, "x\n", "")
    assert run("ps")[1].splitlines()[2].startswith("fix-1")
    assert "fork of production" in run("ps", "fix-1")[1]
    assert run("diff", "fix-1")[1].splitlines()[1:] == ["nothing differs"]
    assert run("logs", "fix-1", "web") == (0, "hello from web\n", "")
    code, out, _ = run("port", "fix-1", "web", "8000")
    assert re.fullmatch(r"127\.0\.0\.1:\d+\n", out)
    assert run("url", "fix-1", "web")[1] == f"http://{out}"
    assert run("discard", "fix-1") == (0, "fix-1 is discarded\n", "")
    assert run("log", "fix-1")[1].splitlines()[1].split()[3] == "discard"


def test_a_restore_names_both_revisions_and_the_log_names_them_short(shop: Served, run: Run) -> None:
    run("up", "--no-wait")
    taken = json.loads(run("snapshot", "--json")[1])["revision"]
    told = run("restore", "production", taken[:12])[1].splitlines()[0]
    now = json.loads(run("log", "--json")[1])["entries"][0]["revision"]
    assert told.startswith(f"production is as it was at {taken[:12]}; that is now its revision {now[:12]}")
    listed = run("log")[1]
    assert f"revision={taken[:12]}" in listed
    assert taken not in listed
    assert run("show", taken[:12])[1].splitlines()[3].split()[1] == "snapshot"


def test_json_is_the_wires(shop: Served, run: Run) -> None:
    def document(*arguments: str) -> Any:
        code, out, _ = run(*arguments, "--json")
        assert code == 0
        return json.loads(out)

    wire.UpResult.model_validate(document("up", "--no-wait"))
    wire.ForkResult.model_validate(document("fork", "production", "fix", "--count", "2", "--asleep"))
    assert [wire.EnvironmentView.model_validate(each).name for each in document("ps")] == [
        "production", "fix-1", "fix-2",
    ]  # fmt: skip
    wire.EnvironmentView.model_validate(document("ps", "production"))
    for command in ("wake", "stop", "start", "restart", "sleep", "down"):
        wire.EnvironmentView.model_validate(document(command, "fix-1"))
    taken = wire.SnapshotResult.model_validate(document("snapshot", "-m", "why"))
    wire.EnvironmentView.model_validate(document("restore", "production", taken.revision[:12]))
    log = wire.LogResult.model_validate(document("log", "--verify"))
    assert wire.EntryView.model_validate(document("show", log.entries[-1].id)) == log.entries[-1]
    wire.DiffResult.model_validate(document("diff", "fix-2"))
    wire.PortView.model_validate(document("port", "production")[0])
    wire.PortView.model_validate(document("url", "production")[0])
    wire.ConfigResult.model_validate(document("config"))
    wire.Finding.model_validate(document("doctor")[0])
    wire.EnvironmentView.model_validate(document("rename", "fix-2", "fix-3"))
    wire.EntryView.model_validate(document("discard", "fix-1"))
    wire.CollectResult.model_validate(document("collect"))
    assert document("version")["daemon"] == "0.1.0"
    assert document("daemon", "status")["environments"] == 2
    lines = run("events", "--json")[1].splitlines()
    assert all(wire.Event.model_validate_json(line) for line in lines)
    assert wire.LogLine.model_validate_json(run("logs", "--json")[1].splitlines()[0]).replica == "web"


def test_json_of_exec(shop: Served, run: Run) -> None:
    code, out, _ = run("exec", "--json", "production", "sh", "-c", "echo out; echo err >&2; exit 4")
    assert (code, json.loads(out)) == (4, {"exit_code": 4, "stdout": "out\n", "stderr": "err\n"})


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fork", "nobody", "x"), 4, "error: there is no environment 'nobody'"),
        (("fork", "production", "A/b"), 2, "error: 'A/b' cannot name an environment"),
        (("fork", "production", "x", "--disk", "much"), 2, "error: 'much' is not a size"),
        (("ps", "a/b"), 2, "error: 'a/b' cannot name an environment"),
        (("discard", "production"), 3, "error: 'production' is not a fork"),
        (("logs", "--since", "whenever"), 2, "error: 'whenever' is not a time"),
        (("exec", "--service", "db", "production", "true"), 4, "error: environment 'production' has no service 'db'"),
        (("exec", "-e", "=x", "production", "true"), 2, "error: '=x' names no variable"),
        (("port", "production", "db"), 4, "error: "),
        (("fork",), 2, "Missing argument"),
        (("frok",), 2, "No such command 'frok'"),
    ],
)
def test_errors(shop: Served, run: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert message in err


def test_an_error_has_a_hint_and_a_document(shop: Served, run: Run) -> None:
    code, out, err = run("discard", "production", "--json")
    assert code == 3
    assert "hint: if that is what you want, say --yes-i-mean-production" in err
    error = wire.ErrorBody.model_validate_json(out).error
    assert (error.code, error.exit_code) == ("denied", 3)
    assert run("discard", "production", "--yes-i-mean-production")[0] == 0


def test_nobody_answers(served: Served, run: Run) -> None:
    code, out, err = run("--address", "unix:///nowhere/wye.sock", "ps")
    assert (code, out) == (7, "")
    assert "no daemon answers at unix:///nowhere/wye.sock" in err
    code, out, _ = run("--address", "unix:///nowhere/wye.sock", "version")
    assert code == 0
    assert "daemon: no daemon answers" in out


def test_nothing_yet(served: Served, run: Run) -> None:
    assert "no environments yet" in run("ps")[1]
    assert run("ps", "--json")[1] == "[]\n"


def test_progress_goes_to_stderr_in_plain_lines(served: Served, run: Run) -> None:
    served.images.gate.clear()
    (served.directory / "compose.yaml").write_text("name: shop\nservices: {web: {image: slow, command: [sleep, '9']}}")
    threading.Timer(0.6, served.images.gate.set).start()
    code, out, err = run("up", "--no-wait", "--json")
    assert code == 0
    assert "start web" in err.splitlines()
    wire.UpResult.model_validate_json(out)


def test_compose_options_reach_the_engine(served: Served, run: Run) -> None:
    (served.directory / "a.yaml").write_text("services: {web: {image: '${IMAGE:?say which}', command: [sleep, '9']}}")
    code, _, err = run("config", "-f", "a.yaml", "-p", "blog")
    assert code == 2
    assert "say which" in err
    (served.directory / "vars").write_text("IMAGE=mine\n")
    code, out, err = run("config", "-f", "a.yaml", "-p", "blog", "--env-file", "vars")
    assert (code, json.loads(out)["project"], json.loads(out)["services"]["web"]["image"]) == (0, "blog", "mine")


# ---------------------------------------------------------------- exec as a program


def test_pipes(shop: Served) -> None:
    data = os.urandom(3_000_000)
    done = program(shop, "exec", "production", "cat", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_exec_keeps_the_streams_apart(shop: Served) -> None:
    done = program(
        shop, "exec", "-n", "production", "--", "sh", "-c", "echo out; echo err >&2; cat; exit 9", input=b"x"
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, b"out\n", b"err\n")


def test_a_terminal_can_be_had_without_one_here(shop: Served) -> None:
    done = program(shop, "exec", "-t", "-n", "production", "--", "tty", input=b"")
    assert (done.returncode, done.stdout.startswith(b"/dev/pts/")) == (0, True)


def test_a_closed_pipe_ends_it(shop: Served) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from wye.cli.main import main; main()", "exec", "-n", "production", "yes"],
        env={**os.environ, "WYE_ADDRESS": f"unix://{shop.socket}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.read(4) == b"y\ny\n"
    child.stdout.close()
    child.wait(10)
    assert child.stderr is not None
    with child.stderr as stderr:
        assert stderr.read() == b""


def test_interrupting_exec_kills_the_process(shop: Served) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from wye.cli.main import main; main()", "exec", "-n", "production", "sh", "-c",
         "echo $$; sleep 1000"],
        env={**os.environ, "WYE_ADDRESS": f"unix://{shop.socket}"},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    with child.stdout as stdout:
        pid = int(stdout.readline())
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_interrupting_a_verb_says_that_it_goes_on(served: Served) -> None:
    served.images.gate.clear()
    (served.directory / "compose.yaml").write_text("name: shop\nservices: {web: {image: slow, command: [sleep, '9']}}")
    child = subprocess.Popen(
        [sys.executable, "-c", "from wye.cli.main import main; main()", "up", "--no-wait"],
        env={**os.environ, "WYE_ADDRESS": f"unix://{served.socket}"},
        cwd=served.directory,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    with child.stderr as stderr:
        assert b"slow" in stderr.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
        assert b"up goes on in the daemon" in stderr.read()
    served.images.gate.set()
    deadline = time.monotonic() + 10
    while not served.client.environments():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_terminal_is_raw_while_it_lasts_and_whole_afterwards(shop: Served) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    before = termios.tcgetattr(theirs)
    script = "stty size; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.02; done"
    child = subprocess.Popen(
        [sys.executable, "-c", "from wye.cli.main import main; main()", "exec", "production", "sh", "-c", script],
        env={**os.environ, "WYE_ADDRESS": f"unix://{shop.socket}"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    seen = b""
    while b"ready" not in seen:
        seen += os.read(ours, 4096)
    assert not termios.tcgetattr(theirs)[3] & (termios.ICANON | termios.ECHO)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    assert child.wait(10) == 6
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:
        pass
    os.close(ours)
    assert seen.split() == [b"33", b"111", b"ready", b"40", b"120"]


def test_environment_names_complete(shop: Served) -> None:
    shop.client.fork("production", "fix-1", asleep=True)
    done = subprocess.run(
        [sys.executable, "-c", "from wye.cli.main import main; main()"],
        env={
            **os.environ,
            "WYE_ADDRESS": f"unix://{shop.socket}",
            "_WYE_COMPLETE": "complete_bash",
            "COMP_WORDS": "wye discard f",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.stdout.split() == [b"fix-1"], done.stderr


def test_every_command_has_help_and_json(run: Run) -> None:
    _, listed, _ = run("--help")
    commands = [(name,) for name in re.findall(r"^│ ([a-z]+) ", listed, re.MULTILINE) if name != "daemon"]
    assert len(commands) >= 25
    commands += [("daemon", name) for name in ("status", "install", "uninstall")]
    for command in commands:
        code, told, _ = run(*command, "--help")
        assert code == 0
        assert command == ("shell",) or "--json" in told
        assert "list[" not in told, "that is Python"
