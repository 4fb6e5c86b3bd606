"""The first bytes of a volume: what the image has at that path, or what a bind mount's source holds.

As people know it from containers: an empty named volume takes over content and ownership of the directory it
covers. A bind mount is imported, because a fork must not share files with its source.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wye.compose.digest import tree_digest
from wye.engine.context import Engine
from wye.errors import BadRequest
from wye.interfaces import Progress, Report
from wye.model import EnvironmentId, Image, MountKind, Spec, Volume


def with_digests(spec_volumes: dict[str, Volume]) -> dict[str, Volume]:
    """Volumes with `imported_digest` filled in from what their sources hold now."""
    return {
        name: volume
        if volume.imported_from is None
        else Volume(
            name=volume.name,
            imported_from=volume.imported_from,
            imported_digest=tree_digest(Path(volume.imported_from)),
            single_file=volume.single_file,
        )
        for name, volume in spec_volumes.items()
    }


def make_volumes(
    engine: Engine,
    environment: EnvironmentId,
    spec: Spec,
    images: dict[str, Image],
    *,
    only: Iterable[str] | None = None,
    report: Report,
) -> None:
    """Makes and fills volumes that are not there. Idempotent for whole ones: each is made aside, then renamed."""
    root = engine.volumes.environment_path(environment) / "volumes"
    for name in sorted(spec.volumes if only is None else only):
        if (root / name).exists():
            continue
        volume = spec.volumes[name]
        making = root / f".making-{name}"
        engine.host.remove_tree("up:clear-volume", making)
        engine.host.make_directory("up:make-volume", making)
        os.chown(making, engine.settings.uid_base, engine.settings.uid_base)
        if volume.imported_from is not None:
            report(Progress(step="import", subject=volume.imported_from))
            _import(engine, Path(volume.imported_from), making, single_file=volume.single_file)
        else:
            _take_from_image(engine, spec, images, name, making)
        engine.host.at("up:volume-made")
        making.rename(root / name)


def replace_import(engine: Engine, environment: EnvironmentId, volume: Volume, name: str) -> None:
    """Takes a bind mount's source in again, in the place of what the volume held."""
    if volume.imported_from is None:
        raise BadRequest(f"volume {name!r} was not imported")
    root = engine.volumes.environment_path(environment) / "volumes"
    making, old = root / f".making-{name}", root / f".old-{name}"
    for left in (making, old):
        engine.host.remove_tree("up:clear-volume", left)
    engine.host.make_directory("up:make-volume", making)
    os.chown(making, engine.settings.uid_base, engine.settings.uid_base)
    _import(engine, Path(volume.imported_from), making, single_file=volume.single_file)
    engine.host.at("up:volume-made")
    (root / name).rename(old)
    making.rename(root / name)
    engine.host.remove_tree("up:remove-old-volume", old)


def _import(engine: Engine, source: Path, target: Path, *, single_file: bool) -> None:
    """Copies with `cp`, which reflinks and keeps sparse files sparse; then gives all to the container's root."""
    if single_file:
        argv = ["cp", "--preserve=mode,timestamps", "--reflink=auto", "--", str(source), str(target / source.name)]
    else:
        argv = [
            "cp",
            "-R",
            "-P",
            "--preserve=mode,timestamps,links",
            "--reflink=auto",
            "-T",
            "--",
            str(source),
            str(target),
        ]
    engine.host.run("up:import", argv, timeout_s=None)
    base = engine.settings.uid_base
    engine.host.run("up:own", ["chown", "-R", "-h", "--", f"{base}:{base}", str(target)], timeout_s=None)


def _take_from_image(engine: Engine, spec: Spec, images: dict[str, Image], name: str, target: Path) -> None:
    """From the first service that mounts the volume where its image has a directory."""
    for key in sorted(spec.services):
        for mount in spec.services[key].mounts:
            if mount.kind is not MountKind.VOLUME or mount.source != name or mount.subpath:
                continue
            try:
                covered = engine.host.open_beneath(
                    engine.images.rootfs(images[key]), mount.target, os.O_RDONLY | os.O_DIRECTORY
                )
            except OSError:
                continue  # nothing there, or a link on the way: the volume starts empty
            try:
                engine.host.run(
                    "up:seed-volume",
                    ["cp", "-a", "--reflink=auto", "-T", f"/proc/self/fd/{covered}/.", str(target)],
                    pass_fds=(covered,),
                    timeout_s=None,
                )
                found = os.fstat(covered)
                os.chown(target, found.st_uid, found.st_gid)
                os.chmod(target, found.st_mode & 0o7777)
            finally:
                os.close(covered)
            return
