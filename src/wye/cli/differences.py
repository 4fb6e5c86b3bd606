"""How what an environment has changed looks: settings, files, and with `stores` what is in databases."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.text import Text

from wye.api import wire
from wye.cli import stores, text, words
from wye.cli.diff import PAGE

_LETTERS = {"added": ("A", "green"), "removed": ("D", "red"), "modified": ("M", "yellow")}
_TEXT_LINES = 400
"""Of one file's text diff. `--patch` has all."""


def lines(result: wire.DiffResult, until: int, *, sample: int | None = None) -> Iterator[Text]:
    """`until`: how many files, rows or keys this page and those before it cover. `sample`: of each table so many."""
    yield heading(result)
    if not (result.spec or result.places or result.total_files or result.stores):
        yield Text("nothing differs")
    for change in result.spec:
        yield setting(change)
    for place in result.places:
        yield database(place)
    for store in result.stores:
        yield from stores.lines(store, sample=sample)
    for file in result.files:
        yield file_line(file)
        if file.text:
            yield from text.lines(file.text, limit=_TEXT_LINES)
    yield from _rest(result, until, sample)


def _rest(result: wire.DiffResult, until: int, sample: int | None) -> Iterator[Text]:
    if until < result.total_files:
        yield Text(f"... and {words.count(result.total_files - until, 'file')} more: --offset {until}")
    if sample is not None:
        if any(stores.is_cut(store, sample) for store in result.stores):
            yield Text(f"in full, in pages: --offset 0 --limit {PAGE}", "dim")
    elif (most := max(map(stores.count, result.stores), default=0)) > until:
        yield Text(f"... and {most - until:,} rows or keys more: --offset {until}")


def stat_lines(result: wire.DiffResult) -> Iterator[Text]:
    yield heading(result)
    if result.spec:
        yield Text(words.count(len(result.spec), "setting"))
    for place in result.places:
        yield database(place)
    for store in result.stores:
        yield from stores.stat_lines(store)
    for where, changes in result.file_counts.items():
        told = ", ".join(f"{changes[kind]:,} {kind}" for kind in _LETTERS if kind in changes)
        yield Text(words.harmless(f"{where}: {told}"))


def heading(result: wire.DiffResult) -> Text:
    return Text.assemble((result.environment, "bold"), f" against {result.against}")


def setting(change: wire.SpecChange) -> Text:
    path = words.harmless(change.path)
    if change.before is None:
        return Text(f"A setting {path} = {_value(change.after)}", style="green")
    if change.after is None:
        return Text(f"D setting {path} = {_value(change.before)}", style="red")
    return Text(f"M setting {path}: {_value(change.before)} → {_value(change.after)}", style="yellow")


def database(place: wire.PlaceChange) -> Text:
    counts = ((place.modified, "modified"), (place.added, "added"), (place.removed, "removed"))
    told = ", ".join(f"{number:,} {kind}" for number, kind in counts if number) or "no"
    return Text(
        words.harmless(f"M {place.place} ({place.kind}): {words.size(place.changed_bytes)} changed; {told} files"),
        style="yellow",
    )


def file_line(change: wire.FileChange) -> Text:
    letter, style = _LETTERS.get(change.change, ("?", ""))
    what = _what(change)
    return Text(
        words.harmless(f"{letter} {change.place} {change.path}") + (f"  ({words.harmless(what)})" if what else ""),
        style,
    )


def _what(change: wire.FileChange) -> str:
    before, after = change.before, change.after
    if before is not None and after is not None:
        parts = [] if change.metadata_only or before.kind != after.kind else _content(change, before, after)
        return ", ".join(parts + _attributes(before, after))
    view = after or before
    return "" if view is None else _kind(view)


def _content(change: wire.FileChange, before: wire.FileView, after: wire.FileView) -> list[str]:
    if before.kind == "link":
        return [f"→ {before.target} became → {after.target}"]
    if before.kind != "file":
        return []
    grown = after.size_bytes - before.size_bytes
    sizes = words.size(after.size_bytes) + (f", {'+' if grown > 0 else '-'}{words.size(abs(grown))}" if grown else "")
    return [f"{sizes}, {words.size(change.changed_bytes)} changed" if change.changed_bytes else sizes]


def _attributes(before: wire.FileView, after: wire.FileView) -> list[str]:
    parts = []
    if before.kind != after.kind:
        parts.append(f"{before.kind} became {_kind(after)}")
    if before.mode != after.mode:
        parts.append(f"mode {before.mode:04o} → {after.mode:04o}")
    if (before.uid, before.gid) != (after.uid, after.gid):
        parts.append(f"owner {before.uid}:{before.gid} → {after.uid}:{after.gid}")
    return parts


def _kind(view: wire.FileView) -> str:
    if view.kind == "file":
        return words.size(view.size_bytes)
    return f"{view.kind} → {view.target}" if view.kind == "link" else view.kind


def _value(text: str | None) -> str:
    """JSON text as people like to read it: a string without its quotes."""
    value = json.loads(text or "null")
    return words.harmless(value if isinstance(value, str) else text or "null")
