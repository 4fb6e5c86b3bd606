"""Images that are only values, for tests of the engine: no root, no network, no disk, the same promises.

A reference leads to the image that the test gave for it; anything else is not found. `pull` and `build` can be
watched through `resolved` and `built`, and what a tag means can be changed by `put`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from wye.errors import NotFound
from wye.host import Host
from wye.interfaces import Progress, Report
from wye.model import Build, Image, ImageConfig


class MemoryImages:
    """Keeps `wye.interfaces.Images`. Root file systems are paths below `directory` where nothing need be."""

    def __init__(
        self,
        images: Mapping[str, ImageConfig] | None = None,
        *,
        directory: Path = Path("/images"),
        host: Host | None = None,
    ) -> None:
        """`images`: reference -> configuration."""
        self._host = host or Host()
        self._directory = directory
        self._named: dict[str, Image] = {}
        self._present: dict[str, Image] = {}
        self.resolved: list[tuple[str, bool]] = []
        self.built: list[Build] = []
        for reference, config in (images or {}).items():
            self.put(reference, config)

    def put(self, reference: str, config: ImageConfig, *, content: str = "") -> Image:
        """What a registry would now answer for `reference`. `content` makes images of one configuration differ."""
        digest = hashlib.sha256(f"{reference}\0{content}\0{config}".encode()).hexdigest()
        image = Image(reference=reference, digest=digest, config=config)
        self._named[reference] = image
        return image

    def resolve(self, reference: str, *, pull: bool, report: Report) -> Image:
        self._host.at("images:resolve")
        self.resolved.append((reference, pull))
        present = self.present(reference)
        if present is not None and not pull:
            return present
        image = self._named.get(reference)
        if image is None:
            known = ", ".join(sorted(self._named))
            raise NotFound(f"there is no image {reference}", hint=f"known here: {known or 'none'}")
        report(Progress(step="download", subject=reference))
        for digest, other in list(self._present.items()):
            if other.reference == reference:
                self._present[digest] = replace(other, reference="")
        self._present[image.digest] = image
        return image

    def present(self, reference: str) -> Image | None:
        return next((image for image in self._present.values() if image.reference == reference), None)

    def build(self, build: Build, *, report: Report) -> Image:
        """Equal contexts and arguments give equal images."""
        self._host.at("images:build")
        self.built.append(build)
        digest = hashlib.sha256(f"{build.context}\0{sorted(build.args.items())}".encode()).hexdigest()
        image = Image(reference=f"build/{digest[:12]}", digest=digest, config=ImageConfig(working_dir="/app"))
        if digest not in self._present:
            report(Progress(step="build", subject=image.reference))
            self._present[digest] = image
        return image

    def rootfs(self, image: Image) -> Path:
        if image.digest not in self._present:
            raise NotFound(f"image {image.digest[:12]} is not on this machine", hint="run 'wye up' to fetch it again")
        return self._directory / image.digest / "rootfs"

    def digests(self) -> frozenset[str]:
        return frozenset(self._present)

    def delete(self, digest: str) -> None:
        self._host.at("images:delete")
        self._present.pop(digest, None)
