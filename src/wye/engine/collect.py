"""collect: deletes what no ref reaches, and nothing else.

Something that a verb has just made is not reached yet, because its entry comes last. So while any intent is
open, what was made after the oldest one began is left alone: the caller of `collect` sees to it that no verb runs
by taking `engine.quiet()`.
"""

from __future__ import annotations

from wye.engine.context import Engine
from wye.engine.views import CollectResult
from wye.interfaces import Progress, Report


def collect(engine: Engine, *, images: bool = False, report: Report) -> CollectResult:
    """`images`: unpacked images that no environment or kept revision uses, too."""
    with engine.quiet():
        before, _ = engine.volumes.capacity()
        reachable = engine.ledger.reachable()
        environments = {entry.environment.id for entry in engine.ledger.environments().values()}
        lost = engine.volumes.environments() - environments
        for environment in sorted(lost):
            report(Progress(step="delete", subject=f"environment {environment}"))
            engine.host.at("collect:environment")
            engine.volumes.delete_environment(environment)
        dead = engine.volumes.snapshots() - reachable.snapshots
        for number, snapshot in enumerate(sorted(dead), 1):
            report(Progress(step="delete", subject="snapshots", done=number, total=len(dead)))
            engine.host.at("collect:snapshot")
            engine.volumes.delete_snapshot(snapshot)
        unused = _collect_images(engine, reachable.images, report) if images else 0
        engine.host.at("collect:objects")
        objects = engine.ledger.delete_unreachable()
        after, _ = engine.volumes.capacity()
    freed = max(0, before - after)
    return CollectResult(
        snapshots=len(dead),
        environments=len(lost),
        images=unused,
        objects=objects,
        # A file system that deletes in the background has not freed anything yet.
        freed_bytes=None if freed == 0 and (dead or lost or unused) else freed,
    )


def _collect_images(engine: Engine, reachable: frozenset[str], report: Report) -> int:
    shell = engine.images.resolve(engine.settings.shell_image, pull=False, report=report).digest
    unused = engine.images.digests() - reachable - {shell}
    for digest in sorted(unused):
        report(Progress(step="delete", subject=f"image {digest[:12]}"))
        engine.host.at("collect:image")
        engine.images.delete(digest)
    return len(unused)
