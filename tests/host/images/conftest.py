"""What tests of images share: the catalogue, made once per machine; a registry on loopback; a way to run in one."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wye.drivers.images.chamber import Chamber, View
from wye.drivers.images.layers import Limits
from wye.drivers.images.store import ImageStore
from wye.host import Host
from wye.interfaces import silent
from wye.model import Image

UID_BASE = 200_000


@pytest.fixture(scope="session")
def catalogue() -> ImageStore:
    """A store that is kept from run to run, so that the catalogue is made once per machine."""
    root = Path(os.environ.get("WYE_TEST_IMAGES", "/var/tmp/wye-test-images"))
    store = ImageStore(Host(), directory=root / "images", cache=root / "cache", uid_base=UID_BASE)
    store.open()
    named = {json.loads(path.read_text())["digest"] for path in (root / "images/references").iterdir()}
    for left in store.digests() - named:
        store.delete(left)
    return store


StoreFactory = Callable[..., ImageStore]


@pytest.fixture
def new_store(tmp_path: Path) -> StoreFactory:
    """A store in this test's own directory, opened; called again, the same directory with another host."""

    def make(host: Host | None = None, *, limits: Limits | None = None, answer_s: float = 15.0) -> ImageStore:
        store = ImageStore(
            host or Host(),
            directory=tmp_path / "store/images",
            cache=tmp_path / "store/cache",
            uid_base=UID_BASE,
            registry_answer_s=answer_s,
            limits=limits or Limits(),
        )
        store.open()
        return store

    return make


# ---------------------------------------------------------------- running in an image


@dataclass
class Inside:
    """A container's view of an image, with a layer of its own over it that lasts as long as this does."""

    image: Image
    rootfs: Path
    work: Path
    env: dict[str, str] = field(default_factory=dict)
    views: tuple[View, ...] = ()

    def run(
        self, script: str, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> list[str]:
        """Lines of output of a shell script run as root. Raises ProgramFailed."""
        lines: list[str] = []
        chamber = Chamber(
            host=Host(),
            rootfs=self.rootfs,
            work=self.work,
            uid_base=UID_BASE,
            views=self.views,
            env={**self.image.config.environment, **self.env, **(env or {})},
            cwd=self.image.config.working_dir,
        )
        chamber.run("test:inside", ["bash", "-c", script, "bash", *arguments], lines.append, timeout_s=timeout_s)
        return lines


@pytest.fixture
def inside(catalogue: ImageStore, tmp_path: Path) -> Iterator[Callable[..., Inside]]:
    host = Host()
    with contextlib.ExitStack() as stack:

        def make(
            reference: str | Image, *, env: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
        ) -> Inside:
            """`files`: what is bound at /docker-entrypoint-initdb.d and the like, path -> content."""
            image = catalogue.resolve(reference, pull=False, report=silent) if isinstance(reference, str) else reference
            place = tmp_path / f"inside-{image.digest[:12]}"
            for name in ("upper", "work", "root", "chamber", "data"):
                (place / name).mkdir(parents=True)
            os.chown(place / "upper", UID_BASE, UID_BASE)
            os.chown(place / "data", UID_BASE, UID_BASE)
            options = f"lowerdir={catalogue.rootfs(image)},upperdir={place / 'upper'},workdir={place / 'work'}"
            host.mount("test:overlay", "overlay", place / "root", "overlay", options=options)
            stack.callback(host.unmount, "test:overlay", place / "root", lazy=True)
            for path, content in (files or {}).items():
                target = place / "root" / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(content)
                target.chmod(0o755 if path.endswith(".exec.sh") else 0o644)
                os.chown(target, UID_BASE, UID_BASE)
            volumes = tuple(View(place / "data", volume, writable=True) for volume in image.config.volumes)
            return Inside(image, place / "root", place / "chamber", dict(env or {}), volumes)

        yield make


# ---------------------------------------------------------------- a registry, and images to push


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """ "127.0.0.1:PORT" of a real registry."""
    directory = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (directory / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    process = Host().spawn("test:registry", ["docker-registry", "serve", str(directory / "config.yml")])
    try:
        deadline = time.monotonic() + 20
        while True:
            with (
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=5),
            ):
                break
            assert process.poll() is None, "the registry did not start"
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.02)
        yield address
    finally:
        process.terminate()
        process.wait(10)


Member = tuple[str, Mapping[str, Any], bytes]


def member(name: str, content: bytes = b"", **attributes: Any) -> Member:
    """A tar member; attributes are tarfile.TarInfo's, by name."""
    return name, attributes, content


def directory(name: str, **attributes: Any) -> Member:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **attributes}, b""


def layer(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, attributes, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class Pusher:
    """Writes an OCI layout and pushes it with skopeo."""

    registry: str
    directory: Path
    member: Callable[..., Member] = member
    folder: Callable[..., Member] = directory
    layer: Callable[..., bytes] = layer

    def push(
        self,
        name: str,
        layers: Sequence[bytes],
        config: Mapping[str, Any] | None = None,
        *,
        options: Sequence[str] = (),
        platforms: Sequence[str] = (),
    ) -> str:
        """Returns the reference. Each of `layers` is a tar archive. `options` are skopeo's; with `platforms`, an
        index is pushed that has this image for this machine and says that it has one for each of those."""
        layout = self.directory / hashlib.sha256(os.urandom(8)).hexdigest()[:12]
        blobs = layout / "blobs/sha256"
        blobs.mkdir(parents=True)

        def blob(data: bytes, kind: str) -> dict[str, Any]:
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest).write_bytes(data)
            return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        document = {
            "architecture": machine,
            "os": "linux",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
        }
        kind = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "config": blob(json.dumps(document).encode(), f"{kind}.config.v1+json"),
            "layers": [blob(gzip.compress(data, mtime=0), f"{kind}.layer.v1.tar+gzip") for data in layers],
        }
        entry = blob(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
        if platforms:
            entries = [
                {**entry, "platform": {"os": "linux", "architecture": architecture}}
                for architecture in (*platforms, machine)
            ]
            index = {"schemaVersion": 2, "mediaType": f"{kind}.index.v1+json", "manifests": entries}
            entry = blob(json.dumps(index).encode(), f"{kind}.index.v1+json")
        entry["annotations"] = {"org.opencontainers.image.ref.name": "image"}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        reference = f"{self.registry}/{name}"
        argv = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *options, f"oci:{layout}:image"]
        Host().run("test:push", [*argv, f"docker://{reference}"])
        return reference


@pytest.fixture
def pusher(registry: str, tmp_path: Path) -> Pusher:
    (tmp_path / "layouts").mkdir()
    return Pusher(registry, tmp_path / "layouts")
