"""What the engine needs from the world.

Small protocols, each kept by one driver in `drivers/` and by a fake in `testing/`, both of which pass the
same contract suite (`testing/contracts/`). Unless a method says otherwise: repeating it is harmless, asking
to remove what is not there is harmless, and it raises a WyeError when the world refuses.
"""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from wye.merge.conflict import Conflict
from wye.model import (
    Build,
    Condition,
    EnvironmentId,
    EnvironmentName,
    File,
    Healthcheck,
    Image,
    Limits,
    Mount,
    ObjectId,
    Service,
    ServiceStatus,
    SnapshotId,
    Usage,
)

# ---------------------------------------------------------------- progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One line of news from something that takes long. `done` and `total` are in `unit`; None: unknown."""

    step: str
    subject: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of `wye doctor`. `level`: "ok", "warning" (works, less well), "failure" (does not work)."""

    subject: str
    level: str
    text: str
    fix: str = ""


def silent(_: Progress) -> None:
    """A Report for those who do not care."""


# ---------------------------------------------------------------- store


class Objects(Protocol):
    """Immutable bytes, named by their SHA-256."""

    def put(self, data: bytes) -> ObjectId: ...

    def get(self, object_id: ObjectId) -> bytes:
        """Raises NotFound."""
        ...

    def delete(self, object_id: ObjectId) -> None:
        """For collect only."""
        ...

    def ids(self, prefix: str = "") -> Iterator[ObjectId]: ...


class Refs(Protocol):
    """Names for objects. A ref moves only by compare_and_swap, which is durable when it returns."""

    def read(self, ref: str) -> ObjectId | None: ...

    def list(self, prefix: str) -> dict[str, ObjectId]: ...

    def compare_and_swap(
        self, ref: str, *, expected: ObjectId | None, new: ObjectId | None, durable: bool = True
    ) -> None:
        """Points `ref` at `new` if it still points at `expected`.

        None for `expected`: the ref must not exist. None for `new`: it shall not. Raises RefConflict, and then
        nothing has changed. Objects put before are durable when this is. With `durable=False` a power
        failure may forget it (never a crash of the daemon alone): for intents.
        """
        ...


# ---------------------------------------------------------------- volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """One path that differs between two snapshots, relative to the environment's root.

    `kind` is "added", "removed" or "modified"; `extents` are the changed byte ranges (offset, length) of a
    regular file that is in both; `metadata_only`: mode, owner, times or attributes but no content.
    """

    path: str
    kind: str
    extents: tuple[tuple[int, int], ...] = ()
    metadata_only: bool = False


class Volumes(Protocol):
    """The pool: environments' bytes, their snapshots, and room for images."""

    def open(self) -> None:
        """Attaches and mounts what has to be; called once at start, and again after the pool was detached."""
        ...

    def close(self) -> None:
        """Unmounts and detaches. Fails with Conflict while something in the pool is in use."""
        ...

    def create(self, environment: EnvironmentId) -> None:
        """An empty environment, with `volumes/` and `layers/`. Raises Conflict if it is there."""
        ...

    def snapshot(
        self, environment: EnvironmentId, snapshot: SnapshotId, *, lend_to: Collection[EnvironmentId] = ()
    ) -> None:
        """An immutable copy of all the environment's bytes at one instant; constant time. `lend_to`: as `lend` would,
        for nothing more.

        Durable when it returns. Raises NotFound, Conflict, DiskFull, and then nothing is there."""
        ...

    def fork(self, snapshot: SnapshotId, environment: EnvironmentId, *, limit_bytes: int | None = None) -> None:
        """A new environment whose bytes are the snapshot's; constant time. Raises NotFound, Conflict, DiskFull."""
        ...

    def lend(self, snapshot: SnapshotId, environment: EnvironmentId) -> None:
        """Like `fork`, for less: until `own` the bytes are the snapshot's own, and nobody may write to them.

        Durable when it returns. Raises as `fork` does."""
        ...

    def own(
        self,
        environment: EnvironmentId,
        *,
        limit_bytes: int | None = None,
        settle: Callable[[Path], None] | None = None,
    ) -> None:
        """Makes the bytes of an environment that was lent them its own; constant time. Nothing happens if they are.

        `settle` is given its root before anybody else is, and again if this is cut short: let it do no harm then.
        Raises NotFound, DiskFull, and Unsupported as `require_limits` does."""
        ...

    def lent(self) -> frozenset[EnvironmentId]:
        """Environments without bytes of their own."""
        ...

    def delete_environment(self, environment: EnvironmentId) -> None: ...

    def delete_snapshot(self, snapshot: SnapshotId) -> None:
        """Nothing happens if it is not there. Raises Conflict while it is lent."""
        ...

    def environments(self) -> frozenset[EnvironmentId]: ...

    def snapshots(self) -> frozenset[SnapshotId]: ...

    def environment_path(self, environment: EnvironmentId) -> Path:
        """Its root. What is below is hostile: see `host.open_beneath`."""
        ...

    def snapshot_path(self, snapshot: SnapshotId) -> Path: ...

    def changes(self, base: SnapshotId, new: SnapshotId) -> list[PathChange]:
        """What differs, in time proportional to what differs. Sorted by path."""
        ...

    def usage(self, environment: EnvironmentId) -> Usage: ...

    def limit(self, environment: EnvironmentId, limit_bytes: int | None) -> None:
        """Raises Unsupported as `require_limits` does."""
        ...

    def require_limits(self) -> None:
        """Raises Unsupported where the kernel has no simple quotas."""
        ...

    def capacity(self) -> tuple[int, int]:
        """(bytes in use, bytes in all)."""
        ...


