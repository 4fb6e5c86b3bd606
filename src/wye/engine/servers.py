"""Servers that kinds of state are read and changed through: an environment's own, and throwaway ones on copies.

A throwaway runs in a container of the service's own image, over a writable copy of a snapshot, without any network
and without power over anything outside. It is in no ledger: after a crash reconcile removes it.
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from wye.engine import apply, plan
from wye.engine.context import Engine, new_environment_id
from wye.errors import NotFound, Unavailable, Unsupported
from wye.interfaces import Endpoint, Served, ServerKind
from wye.merge.foreign import is_passing
from wye.model import Environment, Image, MountKind, Service, SnapshotId, Spec

_READY_S = 60.0
_LOOK_AGAIN_S = 1.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Store:
    """A volume that a kind claims, and the service that serves it."""

    kind: ServerKind
    volume: str
    service: Service
    folder: str = ""
    """Its part of the volume, where the volume holds other things beside; empty for all of it."""

    def holds(self, path: str) -> bool:
        """Whether a path of `PathChange` is one of its files, or nobody's: what is above its folder, and what clients
        leave in the volume, which may be the home of the server's user."""
        volume = f"volumes/{self.volume}/"
        own = f"{volume}{self.folder}".rstrip("/") + "/"
        return path.startswith(own) or own.startswith(f"{path}/") or (path.startswith(volume) and is_passing(path))

    @property
    def target(self) -> str:
        """Where the volume is mounted in the service."""
        return next(mount.target for mount in self.service.mounts if mount.source == self.volume)

    @property
    def place(self) -> str:
        return f"{self.kind.name} {self.service.name}"


def find_stores(engine: Engine, root: Path, spec: Spec, images: Mapping[str, Image]) -> list[Store]:
    """The databases among an environment's volumes, by service. `root`: of a snapshot or an environment, `images`: by
    service.

    A volume that several services can write to belongs to the first by name whose image has the server. Files in a
    volume can have any names: a backup that is called dump.rdb makes no database of one that nobody serves.
    """
    found = []
    for volume in sorted(spec.volumes):
        kind = next((each for each in engine.kinds if each.claims(root / "volumes" / volume)), None)
        if kind is None:
            store = _unsaved(engine, volume, spec, images)
        elif hasattr(kind, "read"):
            store = _store(engine, kind, volume, spec, images)  # type: ignore[arg-type]
            store = store and replace(store, folder=store.kind.folder(root / "volumes" / volume))
        else:
            continue
        if store is not None:
            found.append(store)
    return found


def stores_in(engine: Engine, environment: Environment, spec: Spec) -> list[Store]:
    """Those of an environment as it is now."""
    return find_stores(engine, engine.volumes.environment_path(environment.id), spec, environment.images)


def _store(engine: Engine, kind: ServerKind, volume: str, spec: Spec, images: Mapping[str, Image]) -> Store | None:
    writers = _writers(spec, volume)
    servers = [each for each in writers if _may_serve(engine, kind, images.get(str(each.name)))]
    chosen = servers or (writers if kind.is_unmistakable else [])
    return Store(kind, volume, chosen[0]) if chosen else None


def _unsaved(engine: Engine, volume: str, spec: Spec, images: Mapping[str, Image]) -> Store | None:
    """The store that a volume is going to be, as its service's command and image say."""
    for service in _writers(spec, volume):
        image = images.get(str(service.name))
        for kind in engine.kinds:
            if image is None or not isinstance(kind, ServerKind):
                continue
            store = Store(kind, volume, service)
            if kind.serves(_served(store, image, b"", b"")) and _may_serve(engine, kind, image):
                return store
    return None


def _writers(spec: Spec, volume: str) -> list[Service]:
    return [
        spec.services[name]
        for name in sorted(spec.services)
        for mount in spec.services[name].mounts
        if mount.kind is MountKind.VOLUME and mount.source == volume and not mount.read_only
    ]


