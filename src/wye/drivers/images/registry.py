"""Images from registries: skopeo fetches, umoci unpacks, ownership is shifted once.

The digest of such an image is its manifest's for this machine's platform, as the registry has it. A reference
that is here already is answered without the network. Nothing is trusted: layers are measured before they are
unpacked, and unpacked in a private directory, so that until its ownership is shifted nobody can run what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from wye.drivers.images import oci
from wye.drivers.images.layers import Limits, measure
from wye.drivers.images.ownership import make_mount_points, shift_tree
from wye.drivers.images.programs import ignore, stream
from wye.drivers.images.reference import Reference, parse
from wye.drivers.images.shelf import Shelf
from wye.errors import BadRequest, Denied, NotFound, Unavailable, WyeError
from wye.host import DiskFull, ProgramFailed
from wye.interfaces import Progress, Report
from wye.model import Image

_COPY_S = 3600.0
_UNPACK_S = 1800.0
_MANIFEST_LIMIT = 4 << 20
_BLOBS_KEPT_S = 7 * 86400.0
_ABSENT = re.compile(r"manifest unknown|name unknown|not found|repository .* does not exist|404", re.IGNORECASE)
_REFUSED = re.compile(r"unauthorized|authentication required|denied|forbidden|invalid username", re.IGNORECASE)
_NO_ROOM = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


class _Index(msgspec.Struct):
    manifests: list[oci.Descriptor] = []


class Registries:
    """Pulls OCI images. `known` are the names of catalogue images, to mention where no registry is reached;
    `answer_s` is how long a registry may take to answer what an image is."""

    def __init__(
        self,
        shelf: Shelf,
        cache: Path,
        *,
        insecure: frozenset[str],
        limits: Limits,
        answer_s: float,
        known: list[str],
    ) -> None:
        self._shelf = shelf
        self._host = shelf.host
        self._blobs = cache / "oci" / "blobs"
        self._layouts = cache / "oci" / "layouts"
        self._insecure = insecure
        self._limits = limits
        self._answer_s = answer_s
        self._known = known

    def resolve(self, text: str, *, pull: bool, report: Report) -> Image:
        """Raises BadRequest, NotFound, Denied, Unavailable (within seconds, if no registry answers)."""
        present = self.present(text)
        if present is not None and not pull:
            return present
        reference = parse(text)
        for program in ("skopeo", "umoci"):
            if shutil.which(program) is None:
                raise Unavailable(f"{program} is not installed", hint=f"apt-get install {program}")
        report(Progress(step="look up", subject=text))
        digest = self._digest(reference)
        image = self._shelf.image(digest.removeprefix("sha256:")) or self._pull(reference, digest, text, report)
        self._shelf.name(str(reference), image.digest)
        return replace(image, reference=text)

    def present(self, text: str) -> Image | None:
        """The same if it is here already. Raises BadRequest."""
        reference = parse(text)
        named = self._shelf.named(str(reference))
        # The digest in a reference may be that of an index, which leads to an image of another digest.
        digests = [named.digest if named else "", (reference.digest or "").removeprefix("sha256:")]
        found = next(filter(None, map(self._shelf.image, digests)), None)
        return None if found is None else replace(found, reference=text)

    # ------------------------------------------------------------ asking

    def _digest(self, reference: Reference) -> str:
        """Of the manifest for this machine."""
        data = self._manifest(reference)
        manifest = oci.manifest(data)
        if manifest.manifests is None:
            return _digest_of(data)
        chosen = oci.choose(manifest, str(reference))
        if re.fullmatch(r"sha256:[0-9a-f]{64}", chosen) is None:
            raise BadRequest(f"{reference} names its image by {chosen[:80]!r}, which is not a SHA-256 digest")
        return chosen

    def _manifest(self, reference: Reference) -> bytes:
        argv = [
            "skopeo", "--insecure-policy", f"--command-timeout={self._answer_s:g}s", "inspect", "--raw",
            *self._tls(reference, "--tls-verify=false"), f"docker://{reference}",
        ]  # fmt: skip
        try:
            data = self._host.run("images:inspect", argv, timeout_s=self._answer_s + 2).stdout
        except ProgramFailed as error:
            raise self._refusal(reference, error) from error
        if len(data) > _MANIFEST_LIMIT:
            raise BadRequest(f"{reference} has a manifest of {len(data)} bytes")
        if reference.digest is not None and _digest_of(data) != reference.digest:
            raise BadRequest(f"the registry answered {reference} with something of another digest")
        return data

    def _tls(self, reference: Reference, option: str) -> list[str]:
        return [option] if reference.host in self._insecure else []

    def _refusal(self, reference: Reference, error: ProgramFailed) -> WyeError:
        """What skopeo's message means."""
        reason = _reason(error.output)
        if _NO_ROOM.search(error.output):
            return DiskFull(f"{reference} could not be fetched: no room left", hint="run 'wye collect'")
        if _ABSENT.search(error.output):
            return NotFound(f"there is no image {reference}: {reason}", hint="check the name and the tag")
        if _REFUSED.search(error.output):
            return Denied(
                f"the registry {reference.registry} refuses {reference.repository}: {reason}",
                hint=f"check the name; if it is private: skopeo login {reference.registry}",
            )
        hint = f"check that this machine reaches {reference.registry}"
        name = reference.repository.rpartition("/")[2]
        if name in self._known:
            hint += f", or use the catalogue image wye/{name}"
        return Unavailable(f"{reference} could not be fetched: {reason}", hint=hint)

    # ------------------------------------------------------------ fetching

    def _pull(self, reference: Reference, digest: str, subject: str, report: Report) -> Image:
        exact = replace(reference, digest=digest)
        with self._shelf.staging(f"oci {digest}") as staging:
            present = self._shelf.image(digest.removeprefix("sha256:"))
            if present is not None:
                return present
            with self._layout(digest) as layout:
                self._copy(exact, layout, subject, report)
                manifest = oci.manifest(_only_manifest(layout))
                if manifest.config is None:
                    raise BadRequest(f"{reference} is not an image: its manifest has no configuration")
                config = oci.image_config(_blob(layout, manifest.config.digest).read_bytes())
                layers = [_blob(layout, layer.digest) for layer in manifest.layers]
                report(Progress(step="unpack", subject=subject, done=0, total=len(layers), unit="layers"))
                measured = measure(self._host, layers, self._limits)
                report(Progress(step="unpack", subject=subject, total=measured.entries, unit="files"))
                self._unpack(layout, staging / "rootfs", [*layers, _blob(layout, manifest.config.digest)])
            shift_tree(self._host, "images:shift", staging / "rootfs", self._shelf.uid_base)
            make_mount_points(self._host, "images:mount-points", staging / "rootfs", self._shelf.uid_base)
            image = Image(reference=str(exact), digest=digest.removeprefix("sha256:"), config=config)
            self._forget_blobs()
            return self._shelf.publish(staging, image)

    @contextlib.contextmanager
    def _layout(self, digest: str) -> Iterator[Path]:
        """An empty OCI layout whose blobs are shared with other images. It is beside them, because skopeo moves each
        blob there from the layout's own directory, and the pool is another file system. Who has the lock of this
        image's staging has this, too."""
        layout = self._layouts / digest.removeprefix("sha256:")
        self._host.remove_tree("images:copy-blobs", layout)
        self._host.make_directory("images:copy-blobs", self._blobs / "sha256", mode=0o700)
        self._host.make_directory("images:copy-blobs", layout, mode=0o700)
        (layout / "blobs").symlink_to(self._blobs)
        try:
            yield layout
        finally:
            self._host.remove_tree("images:forget-blobs", layout)

    def _copy(self, exact: Reference, layout: Path, subject: str, report: Report) -> None:
        total = self._touch_blobs(self._manifest(exact))
        done = 0

        def on_line(line: str) -> None:
            nonlocal done
            if line.startswith("Copying blob"):
                done = min(done + 1, total)
                report(Progress(step="download", subject=subject, done=done, total=total, unit="layers"))

        argv = [
            "skopeo", "--insecure-policy", "copy", *self._tls(exact, "--src-tls-verify=false"),
            f"docker://{exact}", f"oci:{layout}:image",
        ]  # fmt: skip
        try:
            stream(self._host, "images:copy-blobs", argv, on_line, timeout_s=_COPY_S)
        except ProgramFailed as error:
            raise self._refusal(exact, error) from error

    def _touch_blobs(self, manifest: bytes) -> int:
        """Marks the layers that are here as in use. Returns how many layers there are."""
        layers = oci.manifest(manifest).layers
        for layer in layers:
            path = self._blobs / "sha256" / os.path.basename(layer.digest.removeprefix("sha256:"))
            if path.is_file():
                os.utime(path)
        return len(layers)

    def _unpack(self, layout: Path, rootfs: Path, blobs: list[Path]) -> None:
        argv = ["umoci", "raw", "unpack", "--image", f"{layout}:image", str(rootfs)]
        try:
            stream(self._host, "images:unpack", argv, ignore, timeout_s=_UNPACK_S)
        except ProgramFailed as error:
            # A power failure can leave a blob empty: without it, the next attempt fetches it again.
            for blob in blobs:
                blob.unlink(missing_ok=True)
            if _NO_ROOM.search(error.output):
                raise DiskFull("no room left to unpack the image", hint="run 'wye collect'") from error
            raise BadRequest(f"the image cannot be unpacked: {_reason(error.output)}") from error

    def _forget_blobs(self) -> None:
        self._host.at("images:forget-blobs")
        oldest = self._host.now() - _BLOBS_KEPT_S
        for path in (self._blobs / "sha256").iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
        for layout in self._layouts.iterdir():
            if layout.lstat().st_mtime < oldest:
                self._host.remove_tree("images:forget-blobs", layout)


def _only_manifest(layout: Path) -> bytes:
    """skopeo may have rewritten Docker's manifest as OCI's, so it is found by the layout's index."""
    index = msgspec.json.decode((layout / "index.json").read_bytes(), type=_Index)
    return _blob(layout, index.manifests[0].digest).read_bytes()


def _blob(layout: Path, digest: str) -> Path:
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", digest)
    if match is None:
        raise BadRequest(f"the image names a part of it by {digest[:80]!r}, which is not a SHA-256 digest")
    return layout / "blobs" / "sha256" / match[1]


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _reason(output: str) -> str:
    """The message in skopeo's and umoci's log lines."""
    messages = re.findall(r'msg="((?:[^"\\]|\\.)*)"', output)
    text = messages[-1].replace('\\"', '"') if messages else output.strip()
    return text[-400:] or "no reason given"
