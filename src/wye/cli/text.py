"""A unified diff in git's colours. Its lines come from a fork: none of their control characters is let through."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from wye.cli import words

_STYLES = {"+": "green", "-": "red", "@": "cyan", "\\": "dim"}


def lines(diff: str, *, limit: int | None = None) -> Iterator[Text]:
    """At most `limit` lines of it, and how many more there are."""
    found = diff.removesuffix("\n").split("\n") if diff else []
    in_head = True
    for line in found[:limit]:
        if line.startswith("diff "):
            in_head = True
        elif line.startswith("@@"):
            in_head = False
        yield Text(words.harmless(line, keep="\t"), "bold" if in_head else _STYLES.get(line[:1], ""))
    if limit is not None and len(found) > limit:
        yield Text(f"... and {words.count(len(found) - limit, 'line')} more: --patch", "dim")
