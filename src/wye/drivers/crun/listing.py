"""Which containers are there, as their bundles tell and the kernel confirms. Reads only; needs no lock.

A bundle whose state was never written is a start that was cut short. One of an earlier boot has ended with it, whatever
runs under its process id now.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from wye.drivers.crun import bundle as bundles
from wye.drivers.crun import process
from wye.drivers.crun.bundle import Bundle, Record, State
from wye.drivers.crun.cgroup import Cgroups
from wye.host import Host
from wye.interfaces import Container
from wye.model import EnvironmentId

HALF_MADE, UNKNOWN = 125, 137
"""Exit codes of a container whose start was cut short, and of one whose end nobody wrote down."""

_CONMON_WRITES_WITHIN_S = 5.0


class Listing:
    """The containers whose bundles are in `directory`."""

    def __init__(self, host: Host, directory: Path, cgroups: Cgroups) -> None:
        self._host = host
        self._directory = directory
        self._cgroups = cgroups
        self.boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def bundle(self, container_id: str) -> Bundle:
        return Bundle(self._host, self._directory, container_id)

    def state(self, container_id: str) -> State | None:
        """What was written when it had started, in this boot or an earlier one."""
        return self.bundle(container_id).state() if bundles.is_id(container_id) else None

    def current(self, container_id: str) -> State | None:
        """Its state, if it was started in this boot."""
        state = self.state(container_id)
        return state if state is not None and state.boot == self.boot else None

    def ids(self) -> list[str]:
        try:
            return sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []

    def container(self, bundle: Bundle) -> Container | None:
        record, state = bundle.record(), bundle.state()
        if record is None or state is None:
            return _half_made(bundle, record) if bundle.exists() else None
        if state.boot == self.boot and process.is_alive(state.process):
            return running(record, state)
        return replace(
            running(record, state),
            pid=None,
            exit_code=self._exit_code(bundle, state),
            out_of_memory=self._cgroups.out_of_memory(record.cgroup),
            cut_short=state.boot != self.boot,
        )

    def _exit_code(self, bundle: Bundle, state: State) -> int:
        code = bundle.exit_code()
        if code is None and state.boot == self.boot:
            # conmon writes it a moment after the end, and ends itself then.
            process.wait(state.conmon, _CONMON_WRITES_WITHIN_S)
            code = bundle.exit_code()
        return UNKNOWN if code is None else code


def running(record: Record, state: State) -> Container:
    return Container(
        id=record.id,
        environment=EnvironmentId(record.environment),
        name=record.name,
        pid=state.pid,
        started_at=state.started_at,
    )


def _half_made(bundle: Bundle, record: Record | None) -> Container:
    environment, _, name = bundle.id.partition("-")
    return Container(
        id=bundle.id,
        environment=EnvironmentId(environment),
        name=name,
        pid=None,
        started_at=record.created_at if record else 0.0,
        exit_code=HALF_MADE,
        cut_short=True,
    )
