"""The shelf: images on disk, and how one gets there.

    <directory>/<digest>/rootfs, image.json     a whole image; appears with one rename and never changes
    <directory>/layers/<key>/rootfs             what builds keep to start from (dependencies without source)
    <directory>/references/<hash>.json          reference -> digest
    <directory>/.staging/<key>/                 one in the making, under the lock of its key
    <directory>/.locks/<key>

Guarantees: whoever sees `<digest>/image.json` sees a whole image, whatever was killed when, power included
(the file system is synced before the rename). Two that make the same image do it once: the second waits for
the lock and finds it made. Staging that no lock protects is left over and is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wye.errors import Conflict, NotFound
from wye.host import Host
from wye.model import Image

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LAYERS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Named:
    """What a reference led to. `recipe` tells a catalogue image made by an older recipe from a current one."""

    reference: str
    digest: str
    recipe: str = ""
    at: float = 0.0
    """When it was last made or looked up."""


@dataclass(frozen=True, slots=True)
class _Settings:
    uid_base: int


class Shelf:
    """Where whole images lie. Safe to use from several threads and processes."""

    def __init__(self, host: Host, directory: Path, uid_base: int) -> None:
        self.host = host
        self.directory = directory
        self.uid_base = uid_base

    def open(self) -> None:
        """Removes what was cut short. Raises Conflict if the images here were shifted by another `uid_base`."""
        for name in (".staging", ".locks"):
            self.host.make_directory("images:open", self.directory / name, mode=0o700)
        for name in ("references", "layers"):
            self.host.make_directory("images:open", self.directory / name)
        self._check_settings()
        for left in sorted((self.directory / ".staging").iterdir()):
            with self.host.lock("images:sweep", self._lock_path(left.name), wait=False) as held:
                if held:
                    self._clear("images:sweep", left)

    def _check_settings(self) -> None:
        path = self.directory / "settings.json"
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Settings)
        except FileNotFoundError:
            self.host.write_file("images:open", path, msgspec.json.encode(_Settings(self.uid_base)))
            return
        if found.uid_base != self.uid_base:
            raise Conflict(
                f"the images in {self.directory} belong to user ids from {found.uid_base}, not {self.uid_base}",
                hint="set the user id base back, or use a new pool",
            )

    # ------------------------------------------------------------ making one

    @contextlib.contextmanager
    def staging(self, key: str) -> Iterator[Path]:
        """An empty private directory, under the lock of `key`; gone at the end."""
        name = _hash(key)
        path = self.directory / ".staging" / name
        with self.host.lock("images:lock", self._lock_path(name)):
            self._clear("images:stage", path)
            self.host.make_directory("images:stage", path, mode=0o700)
            try:
                yield path
            finally:
                self._clear("images:unstage", path)

    def publish(self, staging: Path, image: Image) -> Image:
        """Makes `staging`, which holds `rootfs`, the image `image.digest`, unless there is one already."""
        whole = staging.with_name(f"{staging.name}.whole")
        self._clear("images:publish", whole)
        self.host.make_directory("images:publish", whole)
        self._move("images:publish", staging / "rootfs", whole / "rootfs")
        self.host.write_file("images:publish", whole / "image.json", msgspec.json.encode(image))
        self._settle(whole, self.directory / image.digest)
        return image

    def publish_layer(self, staging: Path, key: str) -> Path:
        """Keeps `staging/rootfs` as the layer `key`, for later builds. The oldest layers beyond a few go."""
        name = _hash(key)
        whole = staging.with_name(f"{staging.name}.whole")
        self._clear("images:layer", whole)
        self.host.make_directory("images:layer", whole)
        self._move("images:layer", staging / "rootfs", whole / "rootfs")
        self._settle(whole, self.directory / "layers" / name)
        self._forget_layers(keep=name)
        return self.directory / "layers" / name / "rootfs"

    def layer(self, key: str) -> Path | None:
        path = self.directory / "layers" / _hash(key)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path / "rootfs"

    def _settle(self, whole: Path, target: Path) -> None:
        """Without the sync a power failure could leave the renamed tree with files that are empty."""
        self.host.run("images:sync", ["sync", "--file-system", str(whole)], timeout_s=600)
        try:
            self._move("images:rename", whole, target)
        except FileExistsError:
            self._clear("images:unstage", whole)

    def _clear(self, label: str, path: Path) -> None:
        """Removes a tree that may come from anybody: rm copes with any depth, Python's rmtree with a thousand."""
        if path.exists() or path.is_symlink():
            self.host.run(label, ["rm", "-rf", "--one-file-system", "--", str(path)], timeout_s=600)

    def _move(self, label: str, source: Path, target: Path) -> None:
        self.host.at(label)
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise FileExistsError(str(target)) from error
            raise self.host.failure(label, f"move {source} to {target}", error) from error

    def _forget_layers(self, keep: str) -> None:
        layers = []
        for path in (self.directory / "layers").iterdir():
            with contextlib.suppress(FileNotFoundError):
                layers.append((path.stat().st_mtime, path))
        for _, path in sorted(layers, reverse=True)[_LAYERS_KEPT:]:
            if path.name != keep:
                self._remove(path)

    # ------------------------------------------------------------ what is there

    def image(self, digest: str) -> Image | None:
        if _DIGEST.fullmatch(digest) is None:
            return None
        try:
            return msgspec.json.decode((self.directory / digest / "image.json").read_bytes(), type=Image)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def rootfs(self, digest: str) -> Path:
        if self.image(digest) is None:
            raise NotFound(f"image {digest[:12]} is not on this machine", hint="run 'wye up' to fetch it again")
        return self.directory / digest / "rootfs"

    def digests(self) -> frozenset[str]:
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return frozenset()
        return frozenset(name for name in names if self.image(name) is not None)

    def delete(self, digest: str) -> None:
        """Removes the image and the references to it. Harmless if it is not there."""
        if _DIGEST.fullmatch(digest) is None:
            return
        for path in (self.directory / "references").glob("*.json"):
            named = self._read_reference(path)
            if named is not None and named.digest == digest:
                path.unlink(missing_ok=True)
        self._remove(self.directory / digest)

    def _remove(self, path: Path) -> None:
        """Moved away first, with one rename, so that half an image is never on the shelf."""
        name = _hash(f"delete {path.name}")
        gone = self.directory / ".staging" / name
        with self.host.lock("images:lock", self._lock_path(name)):
            self._clear("images:delete", gone)
            self.host.at("images:delete")
            try:
                os.rename(path, gone)
            except FileNotFoundError:
                return
            self._clear("images:delete", gone)

    # ------------------------------------------------------------ references

    def named(self, reference: str) -> Named | None:
        return self._read_reference(self._reference_path(reference))

    def name(self, reference: str, digest: str, recipe: str = "") -> None:
        data = msgspec.json.encode(Named(reference, digest, recipe, self.host.now()))
        self.host.write_file("images:reference", self._reference_path(reference), data)

    def _read_reference(self, path: Path) -> Named | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Named)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _reference_path(self, reference: str) -> Path:
        return self.directory / "references" / f"{_hash(reference)}.json"

    def _lock_path(self, staging_name: str) -> Path:
        return self.directory / ".locks" / staging_name.removesuffix(".whole")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