def _served(store: Store, image: Image, told: bytes, told_elsewhere: bytes) -> Served:
    service = store.service
    return Served(
        place=store.place,
        target=store.target,
        working_dir=service.working_dir or image.config.working_dir,
        argv=image.config.command if service.command is None else service.command,
        told=told,
        told_elsewhere=told_elsewhere,
    )


def keep_told(engine: Engine, environment: Environment, store: Store, told: bytes) -> None:
    """What a kind told of a store's files, into the snapshot that is taken next."""
    path = _told_path(engine.volumes.environment_path(environment.id), store)
    if told:
        engine.host.write_file("store:told", path, told, mode=0o600)
    elif path.exists():
        engine.host.remove_tree("store:told", path)


def read_told(root: Path, store: Store) -> bytes:
    """What was kept with these bytes, empty if there is nothing. `root`: of a snapshot or an environment."""
    try:
        return _told_path(root, store).read_bytes()
    except FileNotFoundError:
        return b""


def _told_path(root: Path, store: Store) -> Path:
    """At the root, where no container can look."""
    return root / f".wye-told-{store.volume}"


def _may_serve(engine: Engine, kind: ServerKind, image: Image | None) -> bool:
    if image is None:
        return False
    try:
        rootfs = engine.images.rootfs(image)
    except NotFound:
        return True  # it is gone: what it was cannot be told any more
    return _program(kind, rootfs, image) is not None


def _program(kind: ServerKind, rootfs: Path, image: Image) -> str | None:
    return kind.program(rootfs, image.config.environment.get("PATH") or _PATH)


