"""CrunRuntime: the Runtime of the engine, over crun and conmon.

One start is, in this order: bundle, layer and its overlay, users, binds and files, configuration, conmon (which starts
crun and with it the process), state. Cut short anywhere, the container is listed as half-made (ended with 125), and
`delete` takes away what there is of it. A start that fails does that itself.

Exit codes are what conmon wrote down. Where nobody could (conmon was killed too), a container's code is 137, as if
somebody had killed it, which is the likely truth.

Thread-safe. One runtime at a time uses one `directory`, which is best on a tmpfs: it must not outlive the boot.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wye.drivers.crun import bundle as bundles
from wye.drivers.crun import (
    capabilities,
    check,
    config,
    diagnosis,
    execution,
    layer,
    process,
    reach,
    sources,
    sysctl,
    users,
)
from wye.drivers.crun.bundle import Bundle, Record, State
from wye.drivers.crun.cgroup import Cgroups, Layout
from wye.drivers.crun.conmon import Conmon
from wye.drivers.crun.listing import Listing, running
from wye.drivers.crun.logs import Logs
from wye.drivers.crun.removal import Removal
from wye.drivers.crun.seccomp import ANNOTATION, Filters
from wye.drivers.crun.turns import Turns
from wye.errors import BadRequest, Conflict, NotFound, Unsupported
from wye.host import Host
from wye.interfaces import Container, ContainerPlan, ExecPlan, ExecProcess, Finding, LogLine
from wye.model import EnvironmentId

INIT_PROGRAMS = (Path("/usr/bin/catatonit"), Path("/usr/libexec/podman/catatonit"), Path("/usr/bin/tini-static"))

_SYSTEM = ("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage")
_log = logging.getLogger(__name__)


class CrunRuntime:
    """Keeps `Runtime`. `directory` is for state, `log_directory` for what containers write to stdout and stderr.

    `uid_base`: host uid and gid of every container's root; 65536 ids from there on are the containers'.
    """

    def __init__(
        self,
        host: Host,
        *,
        directory: Path,
        log_directory: Path,
        uid_base: int = 200000,
        crun: str = "crun",
        conmon: str = "conmon",
        init_programs: Sequence[Path] = INIT_PROGRAMS,
    ) -> None:
        self._host = host
        self._directory = directory
        self._containers = directory / "containers"
        self._runtime_root = directory / "crun"
        self._uid_base = uid_base
        self._init_programs = tuple(init_programs)
        self._programs = (crun, conmon)
        self._crun = [crun, "--root", str(self._runtime_root), "--cgroup-manager=cgroupfs"]
        self._cgroups = Cgroups(host, groups_of(directory))
        self._filters = Filters(host, directory / "seccomp")
        self._conmon = Conmon(host, conmon, Path(shutil.which(crun) or crun), self._runtime_root)
        self._removal = Removal(host, self._cgroups, self._crun, self._runtime_root)
        self._logs = Logs(host, log_directory)
        self._listing = Listing(host, self._containers, self._cgroups)
        self._system = tuple(path for path in _SYSTEM if os.path.isdir(path))
        self._numbers = itertools.count()
        self._turns = Turns()
        self._prepared = False

    # ------------------------------------------------------------ start

    def start(self, plan: ContainerPlan, root: Path, rootfs: Path) -> Container:
        """As `Runtime.start`. Raises StartFailed, Conflict, BadRequest, NotFound, Unsupported."""
        for name in (plan.environment, plan.name):
            bundles.check_name(name)
        sysctl.check(plan.sysctls)
        if not plan.argv:
            raise BadRequest(f"{plan.id}: nothing to run", hint="set `command` or `entrypoint`")
        record = self._record(plan)
        self._prepare()
        with self._turns.of(plan.id, starting=True):
            bundle = self._listing.bundle(plan.id)
            if bundle.exists():
                present = self._listing.container(bundle)
                if present is not None and present.pid is not None:
                    raise Conflict(f"container {plan.id} runs already", hint="stop it first")
                self._removal.remove(bundle)
            try:
                return self._start(plan, record, bundle, root, rootfs)
            except BaseException:
                self._removal.remove(bundle)
                raise

    def _start(self, plan: ContainerPlan, record: Record, bundle: Bundle, root: Path, rootfs: Path) -> Container:
        bundle.create(record)
        log = self._logs.prepare(plan.environment, plan.name)
        layer.mount(
            self._host,
            root=root,
            name=plan.name,
            rootfs=rootfs,
            target=bundle.merged,
            owner=self._uid_base,
            durable=plan.durable,
        )
        granted = frozenset(record.capabilities)
        compiled = self._filters.compiled(granted)
        found = config.Found(
            rootfs=str(bundle.merged),
            cgroup=record.cgroup,
            uid_base=self._uid_base,
            sources=self._sources(plan, bundle, root),
            system=self._system,
            cgroup_mount=self._cgroups.layout is Layout.UNIFIED,
            limits_swap=self._cgroups.limits_swap,
            filter=self._filters.section(granted),
            annotations={ANNOTATION: compiled} if compiled else {},
        )
        argv = (config.INIT_TARGET, "--", *plan.argv) if plan.init else plan.argv
        process_spec = self._process(bundle, record, argv, plan.env, plan.working_dir, plan.tty, plan.user)
        self._host.write_file(
            "start:config", bundle.config, config.configuration(plan, found, process_spec), mode=0o600
        )
        if plan.namespace is not None:
            sysctl.write_network(self._host, plan.namespace, plan.sysctls)
        pid, conmon_pid = self._conmon.start(bundle, log, tty=plan.tty, stdin_open=plan.stdin_open)
        first, watcher = process.identify(pid), process.identify(conmon_pid)
        state = State(
            boot=self._listing.boot,
            pid=first.pid,
            ticks=first.ticks,
            conmon_pid=watcher.pid,
            conmon_ticks=watcher.ticks,
            started_at=self._host.now(),
        )
        if compiled is None:
            self._filters.keep(granted, self._runtime_root / plan.id)
        bundle.finish(state)
        return running(record, state)

    def _record(self, plan: ContainerPlan) -> Record:
        granted = capabilities.granted(plan.cap_add, plan.cap_drop, own_network=plan.namespace is None)
        limits, lowered = config.rlimits(plan.ulimits, process.hard_limits(plan.ulimits))
        for words in lowered:
            _log.warning("%s: %s", plan.id, words)
        return Record(
            id=plan.id,
            environment=plan.environment,
            name=plan.name,
            cgroup=self._cgroups.path(plan.id),
            created_at=self._host.now(),
            env=plan.env,
            working_dir=plan.working_dir,
            user=plan.user,
            group_add=plan.group_add,
            capabilities=tuple(sorted(granted)),
            rlimits=tuple(limits),
            no_new_privileges=plan.no_new_privileges,
            files=tuple(file.target for file in plan.files),
        )

    def _sources(self, plan: ContainerPlan, bundle: Bundle, root: Path) -> tuple[config.Source, ...]:
        binds = [sources.bind(self._host, bundle, n, root, wanted) for n, wanted in enumerate(plan.binds)]
        files = [sources.file(self._host, bundle, n, self._uid_base, wanted) for n, wanted in enumerate(plan.files)]
        return (*binds, *files, *([config.Source(self._init(), config.INIT_TARGET, True)] if plan.init else []))

    def _init(self) -> str:
        for program in self._init_programs:
            if program.exists():
                return str(program)
        raise Unsupported("`init: true` needs an init program on the host", hint="apt-get install catatonit")

    def _process(
        self,
        bundle: Bundle,
        record: Record,
        argv: Sequence[str],
        env: dict[str, str],
        working_dir: str,
        tty: bool,
        user: str,
    ) -> dict[str, Any]:
        accounts = [self._hostile(bundle, f"etc/{name}") for name in ("passwd", "group")]
        identity = users.resolve(user, record.group_add, *accounts)
        return config.process(
            argv,
            env,
            working_dir,
            tty,
            identity,
            record.capabilities,
            rlimits=record.rlimits,
            no_new_privileges=record.no_new_privileges,
        )

    def _hostile(self, bundle: Bundle, path: str) -> bytes:
        try:
            return self._host.read_beneath(bundle.merged, path)
        except OSError:
            # Missing, a link, no file at all: the container has no such accounts.
            return b""

    def _prepare(self) -> None:
        """Once, at the first start: so that a daemon without containers leaves the machine alone."""
        if self._prepared:
            return
        self._cgroups.prepare()
        for directory in (self._directory, self._containers, self._directory / "seccomp"):
            self._host.make_directory("start:directory", directory, mode=0o711)
            directory.chmod(0o711)
        self._prepared = True

    # ------------------------------------------------------------ what is there

    def container(self, container_id: str) -> Container | None:
        if not bundles.is_id(container_id) or self._turns.is_starting(container_id):
            return None
        return self._listing.container(self._listing.bundle(container_id))

    def containers(self) -> list[Container]:
        """As `Runtime.containers`; half-made ones have ended with 125. What is just being started is not there yet."""
        found = (self.container(container_id) for container_id in self._listing.ids())
        return [container for container in found if container is not None]

    def wait(self, container_id: str, timeout_s: float | None = None) -> Container | None:
        if self._listing.state(container_id) is None:
            return None
        current = self._listing.current(container_id)
        if current is not None and not process.wait(current.process, timeout_s):
            return None
        return self.container(container_id)

    def exit_descriptor(self, container_id: str) -> int | None:
        state = self._listing.current(container_id)
        return process.descriptor(state.process) if state is not None else None

    def open_socket(self, container_id: str, path: str) -> int:
        return reach.open_socket(self._host, self.container(container_id), path)

    def dial(self, container_id: str, port: int) -> socket.socket:
        return reach.dial(self._host, self.container(container_id), port)

    def port_use(self, container_id: str, port: int) -> tuple[bool, int]:
        return reach.port_use(self.container(container_id), port)

    def memory_bytes(self, container_id: str) -> int | None:
        return self._cgroups.memory_bytes(self._cgroups.path(container_id)) if bundles.is_id(container_id) else None

    def diagnose(self) -> list[Finding]:
        """For `wye doctor`: what this machine lacks for containers, and the fix. Changes nothing."""
        return diagnosis.findings(self._programs, self._init_programs) + self._cgroups.diagnose()

    # ------------------------------------------------------------ ending

    def erase(self) -> None:
        """What is on the machine besides containers, once there are none, for those who uninstall. The next start of a
        container makes it anew."""
        self._cgroups.erase()

    def signal(self, container_id: str, number: int) -> None:
        state = self._listing.current(container_id)
        if state is not None:
            self._host.at("signal")
            process.send(state.process, number)

    def kill_all(self, container_id: str) -> None:
        if bundles.is_id(container_id):
            self._cgroups.kill(self._cgroups.path(container_id))

    def delete(self, container_id: str) -> None:
        if not bundles.is_id(container_id):
            return
        with self._turns.of(container_id):
            bundle = self._listing.bundle(container_id)
            if bundle.exists():
                self._removal.remove(bundle)

    def delete_logs(self, environment: EnvironmentId) -> None:
        bundles.check_name(environment)
        self._logs.delete(environment)

    # ------------------------------------------------------------ inside

    def exec(self, container_id: str, plan: ExecPlan) -> ExecProcess:
        return self._exec(container_id, plan)

    def check(
        self, container_id: str, argv: Sequence[str], timeout_s: float, *, output_bytes: int = 4096
    ) -> tuple[int, str]:
        running = self._exec(container_id, ExecPlan(argv=tuple(argv)), one_output=True)
        return check.finish(self._host, running, timeout_s, output_bytes)

    def _exec(self, container_id: str, plan: ExecPlan, *, one_output: bool = False) -> execution.CrunProcess:
        bundle = self._listing.bundle(container_id)
        state = self._listing.current(container_id)
        record = bundle.record() if state is not None else None
        if record is None or state is None or not process.is_alive(state.process):
            raise NotFound(f"container {container_id} does not run", hint="start its service, or wake its environment")
        working_dir = record.working_dir if plan.working_dir is None else plan.working_dir
        user = record.user if plan.user is None else plan.user
        env = {**record.env, **plan.env}
        spec = self._process(bundle, record, plan.argv, env, working_dir, plan.tty, user)
        if plan.tty:
            spec["consoleSize"] = {"height": plan.rows, "width": plan.columns}
        return execution.start(
            self._host,
            crun=self._crun,
            container_id=container_id,
            process_spec=spec,
            files=execution.Files(bundle.path, next(self._numbers)),
            members=lambda: self._cgroups.processes(record.cgroup),
            one_output=one_output,
        )

    def replace_file(self, container_id: str, target: str, content: bytes) -> None:
        """As `Runtime.replace_file`. Raises NotFound."""
        bundle = self._listing.bundle(container_id)
        record = bundle.record() if bundles.is_id(container_id) else None
        if record is None or target not in record.files:
            raise NotFound(f"container {container_id} has no file {target}")
        self._host.at("replace-file:write")
        with open(bundle.file(record.files.index(target)), "r+b") as file:
            file.write(content)
            file.truncate()

    def logs(
        self,
        environment: EnvironmentId,
        name: str,
        *,
        since_at: float | None = None,
        tail: int | None = None,
        follow: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        for part in (environment, name):
            bundles.check_name(part)
        return self._logs.read(environment, name, since_at=since_at, tail=tail, follow=follow)


def groups_of(directory: Path) -> str:
    """The control group of all containers of a runtime: two daemons on one machine keep apart by their directories."""
    return f"/wye/{hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:8]}"
