"""conmon: the small process that stays with a container when this one goes.

It starts the OCI runtime, reads the container's output into its log, and writes its exit code to a file. Both the
container and conmon are reparented away from us at once, so neither notices our end.

conmon asks its runtime to `create`; a shell of one line makes that a `run`, which saves the second start of the
runtime (3 to 4 ms). The pid, or the runtime's error, comes back on a pipe that only conmon holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wye.drivers.crun import process
from wye.drivers.crun.bundle import Bundle
from wye.errors import Unavailable
from wye.host import Host

LOG_BYTES = 16 << 20
"""At this size conmon starts a container's log anew."""

_ANSWER_WITHIN_S = 60.0
# crun gives its standard streams to the container's root. conmon opens /dev/null for a stdin that nobody wants, and
# the host's /dev/null must not change hands: the empty here-document is a pipe at its end instead.
_RUN = """root=$1; stdin=$2; [ "$3" = create ] || exit 125; shift 3
set -- "$0" --root "$root" --cgroup-manager=cgroupfs run -d "$@"
case $stdin in
open) exec "$@" ;;
terminal) exec "$@" >&2 <<END
END
;;
shut) exec "$@" <<END
END
;;
esac
"""
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_HINTS = (
    ("not found in $PATH", "the image has no such program: check `command` and `entrypoint`"),
    ("open executable", "the program cannot be executed: check `command`, and the file's mode and user"),
    ("chdir", "the directory is not there: check `working_dir`"),
    ("drop all controllers from cgroupv2", "run 'wye doctor'"),
    ("private: Permission denied", "the directories above the daemon's runtime directory need mode 0711 or wider"),
)


class StartFailed(Unavailable):
    """The container could not be started; nothing of it is left."""

    code = "start_failed"
    retryable = False


class Conmon:
    def __init__(self, host: Host, program: str, runtime: Path, runtime_root: Path) -> None:
        self._host = host
        self._program = program
        self._runtime = runtime
        self._runtime_root = runtime_root

    def start(self, bundle: Bundle, log: Path, *, tty: bool, stdin_open: bool) -> tuple[int, int]:
        """Starts what `bundle` describes. Returns the pids of the container's first process and of conmon.

        Raises StartFailed with the runtime's own words.
        """
        argv = (
            self._argv(bundle, log, "terminal" if tty else "open" if stdin_open else "shut")
            + ["-t"] * tty
            + ["-i", "--leave-stdin-open"] * stdin_open
        )
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            with open(bundle.conmon_log, "wb") as words:
                program = self._host.spawn(
                    "start:conmon",
                    argv,
                    stderr=words,
                    env={**_ENV, "_OCI_SYNCPIPE": str(theirs)},
                    cwd=bundle.path,
                    pass_fds=(theirs,),
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            answer = self._answer(pipe.fileno())
        # It leaves a child behind and ends; that it has ended also means that its pid file is there.
        program.wait(_ANSWER_WITHIN_S)
        pid, message = int(answer.get("pid", -1)), str(answer.get("message", ""))
        if pid <= 0:
            raise self._failure(bundle, message)
        return pid, process.pid_in(bundle.conmon_pid_file) or 0

    def _argv(self, bundle: Bundle, log: Path, stdin: str) -> list[str]:
        return [
            self._program, "-c", bundle.id, "-u", bundle.id, "-n", bundle.id, "-b", str(bundle.path),
            "-p", str(bundle.pid_file), "-P", str(bundle.conmon_pid_file), "--exit-dir", str(bundle.exits),
            "-l", f"k8s-file:{log}", "--log-size-max", str(LOG_BYTES), "--no-sync-log", "--full-attach",
            "--no-new-keyring", "-r", "/bin/sh",
            *_runtime_arguments("-c", _RUN, self._runtime, self._runtime_root, stdin),
        ]  # fmt: skip

    def _answer(self, pipe: int) -> dict[str, Any]:
        """The one line that conmon sends; empty if it ended, or said nothing in time."""
        deadline = self._host.monotonic() + _ANSWER_WITHIN_S
        data = b""
        while b"\n" not in data and process.wait_readable(pipe, deadline - self._host.monotonic()):
            got = os.read(pipe, 65536)
            if not got:
                break
            data += got
        try:
            answer = json.loads(data or b"{}")
        except ValueError:
            return {"message": data.decode(errors="replace")}
        return answer if isinstance(answer, dict) else {}

    def _failure(self, bundle: Bundle, message: str) -> StartFailed:
        said = bundle.conmon_log.read_text(errors="replace") if bundle.conmon_log.exists() else ""
        words = (message or said or "conmon ended without a word").strip()[-2000:]
        hint = next((hint for part, hint in _HINTS if part in words), None)
        return StartFailed(f"{bundle.id}: {words}", hint=hint)


def _runtime_arguments(*arguments: str | Path) -> Sequence[str]:
    return [f"--runtime-arg={argument}" for argument in arguments]
