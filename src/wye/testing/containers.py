"""Real containers for tests: a runtime in a directory of its own, an environment beside it, what is left of both."""

from __future__ import annotations

import itertools
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wye.drivers.crun.runtime import CrunRuntime, groups_of
from wye.errors import InvariantError
from wye.host import Host
from wye.interfaces import Container, ContainerPlan, ExecPlan
from wye.model import EnvironmentId, Image, ImageConfig

UID_BASE = 200000
ENVIRONMENT = EnvironmentId(f"h0st{secrets.token_hex(4)}")
"""Of this process: leftovers are told by it, while other tests may run on the same machine."""
_SOON_S = 30.0


@contextmanager
def containers(rootfs: Path, init_programs: tuple[Path, ...] = ()) -> Iterator[Containers]:
    """A place for containers of the image at `rootfs`. They are removed at the end; that nothing is left is checked."""
    with tempfile.TemporaryDirectory(prefix="wye-crun-") as name:
        directory = Path(name)
        # Containers' root, nobody on the host, passes through; pytest's own directories are private.
        directory.chmod(0o711)
        place = Containers(directory, rootfs, init_programs)
        try:
            yield place
        finally:
            for container in place.runtime.containers():
                place.runtime.delete(container.id)
            place.runtime.erase()
        left = [*place.leftovers(), *map(str, _groups(directory / "run"))]
        if left:
            raise InvariantError(f"containers left {left}")


def _groups(run: Path) -> list[Path]:
    """A runtime's own control groups, which it has for all its containers."""
    below = groups_of(run).lstrip("/")
    return [*Path("/sys/fs/cgroup").glob(f"*/{below}"), *Path("/sys/fs/cgroup").glob(below)]


@dataclass
class Containers:
    """What containers of one test need. Another daemon's runtime over the same state: `runtime_with`."""

    directory: Path
    rootfs: Path
    init_programs: tuple[Path, ...]
    root: Path = field(init=False)
    runtime: CrunRuntime = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.directory / "environment"
        (self.root / "volumes").mkdir(parents=True)
        self.runtime = self.runtime_with(Host())

    def runtime_with(self, host: Host) -> CrunRuntime:
        """Another daemon's runtime, over the same state."""
        return CrunRuntime(
            host,
            directory=self.directory / "run",
            log_directory=self.directory / "logs",
            init_programs=self.init_programs,
        )

    def plan(self, *argv: str, name: str = "web", **options: Any) -> ContainerPlan:
        plan = ContainerPlan(
            environment=ENVIRONMENT,
            name=name,
            image=Image(reference="tiny", digest="sha256:0", config=ImageConfig()),
            argv=argv or ("sleep", "1000"),
            env={},
            working_dir="/",
            user="",
            hostname=name,
        )
        return replace(plan, **options)

    def start(self, *argv: str, **options: Any) -> Container:
        return self.runtime.start(self.plan(*argv, **options), self.root, self.rootfs)

    def output(self, *argv: str, **options: Any) -> str:
        """What a container says until it ends, stdout and stderr in lines."""
        container = self.start(*argv, **options)
        if self.runtime.wait(container.id, _SOON_S) is None:
            raise InvariantError(f"{argv} does not end")
        text = "\n".join(line.text for line in self.runtime.logs(container.environment, container.name))
        self.runtime.delete(container.id)
        self.runtime.delete_logs(container.environment)
        return text

    def shell(self, script: str, **options: Any) -> str:
        """`output` of a shell script, its errors in order with the rest."""
        return self.output("sh", "-c", f"exec 2>&1; {script}", **options)

    def volume(self, name: str = "data") -> Path:
        path = self.root / "volumes" / name
        path.mkdir()
        os.chown(path, UID_BASE, UID_BASE)
        return path

    def run(self, container: Container, *argv: str, **options: Any) -> tuple[int, str]:
        """An exec's exit code and all its output."""
        process = self.runtime.exec(container.id, ExecPlan(argv=argv, **options))
        try:
            process.close_stdin()
            text = read_all(process.stdout) + (read_all(process.stderr) if process.stderr is not None else "")
            code = process.wait(_SOON_S)
            if code is None:
                raise InvariantError(f"{argv} does not end")
            return code, text
        finally:
            process.close()

    def leftovers(self) -> list[str]:
        """What of containers is on the machine: mounts, control groups, state. Empty when all is deleted."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        groups = [group for group in Path("/sys/fs/cgroup").glob("*/wye/*/*") if str(ENVIRONMENT) in group.name]
        groups += Path("/sys/fs/cgroup").glob(f"wye/*/{ENVIRONMENT}*")
        # Newer versions of crun keep compiled system-call filters beside the state, in .cache.
        state = [*(self.directory / "run").glob("containers/*"), *(self.directory / "run").glob("crun/[!.]*")]
        below = [mount for mount in mounts if mount.startswith(f"{self.directory / 'run'}/")]
        return [*below, *map(str, groups), *map(str, state), *map(str, self.processes())]

    def processes(self) -> list[int]:
        """conmon, crun and others that were started for this place."""
        prefix = os.fsencode(self.directory / "run" / "containers")
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                arguments = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            named = itertools.pairwise(arguments)
            if any(flag in (b"-b", b"--bundle") and path.startswith(prefix) for flag, path in named):
                found.append(int(entry))
        return found


def read_all(descriptor: int) -> str:
    """To the end of a pipe, or of a terminal (which says EIO)."""
    data = b""
    while True:
        try:
            got = os.read(descriptor, 65536)
        except OSError:
            break
        if not got:
            break
        data += got
    return data.decode(errors="replace")
