"""The whole engine on memory drivers: every verb in milliseconds, without root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wye.daemon import restarting
from wye.daemon.doors import HostDoors
from wye.daemon.supervise import ThreadSupervisor
from wye.engine import up
from wye.engine.context import Engine, Settings
from wye.engine.views import UpResult
from wye.errors import NotFound
from wye.host import Host
from wye.interfaces import Report, silent
from wye.kinds.postgres.volume import PostgresVolume
from wye.kinds.trees.kind import Trees
from wye.model import Build, Image, ImageConfig
from wye.store.ledger import Ledger
from wye.store.memory import MemoryStore
from wye.testing.memory_network import MemoryNetwork
from wye.testing.memory_runtime import MemoryRuntime
from wye.testing.memory_volumes import MemoryVolumes

COMPOSE = """
name: small
services:
  db:
    image: wye/postgres
    volumes: ["data:/var/lib/data"]
    ports: ["127.0.0.1::5432"]
  web:
    image: wye/python
    command: ["python3", "-m", "http.server"]
    depends_on: [db]
    ports: ["127.0.0.1::8000"]
volumes: {data: {}}
"""


@dataclass
class FixedImages:
    """Every reference that begins with "wye/" is an image with a command; what it holds is one directory."""

    root: Path
    tags: dict[str, str] = field(default_factory=dict)
    resolved: list[str] = field(default_factory=list)

    def resolve(self, reference: str, *, pull: bool, report: Report) -> Image:
        self.resolved.append(reference)
        return self.image(reference)

    def present(self, reference: str) -> Image | None:
        return self.image(reference) if reference in self.resolved else None

    def image(self, reference: str) -> Image:
        if not reference.startswith("wye/"):
            raise NotFound(f"there is no image {reference!r}", hint="use wye/base")
        digest = (self.tags.get(reference, reference).encode().hex() + "0" * 64)[:64]
        (self.root / digest).mkdir(parents=True, exist_ok=True)
        return Image(reference=reference, digest=digest, config=ImageConfig(command=("serve",)))

    def build(self, build: Build, *, report: Report) -> Image:
        return self.resolve("wye/built", pull=False, report=report)

    def rootfs(self, image: Image) -> Path:
        if not (self.root / image.digest).exists():
            raise NotFound(f"image {image.digest} is not here")
        return self.root / image.digest

    def digests(self) -> frozenset[str]:
        return frozenset(path.name for path in self.root.iterdir())

    def delete(self, digest: str) -> None:
        (self.root / digest).rmdir()


@dataclass
class World:
    """An engine and the memory below it."""

    engine: Engine
    runtime: MemoryRuntime
    network: MemoryNetwork
    volumes: MemoryVolumes
    images: FixedImages
    project: Path

    def up(
        self, compose: str = COMPOSE, name: str = "production", *, wait: bool = False, lenient: bool = False
    ) -> UpResult:
        (self.project / "compose.yaml").write_text(compose)
        request = up.Request(name=name, directory=str(self.project), wait=wait, lenient=lenient)
        return up.up(self.engine, request, actor="test", report=silent)

    def file(self, name: str, path: str) -> Path:
        """A file of a volume of an environment, on this machine."""
        head = self.engine.ledger.head(name)  # type: ignore[arg-type]
        assert head is not None
        return self.volumes.environment_path(head[1].environment.id) / "volumes" / path

    def alive(self) -> set[str]:
        return {container.id.split("-", 1)[1] for container in self.runtime.containers() if container.pid is not None}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    host = Host()
    volumes = MemoryVolumes(tmp_path / "pool")
    volumes.open()
    store, runtime, network = MemoryStore(), MemoryRuntime(), MemoryNetwork()
    images = FixedImages(tmp_path / "images")
    images.root.mkdir()
    events: list[object] = []
    supervisor = ThreadSupervisor(host, runtime, events.append)
    doors = HostDoors(host, first=25000, last=25999)
    engine = Engine(
        host=host,
        ledger=Ledger(store, store),
        volumes=volumes,
        images=images,
        runtime=runtime,
        network=network,
        doors=doors,
        supervisor=supervisor,
        files=Trees(host, uid_base=os.getuid()),
        kinds=(PostgresVolume(host),),
        settings=Settings(uid_base=os.getuid()),
    )
    supervisor.serve(lambda name, container: restarting.restart(engine, name, container))
    project = tmp_path / "project"
    project.mkdir()
    yield World(engine, runtime, network, volumes, images, project)
    supervisor.close()
    doors.close()