# ---------------------------------------------------------------- images


class Images(Protocol):
    """Root file systems, unpacked once, read-only, ownership shifted into the containers' user namespace."""

    def resolve(self, reference: str, *, pull: bool, report: Report) -> Image:
        """The image a reference names: a catalogue name ("wye/postgres", "postgres:16" if the catalogue
        stands in for it) or an OCI reference. Built or pulled if it is missing, and again if `pull`.

        Cut short, it leaves nothing that a later call would take for whole. Raises NotFound with a hint."""
        ...

    def present(self, reference: str) -> Image | None:
        """The image a reference names, if it is here already. Fetches and makes nothing."""
        ...

    def build(self, build: Build, *, report: Report) -> Image:
        """An image from a directory, cached by its content."""
        ...

    def rootfs(self, image: Image) -> Path:
        """Raises NotFound if it is not unpacked here."""
        ...

    def digests(self) -> frozenset[str]: ...

    def delete(self, digest: str) -> None: ...


# ---------------------------------------------------------------- runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A directory or file of the pool that appears in a container. `source` is relative to the environment's
    root, opened without following links."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """All that the runtime needs to start one container; made by `engine.plan`, which is pure."""

    environment: EnvironmentId
    name: str
    """The replica: "web", "web-2". The container's id is "<environment>-<name>"."""
    image: Image
    argv: tuple[str, ...]
    env: dict[str, str]
    working_dir: str
    user: str
    """As in an image config: "", "name", "uid", "name:group", "uid:gid"."""
    hostname: str
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Mount, ...] = ()
    files: tuple[File, ...] = ()
    """Secrets, configs, and our own /etc/hosts, /etc/resolv.conf."""
    namespace: str | None = None
    """Name of the network namespace, as in `Attachment.namespaces`; None: a new one with only loopback."""
    limits: Limits = Limits()
    init: bool = False
    tty: bool = False
    stdin_open: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = True
    group_add: tuple[str, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    ulimits: dict[str, tuple[int, int]] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    labels: dict[str, str] = field(default_factory=dict)
    durable: bool = True
    """Whether fsync on the container's layer reaches the disk (on volumes it always does). False is for what may lose
    seconds of its layer in a power failure, such as a fork: ending it then never writes back the whole pool."""
    yields: bool = False
    """Whether it gets less of the processors than others while both want them."""

    @property
    def id(self) -> str:
        return f"{self.environment}-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What is there. `pid` is the container's first process on the host, None when it has ended."""

    id: str
    environment: EnvironmentId
    name: str
    pid: int | None
    started_at: float
    exit_code: int | None = None
    out_of_memory: bool = False
    cut_short: bool = False
    """It did not end by itself: its start was cut short, or the machine went down under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecPlan:
    """A further process in a running container."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    tty: bool = False
    rows: int = 24
    columns: int = 80


class ExecProcess(Protocol):
    """A process in a container, by its host-side descriptors. Belongs to one caller.

    With a TTY `stdin` and `stdout` are the same terminal and `stderr` is None. Descriptors are closed by
    `close()`, which also kills the process if it still runs.
    """

    stdin: int
    stdout: int
    stderr: int | None

    def close_stdin(self) -> None: ...

    def resize(self, rows: int, columns: int) -> None: ...

    def signal(self, number: int) -> None: ...

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit code (128 + n for signal n), or None if the time ran out."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    at: float
    stream: str
    """"stdout" or "stderr"."""
    text: str


class Runtime(Protocol):
    """Containers. They outlive this process; `containers()` finds those of an earlier one again."""

    def start(self, plan: ContainerPlan, root: Path, rootfs: Path) -> Container:
        """Starts `plan` over the image at `rootfs`; `root` is the environment's root (its layer is at
        `layers/<name>`). Returns when the process runs. Raises Conflict if one of that id runs; what is left of
        one that has ended is removed first. On failure nothing is left."""
        ...

    def container(self, container_id: str) -> Container | None: ...

    def containers(self) -> list[Container]:
        """All that are there, running or ended, of this daemon or an earlier one."""
        ...

    def signal(self, container_id: str, number: int) -> None:
        """To its first process. Harmless if it has ended."""
        ...

    def kill_all(self, container_id: str) -> None:
        """SIGKILL to every process in it."""
        ...

    def wait(self, container_id: str, timeout_s: float | None = None) -> Container | None:
        """Waits for its end; None if the time ran out or there is no such container."""
        ...

    def exit_descriptor(self, container_id: str) -> int | None:
        """A descriptor that becomes readable when it ends; the caller closes it. None if it has ended."""
        ...

    def replace_file(self, container_id: str, target: str, content: bytes) -> None:
        """New content for one of the plan's `files`, seen by the running container at once (same inode)."""
        ...

    def open_socket(self, container_id: str, path: str) -> int:
        """A descriptor (O_PATH) of the Unix socket at `path` as the container sees it, opened without following a
        link; connect to it through /proc/self/fd. Raises NotFound."""
        ...

    def dial(self, container_id: str, port: int) -> sockets.socket:
        """A TCP connection to `port` on the container's own loopback. Raises Unavailable."""
        ...

    def port_use(self, container_id: str, port: int) -> tuple[bool, int]:
        """Whether something listens at TCP `port` in the container's network, and how many connections to it are open.
        (False, 0) if the container does not run."""
        ...

    def delete(self, container_id: str) -> None:
        """Kills what runs, removes all of it: processes, mounts, cgroup, bundle. Its logs go with
        `delete_logs`, its layer with the environment."""
        ...

    def delete_logs(self, environment: EnvironmentId) -> None: ...

    def exec(self, container_id: str, plan: ExecPlan) -> ExecProcess:
        """Raises NotFound if the container does not run."""
        ...

    def check(
        self, container_id: str, argv: Sequence[str], timeout_s: float, *, output_bytes: int = 4096
    ) -> tuple[int, str]:
        """Runs a short command, as a healthcheck does: (exit code, output's first bytes); 124 on time-out."""
        ...

    def logs(
        self,
        environment: EnvironmentId,
        name: str,
        *,
        since_at: float | None = None,
        tail: int | None = None,
        follow: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        """Its log, of this and earlier containers of that name. While `follow()` is true, waits for more."""
        ...

    def memory_bytes(self, container_id: str) -> int | None: ...


# ---------------------------------------------------------------- network


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """A private network, the same for an environment and all its forks; namespaces for one shape can be
    made ahead of need. `endpoints`: replica → IPv4 address; `ports`: what is published, in a fixed order."""

    subnet: str
    gateway: str
    endpoints: tuple[tuple[str, str], ...]
    ports: tuple[tuple[str, str, int, str], ...]
    """(publication key, address, container port, protocol)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An environment's network, up. `namespaces`: replica → path to give to the runtime."""

    environment: EnvironmentId
    namespaces: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A port of an environment on the host: `host_ip:host_port` leads to the shape's port `key`."""

    key: str
    host_ip: str
    host_port: int
    protocol: str


class Network(Protocol):
    """Network namespaces, a bridge per environment, published ports, and who may reach whom.

    No environment reaches another one, the host's own services, or (without egress) anything outside.
    """

    def open(self) -> None:
        """Base rules; adopts what an earlier daemon left."""
        ...

    def warm(self, shape: NetworkShape, count: int) -> None:
        """Keeps `count` networks of this shape ready, made in the background; 0 forgets the shape."""
        ...

    def attach(self, environment: EnvironmentId, shape: NetworkShape, *, egress: Mapping[str, bool]) -> Attachment:
        """Brings the network up. `egress`: by replica. Again with another shape: changed in place, so that
        endpoints in both shapes go on undisturbed."""
        ...

    def publish(self, environment: EnvironmentId, publications: Sequence[Publication], *, cut: bool = True) -> None:
        """Makes exactly these the environment's published ports. Call after attach. `cut`: connections through ports
        that are published no longer end; otherwise they go on, and only new ones do not arrive."""
        ...

    def detach(self, environment: EnvironmentId) -> None:
        """Takes all of it away: ports, rules, namespaces."""
        ...

    def environments(self) -> frozenset[EnvironmentId]:
        """Those with anything left here, for reconcile."""
        ...

    def dial(self, environment: EnvironmentId, key: str) -> tuple[str, int]:
        """Address on the host at which the daemon itself reaches published port `key`. Raises NotFound."""
        ...

    def close(self) -> None:
        """Stops making things ahead and removes what nobody took. Environments' networks stay up."""
        ...


# ---------------------------------------------------------------- doors and supervision


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A published port as wanted. `port` None: any free one of the range."""

    key: str
    host_ip: str
    port: int | None
    protocol: str


class Doors(Protocol):
    """Holds published ports on the host, so that nobody else takes them and a knock on a sleeping
    environment's port wakes it."""

    def hold(self, environment: EnvironmentName, doors: Sequence[Door]) -> dict[str, int]:
        """Makes exactly these the environment's doors, keeping those it has. Host port by key.

        Raises PortTaken (Conflict), and then the environment's doors are as they were."""
        ...

    def release(self, environment: EnvironmentName) -> None: ...

    def rename(self, old: EnvironmentName, new: EnvironmentName) -> None: ...


class Supervisor(Protocol):
    """Watches containers: notes ends, restarts by policy with backoff, runs healthchecks."""

    def watch(
        self, environment: EnvironmentName, container: Container, service: Service, healthcheck: Healthcheck | None
    ) -> None:
        """From now on; also for a container of an earlier daemon. Again for the same id: starts over."""
        ...

    def forget(self, container_id: str) -> None:
        """No longer: it is about to be stopped on purpose, or gone."""
        ...

    def failed(self, environment: EnvironmentName, container_id: str, service: Service, reason: str) -> None:
        """It could not be started; tried again by policy."""
        ...

    def rename(self, old: EnvironmentName, new: EnvironmentName) -> None: ...

    def status(self, container_id: str) -> ServiceStatus | None: ...

    def wait(self, container_id: str, condition: Condition, timeout_s: float) -> ServiceStatus | None:
        """Until the condition holds or can no longer come true, or the time is out. The status then."""
        ...


# ---------------------------------------------------------------- kinds


class Kind(Protocol):
    """The knowledge of one kind of state that lives in a volume."""

    name: str

    def claims(self, root: Path) -> bool:
        """Whether the volume at `root` holds this kind. Reads only, follows no link."""
        ...

    def prepare(self, root: Path) -> None:
        """Makes a copied volume safe to start from: removes what would tie it to its source
        (`postmaster.pid`). Called after a fork or restore, before any service starts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is known of a volume's server apart from the volume's files. `place` names it in conflicts ("redis cache");
    `target` is where the volume is mounted in its container, `working_dir` where it starts, `argv` its command.

    `told`: what `ServerKind.tell` or `settle` gave just before these bytes were kept, if they were asked;
    `told_elsewhere`: what they gave for other bytes, of a server with the same settings."""

    place: str = ""
    target: str = ""
    working_dir: str = ""
    argv: tuple[str, ...] = ()
    told: bytes = b""
    told_elsewhere: bytes = b""


class Endpoint(Protocol):
    """A running server of an environment, reached from the host. What it answers is hostile."""

    env: Mapping[str, str]
    """The variables it was started with."""
    argv: Sequence[str]
    """The command it was started with."""
    root: Path
    """Its volume's root on the host; below it everything is hostile."""
    target: str
    """Where that volume is mounted in its container."""

    def socket(self, path: str) -> AbstractContextManager[Path]:
        """A path on the host that leads to the Unix socket at `path` in its container. Raises NotFound."""
        ...

    def dial(self, port: int) -> sockets.socket:
        """A connection to `port` on its loopback. Raises Unavailable."""
        ...


class Changes(Protocol):
    """What one kind of state went through in one place: net and exact, a value that outlives its servers."""

    @property
    def kind(self) -> str: ...

    @property
    def place(self) -> str: ...

    def __bool__(self) -> bool:
        """Whether there is anything."""
        ...

    def stat(self) -> dict[str, Any]:
        """Counts that fit a screen, as JSON."""
        ...

    def page(self, offset: int, limit: int) -> dict[str, Any]:
        """In full, as JSON: from item `offset` on at most `limit`."""
        ...

    def to_json(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a project says of merging one kind of state (`x-wye: merge:`), as JSON, and what people decided:
    resolutions by conflict id. `dry_run`: everything but the commit."""

    settings: dict[str, Any] = field(default_factory=dict)
    resolutions: dict[str, Any] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """`seconds` by step; `items`: rows, keys, and whatever else was written. 0: the target had all of it. `settled`:
    ids of resolutions that took effect."""

    seconds: dict[str, float] = field(default_factory=dict)
    items: int = 0
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """One side's files: an environment's root or a snapshot's, and the images below its layers, by replica."""

    root: Path
    images: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDelta:
    """One path that differs. `place` is "volume NAME" or "layer REPLICA"; `path` within it, absolute; `text`: hunks of
    a unified diff, for text. `before`, `after`: (kind, size, mode, uid, gid, link target), ids as in the container."""

    place: str
    path: str
    change: str
    before: tuple[str, int, int, int, int, str] | None
    after: tuple[str, int, int, int, int, str] | None
    text: str | None = None


class FileApplication(Protocol):
    """File writes that were carried out and can still be undone."""

    def check(self) -> list[Conflict]:
        """Files that somebody wrote to while they were being replaced. Undo if there is one."""
        ...

    def release(self) -> None:
        """Commits the databases that it holds locked: services see all of it from now on. It can still be undone, and
        what others have written to them since stays."""
        ...

    def commit(self) -> None: ...

    def undo(self) -> list[str]: ...


class FilePlan(Protocol):
    """What a merge of files would write, or why it cannot."""

    @property
    def conflicts(self) -> list[Conflict]: ...

    @property
    def settled(self) -> frozenset[str]:
        """Ids of resolutions that took effect."""
        ...

    def places(self) -> dict[str, int]:
        """How many paths are written, by place; of a database ("sqlite volume NAME:/PATH") how many rows."""
        ...

    def paths(self) -> frozenset[str]:
        """What is written, as in `PathChange`."""
        ...

    def disturbed(self) -> frozenset[str]:
        """Places ("volume NAME", "layer REPLICA") whose services must not run while it is applied: a database in a
        volume is none, it takes its changes while others use it."""
        ...


class FileKind(Protocol):
    """Files: whatever no other kind claims, and the databases that lie in files."""

    def changes(
        self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange], *, text: bool, whole: bool = False
    ) -> list[FileDelta]:
        """`text`: with unified diffs of text files. `whole`: databases too, as the files that they are."""
        ...

    def databases(self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange]) -> list[Changes]:
        """Of the databases that are on both sides: those that `changes` leaves out."""
        ...

    def patch(self, base: Bytes, theirs: Bytes, paths: Sequence[PathChange]) -> bytes:
        """The changes of text files, as `git apply` takes them."""
        ...

    def plan(
        self,
        base: Bytes,
        ours: Bytes,
        theirs: Bytes,
        paths: Sequence[PathChange],
        resolutions: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        *,
        back: bool = False,
    ) -> FilePlan:
        """Three ways; writes nothing. `paths`: what differs between base and theirs. `settings` as in `Terms`. `back`:
        base is what a merge made of theirs, so databases go back by what that merge wrote, not by all that differs."""
        ...

    def apply(self, plan: FilePlan, theirs: Bytes, live: Bytes) -> FileApplication:
        """Wholly or not at all. Layers that it writes to must not be mounted. Raises Refused if the live files are not
        what the plan saw."""
        ...

    def recover(self, root: Path, *, finish: bool = False) -> bool:
        """Undoes what a killed `apply` did below an environment's root, or with `finish` keeps it if it was carried
        out in full. Whether there was anything."""
        ...


@runtime_checkable
class ServerKind(Kind, Protocol):
    """A kind of state that only a running server can read: databases.

    `read` and `apply` raise Refused (a CheckFailed that carries the complete list of conflicts); then nothing has
    changed.
    """

    is_unmistakable: bool
    """Whether what it claims is a database even where no image has its server: better to fail than to merge files."""

    def program(self, rootfs: Path, search_path: str) -> str | None:
        """This kind's server in the image at `rootfs`, with `search_path` as its PATH; None if it has none."""
        ...

    def folder(self, root: Path) -> str:
        """The part of a volume that it claims which is the database's, relative to `root`; empty for all of it. Beside
        it there are files like any other."""
        ...

    def serves(self, served: Served) -> bool:
        """Whether a service with this command, whose image has the server, keeps its data in that volume, although
        nothing in the volume says so yet."""
        ...

    def settle(self, server: Endpoint) -> bytes:
        """Has a live server put into its files what only its memory holds, before a snapshot of it is taken. Returns
        what `tell` would."""
        ...

    def tell(self, server: Endpoint) -> bytes:
        """What the files of a running server do not say of themselves, to be kept with the snapshot that is taken next;
        empty if they say all."""
        ...

    def throwaway_argv(self, program: str | None, root: Path, *, durable: bool, served: Served) -> tuple[str, ...]:
        """How to start `program`, the image's own, over a copy of the volume at `root` so that it acts on nothing
        outside: appended to the image's entrypoint. Not `durable`: nobody keeps what it writes, so it need not sync.

        Raises Refused if a copy of the volume has not what the server had."""
        ...

    def await_ready(self, server: Endpoint, timeout_s: float) -> None:
        """Until it answers. Raises Unavailable."""
        ...

    def hasten(self, root: Path) -> None:
        """The server that is started next over the volume at `root` need not sync what it writes until `prepare_fork`
        is done: a snapshot comes next, which is durable, and until then the bytes can be made anew. Until then they
        may be torn by a power failure. `prepare` takes it back."""
        ...

    def prepare_fork(self, server: Endpoint) -> None:
        """Makes a fresh fork's own server, once it answers, ready to be changed and, later, compared. The base
        snapshot comes next. Raises Unavailable."""
        ...

    def read(
        self,
        base: Endpoint,
        theirs: Endpoint,
        freeze: Callable[[], list[PathChange]],
        *,
        place: str,
        settings: Terms,
        descends: bool = True,
    ) -> Changes:
        """What `theirs` changed since `base`. `base` is a throwaway; `theirs` may be in use. `freeze` takes a snapshot
        of theirs now and says what differs from the base's, with paths relative to the volume. `descends`: theirs began
        with the base's bytes; otherwise both came of something older."""
        ...

    def unknown_tables(self, server: Endpoint, settings: Terms) -> frozenset[str]:
        """Names in the settings that are of no table, or of no column, of this server's, as they are written there."""
        ...

    def apply(
        self, target: Endpoint, changes: Changes, terms: Terms, keep: Callable[[bytes], None] | None = None
    ) -> Applied:
        """Into a running server, in one transaction per database. Writers of other things go on meanwhile.

        Just before each commit `keep` gets what takes back all that was applied by then, exactly: what others wrote
        is not in it. What it does not keep is not committed."""
        ...

    def load(
        self,
        kept: bytes,
        *,
        place: str,
        target: Endpoint | None = None,
        back: Sequence[bytes] = (),
        before: Callable[[], AbstractContextManager[Endpoint]] | None = None,
    ) -> Changes:
        """What `keep` got, to be applied like other changes. With `target`: for an `apply` that may have been cut
        short there, without what never came to its commit, and without what `back` has brought back: what `keep` got
        in earlier attempts to apply this, each of which may have been cut short too. `before`: opens a server on the
        bytes before that `apply`, asked only for what it destroyed; without it, that is not brought back, and its
        taking back refused by name."""
        ...


@runtime_checkable
class LiveKind(ServerKind, Protocol):
    """One whose `read` copes with a server that others write to. All others are read on a copy of a snapshot."""

    def moment(self, server: Endpoint) -> str:
        """Of a live server. The same text twice: nothing was committed between."""
        ...

    def outlives(self, root: Path) -> bool:
        """Whether a copy of the volume at `root`, made while its server ran, has all of it when it is started."""
        ...