class RunningEndpoint:
    """Satisfies `interfaces.Endpoint`. `started`: called ahead of each use; returns once the server can be used, and
    raises what kept it from starting."""

    def __init__(
        self,
        engine: Engine,
        container_id: str,
        env: Mapping[str, str],
        argv: Sequence[str],
        root: Path,
        target: str,
        started: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine, self._container_id = engine, container_id
        self._started = started
        self.env = env
        self.argv = argv
        self.root = root
        self.target = target

    @contextlib.contextmanager
    def socket(self, path: str) -> Iterator[Path]:
        """A link of ours to a descriptor of theirs: nothing on the way can be exchanged by the container."""
        self._started()
        opened = self._engine.runtime.open_socket(self._container_id, path)
        try:
            with tempfile.TemporaryDirectory(prefix="wye-socket-") as directory:
                link = Path(directory) / os.path.basename(path)
                link.symlink_to(f"/proc/{os.getpid()}/fd/{opened}")
                yield link
        finally:
            os.close(opened)

    def dial(self, port: int) -> sockets.socket:
        self._started()
        return self._engine.runtime.dial(self._container_id, port)


def live(engine: Engine, environment: Environment, store: Store, *, timeout_s: float = _READY_S) -> Endpoint:
    """The environment's own server. Raises Unavailable if it does not answer. Whoever asks has the environment's turn,
    so nobody starts one that has ended: that is not waited for."""
    found = endpoint(engine, environment, store)
    deadline = engine.host.monotonic() + timeout_s
    while True:
        try:
            store.kind.await_ready(found, min(timeout_s, _LOOK_AGAIN_S))
            return found
        except Unavailable as error:
            if not apply.runs(engine, environment, str(store.service.name)):
                raise Unavailable(
                    f"service {store.service.name!r} of {environment.name!r} has ended: {error.message}",
                    hint=f"'wye logs {environment.name} {store.service.name}' has what it said; then try again",
                ) from error
            if engine.host.monotonic() > deadline:
                raise


def live_if_asked(engine: Engine, environment: Environment, store: Store) -> Endpoint:
    """The same for one who perhaps asks it nothing: only who does waits for it."""
    awaited = cache(lambda: live(engine, environment, store))
    return endpoint(engine, environment, store, awaited)


def endpoint(
    engine: Engine, environment: Environment, store: Store, started: Callable[[], object] = lambda: None
) -> RunningEndpoint:
    """The environment's own server, which may be starting still."""
    identity = apply.container_id(environment, str(store.service.name))
    env = {**environment.images[str(store.service.name)].config.environment, **store.service.environment}
    root = engine.volumes.environment_path(environment.id) / "volumes" / store.volume
    return RunningEndpoint(engine, identity, env, store.service.command or (), root, store.target, started)


@contextlib.contextmanager
def serving(engine: Engine, environment: Environment, spec: Spec, store: Store) -> Iterator[Endpoint]:
    """The environment's own server; of one that sleeps, started alone for the time, without network."""
    name = str(store.service.name)
    if apply.runs(engine, environment, name):
        yield live(engine, environment, store)
        return
    root = engine.volumes.environment_path(environment.id)
    store.kind.prepare(root / "volumes" / store.volume)
    wanted = replace(plan.container_plan(environment, spec, name, resolver=""), namespace=None)
    engine.runtime.start(wanted, root, engine.images.rootfs(environment.images[name]))
    try:
        yield live(engine, environment, store)
    finally:
        apply.stop_replica(engine, environment, store.service, name, verb="merge")


@dataclass(frozen=True, slots=True)
class Throwaway:
    """An endpoint, and the bytes it runs on. `wait` returns when it has started."""

    endpoint: Endpoint
    environment: Environment
    wait: Callable[[], object]


@contextlib.contextmanager
def throwaway(
    engine: Engine,
    environment: Environment,
    spec: Spec,
    images: Mapping[str, Image],
    snapshot: SnapshotId,
    store: Store,
    *,
    durable: bool = False,
    told_elsewhere: bytes = b"",
) -> Iterator[Throwaway]:
    """A server over a copy of `snapshot`, gone with all its bytes afterwards. `durable`: somebody keeps a snapshot of
    them, so what the server writes must reach the disk in order. `told_elsewhere` as in `Served`.

    It starts while the caller goes on: who first asks it something waits for it, and learns if it did not start."""
    name = str(store.service.name)
    temporary = replace(environment, id=new_environment_id(), images=dict(images), addresses={}, ports={})
    engine.host.at("throwaway:volumes")
    engine.volumes.fork(snapshot, temporary.id)
    identity = apply.container_id(temporary, name)
    try:
        root = engine.volumes.environment_path(temporary.id)
        volume = root / "volumes" / store.volume
        store.kind.prepare(volume)
        image = images[name]
        rootfs = engine.images.rootfs(image)
        program = _program(store.kind, rootfs, image)
        served = _served(store, image, read_told(root, store), told_elsewhere)
        own = store.kind.throwaway_argv(program, volume, durable=durable, served=served)
        argv = (*_entrypoint(store.service, image), *own)
        wanted = replace(
            plan.container_plan(temporary, spec, name, resolver=""),
            argv=argv,
            namespace=None,
            durable=False,
            yields=True,
            hostname="throwaway",
        )
        engine.host.at("throwaway:start")

        def start() -> None:
            engine.runtime.start(wanted, root, rootfs)
            store.kind.await_ready(RunningEndpoint(engine, identity, wanted.env, argv, volume, store.target), _READY_S)

        # Nothing is taken away before this thread has ended.
        with ThreadPoolExecutor(1, thread_name_prefix="throwaway") as starter:
            started = starter.submit(start)
            endpoint = RunningEndpoint(engine, identity, wanted.env, argv, volume, store.target, started.result)
            yield Throwaway(endpoint, temporary, started.result)
            started.result()
    finally:
        engine.runtime.delete(identity)
        engine.runtime.delete_logs(temporary.id)
        engine.volumes.delete_environment(temporary.id)


def _entrypoint(service: Service, image: Image) -> tuple[str, ...]:
    """The image's, which drops root and sets up directories; a service's own may do anything."""
    if service.entrypoint is not None:
        raise Unsupported(
            f"service {service.name!r} has an entrypoint of its own, so its data cannot be read apart from it",
            hint="use the image's entrypoint and give the settings as its command",
        )
    return image.config.entrypoint
