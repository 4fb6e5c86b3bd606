"""wye diff: what an environment has changed since it was forked."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from wye.api import wire
from wye.cli import stores, text, words
from wye.cli.session import Against, Environment, Json, complete_services, session_of
from wye.cli.tables import page
from wye.errors import BadRequest

_LETTERS = {"added": ("A", "green"), "removed": ("D", "red"), "modified": ("M", "yellow")}
_PAGE = 1000
_TEXT_LINES = 400
"""Of one file's text diff. `--patch` has all."""


def diff(
    context: typer.Context,
    environment: Environment,
    against: Against = None,
    service: Annotated[
        str | None,
        typer.Option("--service", "-s", help="Only what is this service's.", autocompletion=complete_services),
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only count.")] = False,
    patch: Annotated[bool, typer.Option("--patch", "-p", help="Text files alone, as 'git apply' takes them.")] = False,
    no_rows: Annotated[bool, typer.Option("--no-rows", help="A line per database, which is quick.")] = False,
    offset: Annotated[
        int | None, typer.Option("--offset", min=0, help="Leave out so many files, rows or keys first.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=0, max=10_000, help="At most so many files, rows or keys.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what differs: settings, databases with schema, rows and keys, and files with the changes of their text."""
    session = session_of(context)
    if patch:
        if stat or as_json or service or no_rows or offset is not None or limit is not None:
            raise BadRequest("--patch goes with --against alone")
        _print_patch(session.client.patch(environment, against=against))
        return
    begin, most = offset or 0, _PAGE if limit is None else limit
    result = session.client.diff(
        environment, against=against, service=service, offset=begin, limit=most, rows=not no_rows, text=not stat
    )
    sample = stores.SAMPLE if offset is None and limit is None else None
    session.show(result, lambda: page(*(stat_lines(result) if stat else lines(result, begin + most, sample=sample))))


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
            yield Text(f"in full, in pages: --offset 0 --limit {_PAGE}", "dim")
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
    counted: dict[str, Counter[str]] = {}
    for file in result.files:
        counted.setdefault(file.place, Counter()).update([file.change])
    for where, changes in counted.items():
        told = ", ".join(f"{changes[kind]:,} {kind}" for kind in _LETTERS if changes[kind])
        yield Text(words.harmless(f"{where}: {told}"))
    if len(result.files) < result.total_files:
        yield Text(f"{len(result.files):,} of {words.count(result.total_files, 'file')} counted: --limit")


def _print_patch(patch: bytes) -> None:
    """As it is, for whoever applies it; for a terminal with its control characters made visible."""
    if sys.stdout.isatty():
        page(*text.lines(patch.decode(errors="backslashreplace")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(patch)


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
