"""wye collect: delete what nothing refers to."""

from __future__ import annotations

from typing import Annotated

import typer

from wye.api import wire
from wye.cli import words
from wye.cli.session import Json, say, session_of


def collect(
    context: typer.Context,
    images: Annotated[bool, typer.Option("--images", help="Also images that nothing uses.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what no environment refers to any more."""
    session = session_of(context)
    result = session.watch("collect", lambda progress: session.client.collect(images=images, progress=progress))
    session.show(result, lambda: say(sentence(result)))


def sentence(result: wire.CollectResult) -> str:
    parts = [
        words.count(number, noun)
        for number, noun in (
            (result.snapshots, "snapshot"),
            (result.environments, "lost environment"),
            (result.images, "image"),
            (result.objects, "object"),
        )
        if number
    ]
    if not parts:
        return "there was nothing to delete"
    if result.freed_bytes is None:
        return f"deleted {', '.join(parts)}; their room is freed in the background"
    freed = f", {words.size(result.freed_bytes)} freed" if result.freed_bytes else ""
    return f"deleted {', '.join(parts)}{freed}"
