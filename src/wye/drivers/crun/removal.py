"""Taking away a container, whole or half-made: processes, runtime state, control groups, mounts, bundle, in this order.

Every step can be repeated and none needs the one before to have succeeded in an earlier life, so a removal that was cut
short is finished by the next one. The bundle goes last: until then the container is listed.
"""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

from wye.drivers.crun import process
from wye.drivers.crun.bundle import Bundle
from wye.drivers.crun.cgroup import Cgroups
from wye.errors import Unavailable
from wye.host import Host

_CONMON_ENDS_WITHIN_S = 2.0
_STRAGGLERS_END_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.002


class Removal:
    def __init__(self, host: Host, cgroups: Cgroups, crun: list[str], runtime_root: Path) -> None:
        self._host = host
        self._cgroups = cgroups
        self._crun = crun
        self._runtime_root = runtime_root

    def remove(self, bundle: Bundle) -> None:
        """Raises OperationFailed or Unavailable if something refuses to go; then all of it is still listed."""
        cgroup = self._cgroups.path(bundle.id)
        state = bundle.state()
        if state is None:
            self._end_stragglers(bundle, cgroup)
        self._cgroups.kill(cgroup)
        if state is not None and not process.wait(state.conmon, _CONMON_ENDS_WITHIN_S):
            process.send(state.conmon, signal.SIGKILL)
            process.wait(state.conmon, _CONMON_ENDS_WITHIN_S)
        runtime_state = self._runtime_root / bundle.id
        if runtime_state.exists():
            # Its failure is no matter of its own: what it leaves is removed below.
            self._host.run("delete:runtime", [*self._crun, "delete", "-f", bundle.id], check=False)
            self._host.remove_tree("delete:runtime-state", runtime_state)
        self._cgroups.remove(cgroup)
        bundle.remove()

    def _end_stragglers(self, bundle: Bundle, cgroup: str) -> None:
        """conmon and the runtime may still be at work on a container that nobody waits for."""
        deadline = self._host.monotonic() + _STRAGGLERS_END_WITHIN_S
        while found := _at_work_on(bundle.path):
            if self._host.monotonic() > deadline:
                raise Unavailable(f"{bundle.id}: processes {[one.pid for one in found]} do not end")
            for straggler in found:
                process.send(straggler, signal.SIGKILL)
            self._cgroups.kill(cgroup)
            self._host.sleep(_LOOK_EVERY_S)


def _at_work_on(bundle: Path) -> list[process.Process]:
    """Processes that were started with this bundle: conmon (`-b`), and the runtime or its shell (`--bundle`)."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        one = process.identify(int(entry))
        try:
            arguments = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        named = itertools.pairwise(arguments)
        if one.ticks and any(flag in (b"-b", b"--bundle") and path == os.fsencode(bundle) for flag, path in named):
            found.append(one)
    return found
