from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wye.drivers.crun.runtime import CrunRuntime
from wye.errors import Unavailable
from wye.host import Host
from wye.interfaces import Container, ContainerPlan, ExecPlan
from wye.testing.contracts.runtime import EXECS, PROGRAMS, RuntimeContract, World
from wye.testing.memory_runtime import Executed, MemoryRuntime, Program
from wye.testing.tiny_rootfs import tiny_rootfs


class TestMemory(RuntimeContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        def program(plan: ContainerPlan) -> Program:
            if plan.argv not in PROGRAMS:
                raise Unavailable(f"no program {plan.argv[0]}")
            return Program(*PROGRAMS[plan.argv])

        def execute(_: Container, plan: ExecPlan) -> Executed:
            return Executed(*EXECS[plan.argv])

        runtime = MemoryRuntime(programs=program, executes=execute)
        yield World(runtime, tmp_path, tmp_path)
        for container in runtime.containers():
            runtime.delete(container.id)


@pytest.mark.host
class TestCrun(RuntimeContract):
    @pytest.fixture
    def world(self, test_root: Path) -> Iterator[World]:
        host = Host()
        with tempfile.TemporaryDirectory(prefix="wye-runtime-") as name:
            # Containers' root, nobody on the host, passes through; pytest's own directories are private.
            directory = Path(name)
            directory.chmod(0o711)
            (directory / "environment").mkdir()
            runtime = CrunRuntime(host, directory=directory / "run", log_directory=directory / "logs")
            try:
                yield World(runtime, directory / "environment", tiny_rootfs(test_root / "tiny"))
            finally:
                for container in runtime.containers():
                    runtime.delete(container.id)
                runtime.erase()
