"""The image store: what the engine asks for images (`interfaces.Images`).

A reference that begins with `wye/` names a catalogue image, made here from Debian packages. Every other one is
an OCI reference and means what it means everywhere; none is replaced by something similar behind one's back.
"""

from __future__ import annotations

from pathlib import Path

from wye.drivers.images import diagnosis
from wye.drivers.images.catalogue import PREFIX, Catalogue
from wye.drivers.images.debian import Debian
from wye.drivers.images.layers import Limits
from wye.drivers.images.python_build import PythonBuilds
from wye.drivers.images.registry import Registries
from wye.drivers.images.shelf import Shelf
from wye.host import Host
from wye.interfaces import Finding, Report
from wye.model import Build, Image

_LIMITS = Limits()
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class ImageStore:
    """Images in `directory`, which lies in the pool so that copies share their blocks. `cache` holds what can
    be fetched again: package archives, layers of OCI images, wheels."""

    def __init__(
        self,
        host: Host,
        *,
        directory: Path,
        cache: Path,
        uid_base: int = 200_000,
        registries_insecure: frozenset[str] = LOOPBACK,
        registry_answer_s: float = 15.0,
        limits: Limits = _LIMITS,
    ) -> None:
        self._host = host
        self._cache = cache
        self._shelf = Shelf(host, directory, uid_base)
        self._debian = Debian(host, cache)
        self._catalogue = Catalogue(self._shelf, self._debian)
        self._registries = Registries(
            self._shelf,
            cache,
            insecure=registries_insecure,
            limits=limits,
            answer_s=registry_answer_s,
            known=self._catalogue.names(),
        )
        self._builds = PythonBuilds(
            self._shelf, lambda reference, report: self._catalogue.resolve(reference, pull=False, report=report)
        )

    def open(self) -> None:
        """Makes the directories and removes what was cut short. Called once at start.

        Raises Conflict if the images here were shifted for other user ids."""
        self._host.make_directory("images:open", self._cache, mode=0o700)
        self._shelf.open()

    def diagnose(self) -> list[Finding]:
        """For `wye doctor`: what this machine lacks for images, and the fix. Changes nothing."""
        return diagnosis.findings(self._debian)

    def resolve(self, reference: str, *, pull: bool, report: Report) -> Image:
        if reference.startswith(PREFIX):
            return self._catalogue.resolve(reference, pull=pull, report=report)
        return self._registries.resolve(reference, pull=pull, report=report)

    def present(self, reference: str) -> Image | None:
        if reference.startswith(PREFIX):
            return self._catalogue.present(reference)
        return self._registries.present(reference)

    def build(self, build: Build, *, report: Report) -> Image:
        return self._builds.build(build, report=report)

    def rootfs(self, image: Image) -> Path:
        return self._shelf.rootfs(image.digest)

    def digests(self) -> frozenset[str]:
        return self._shelf.digests()

    def delete(self, digest: str) -> None:
        self._shelf.delete(digest)
