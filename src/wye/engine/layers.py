"""What in a layer the runtime made: where something is mounted over the image, it makes a directory or an empty file.

Nobody in the container did that, so a diff leaves it out; whatever else is there, it shows. Pure.
"""

from __future__ import annotations

from wye.engine.views import FileChange
from wye.model import SHELL, Spec, replica_names

_ALWAYS = frozenset(("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))


def mount_points(spec: Spec, replica: str) -> frozenset[str]:
    """Where a replica's container has mounts, as absolute paths."""
    points = set(_ALWAYS)
    if replica == SHELL:
        points.update(f"/volumes/{name}" for name in spec.volumes)
    for service in spec.services.values():
        if replica in replica_names(service):
            points.update(mount.target.rstrip("/") for mount in service.mounts)
            points.update(file.target for file in service.files)
    return frozenset(points)


def is_mount_point(change: FileChange, points: frozenset[str]) -> bool:
    """Whether it is one of the `points`, or a directory on the way to one, as the runtime makes them."""
    after = change.after
    if change.change != "added" or after is None or (after.uid, after.gid) != (0, 0):
        return False
    if change.path in points:
        return after.kind == "directory" or (after.kind == "file" and after.size_bytes == 0)
    return after.kind == "directory" and any(point.startswith(f"{change.path}/") for point in points)
