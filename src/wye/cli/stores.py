"""How what happened in a database looks: its schema, its tables and their rows, sequences, keys.

The daemon answers with JSON whose shape is the kind's own. What is known of it here is shown for people; of a
kind that this client does not know, the JSON itself is shown, so that nothing is left out in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from wye.api import wire
from wye.cli import words

SAMPLE = 20
"""Rows of a table that are shown where nobody has asked for a page."""

_VALUE_CHARACTERS = 60
_ROW_CHARACTERS = 240
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_CHANGES = {"delete": ("-", "red"), "update": ("~", "yellow"), "insert": ("+", "green")}
_LETTERS = {"added": ("A", "green"), "removed": ("D", "red"), "modified": ("M", "yellow")}
_RAN = ("inserted", "deleted", "updated")

Node = dict[str, Any]


def lines(store: wire.StoreChange, *, sample: int | None = SAMPLE) -> Iterator[Text]:
    """All of a store; of each table at most `sample` rows, None: all that the page has."""
    yield from stat_lines(store)
    for part, shown in _parts(store):
        for table in _nodes(shown.get("tables")):
            yield from _rows(store, table, sample, _total(part, table))
    keys = _keys(store.page)
    for key in keys:
        yield _key(key)
    if keys and (more := _key_count(store.stat) - len(keys)) > 0 and sample is not None:
        yield Text(f"  ... and {words.count(more, 'key')} more")


def stat_lines(store: wire.StoreChange) -> Iterator[Text]:
    """What fits a screen."""
    named = store.place.split()
    told = {store.kind: store.kind, store.service: f"service {store.service}"}
    more = ", ".join(text for word, text in told.items() if word and word not in named)
    yield Text(words.harmless(f"{store.place} ({more})" if more else store.place), "bold")
    for refusal in store.refused:
        yield _refusal(refusal)
    known = False
    for part, _ in _parts(store):
        known = True
        yield from _part(part)
    databases = store.stat.get("databases")
    if isinstance(databases, dict):
        known = True
        for number, counts in databases.items():
            changed = ", ".join(f"{counts[kind]:,} {kind}" for kind in _LETTERS if _number(counts, kind))
            yield Text(words.harmless(f"  db{number}: keys: {changed}"))
    if store.stat.get("functions_differ"):
        yield Text("  libraries of functions differ", "yellow")
    if store.stat and not known:
        yield Text(f"  {words.harmless(_json(store.stat))}")


def is_cut(store: wire.StoreChange, sample: int) -> bool:
    """Whether a table has more changed rows than `lines` shows."""
    return any(
        _total(part, table) > min(sample, len(_nodes(table.get("rows"))))
        for part, shown in _parts(store)
        for table in _nodes(shown.get("tables"))
    ) or _key_count(store.stat) > len(_keys(store.page))


def count(store: wire.StoreChange) -> int:
    """How many rows or keys have changed."""
    rows = sum(
        _number(table, kind) for part, _ in _parts(store) for table in _nodes(part.get("tables")) for kind in _RAN
    )
    return rows + _key_count(store.stat)


def value(cell: Any, *, literal: bool = False) -> str:
    """A cell as SQL writes it. `literal`: it is written so already. A value is cut where it is long."""
    if cell is None:
        return "NULL"
    if not isinstance(cell, str):
        return words.harmless(words.cut(_json(cell), _VALUE_CHARACTERS))
    text = words.harmless(words.cut(cell, _VALUE_CHARACTERS))
    return text if literal or _NUMBER.fullmatch(text) else "'" + text.replace("'", "''") + "'"


# ---------------------------------------------------------------- tables and rows


def _parts(store: wire.StoreChange) -> Iterator[tuple[Node, Node]]:
    """Databases with tables: (what fits a screen, the page)."""
    for name in ("databases", "files"):
        if isinstance(found := store.stat.get(name), list):
            pages = _nodes(store.page.get(name))
            for index, part in enumerate(_nodes(found)):
                yield part, pages[index] if index < len(pages) else {}
            return
    if "tables" in store.stat:
        yield store.stat, store.page


def _part(part: Node) -> Iterator[Text]:
    name = part.get("database") or part.get("file") or part.get("path")
    if name:
        yield Text(f"  database {words.harmless(str(name))}")
    for statement in _list(part.get("ddl")):
        yield from _signed("+", "green", statement)
    for change in _nodes(part.get("schema")):
        for sign, style, key in (("-", "red", "before"), ("+", "green", "after")):
            if change.get(key):
                yield from _signed(sign, style, change[key])
    tables = _nodes(part.get("tables"))
    width = max((len(words.harmless(str(table.get("table")))) for table in tables), default=0)
    for table in tables:
        columns = _list(table.get("columns"))
        cells = f"  cells: {', '.join(map(str, columns))}" if columns else ""
        yield Text.assemble(
            f"  {words.harmless(str(table.get('table'))):<{width}}  ",
            *_counted(table),
            words.harmless(words.cut(cells, _ROW_CHARACTERS)),
        )
    sequences = part.get("sequences")
    back = part.get("sequences_set_back")
    for sequence, at in sequences.items() if isinstance(sequences, dict) else ():
        was = f", set back from {back[sequence]}" if isinstance(back, dict) and sequence in back else ""
        yield Text(words.harmless(f"  sequence {sequence}: {'gone' if at is None else f'at {at}'}{was}"), "yellow")
    for view in _list(part.get("views")):
        yield Text(words.harmless(f"  materialized view {view}: is refreshed"), "yellow")
    for refused in _nodes(part.get("refused")):
        yield Text(words.harmless(f"  ! {' '.join(str(each) for each in refused.values() if each)}"), "red")


def _counted(table: Node) -> Iterator[tuple[str, str]]:
    parts = [
        (f"{sign}{_number(table, key):,}", style)
        for sign, key, style in (("+", "inserted", "green"), ("-", "deleted", "red"), ("~", "updated", "yellow"))
        if _number(table, key)
    ]
    for index, (text, style) in enumerate(parts):
        yield (" " if index else "") + text, style


def _total(part: Node, table: Node) -> int:
    for each in _nodes(part.get("tables")):
        if each.get("table") == table.get("table"):
            return sum(_number(each, kind) for kind in _RAN)
    return _number(table, "total")


def _rows(store: wire.StoreChange, table: Node, sample: int | None, total: int) -> Iterator[Text]:
    rows = _nodes(table.get("rows"))
    if not rows:
        return
    yield Text(f"  {words.harmless(str(table.get('table')))}", "bold")
    literal = store.kind == "sqlite"
    shown = rows if sample is None else rows[:sample]
    for row in shown:
        yield _row(row, literal=literal)
    if sample is not None and total > len(shown):
        yield Text(f"    ... and {words.count(total - len(shown), 'row')} more")


def _row(row: Node, *, literal: bool) -> Text:
    change = str(row.get("change"))
    if change == "count":
        before, after = _number(row, "before"), _number(row, "after")
        sign, style = _CHANGES["insert" if after > before else "delete"]
        told = f"{_named(row.get('row'), literal)}  {before} → {after} times"
    elif change == "update":
        sign, style = _CHANGES["update"]
        told = f"{_named(row.get('key'), literal)}  {_cells(row.get('cells'), literal)}"
    else:
        sign, style = _CHANGES.get(change, ("?", ""))
        told = _named(row.get("row"), literal)
    return Text(f"    {sign} {words.cut(told, _ROW_CHARACTERS)}", style)


def _named(row: Any, literal: bool) -> str:
    """ "id=7 name='x'"."""
    found = row.items() if isinstance(row, dict) else ()
    return " ".join(f"{words.harmless(str(column))}={value(cell, literal=literal)}" for column, cell in found)


def _cells(cells: Any, literal: bool) -> str:
    """ "status: 'new' → 'shipped'"."""
    found = cells.items() if isinstance(cells, dict) else ()
    return ", ".join(
        f"{words.harmless(str(column))}: {' → '.join(value(side, literal=literal) for side in _list(sides))}"
        for column, sides in found
    )


# ---------------------------------------------------------------- keys


def _keys(page: Node) -> list[Node]:
    for found in page.values():
        if keys := [each for each in _nodes(found) if "key" in each and "change" in each]:
            return keys
    return []


def _key(change: Node) -> Text:
    letter, style = _LETTERS.get(str(change.get("change")), ("?", ""))
    number = _number(change, "database")
    where = f"db{number} " if number else ""
    before, after = (side if isinstance(side, dict) else None for side in (change.get("before"), change.get("after")))
    kinds = " → ".join(dict.fromkeys(str(side.get("type")) for side in (before, after) if side))
    told = " → ".join(value(side.get("value")) for side in (before, after) if side)
    expiry = _expiry(before, after)
    name = words.harmless(str(change.get("key")))
    return Text(f"  {letter} {where}{name}  {words.harmless(kinds)}  {told}{expiry}", style)


def _expiry(before: Node | None, after: Node | None) -> str:
    """When it goes away, where that has changed."""
    was, now = (side.get("expires_ms") if side else None for side in (before, after))
    if was == now or after is None:
        return ""
    return f"  expires {words.moment(now / 1000)}" if isinstance(now, int) else "  never expires"


def _key_count(stat: Node) -> int:
    databases = stat.get("databases")
    if not isinstance(databases, dict):
        return 0
    return sum(_number(counts, kind) for counts in databases.values() for kind in _LETTERS)


# ---------------------------------------------------------------- refusals, and JSON of unknown shape


def _refusal(refusal: wire.ConflictView) -> Text:
    key = " ".join(value(part) for part in refusal.key)
    told = f"{refusal.kind} {refusal.place} {key}".strip() + (f": {refusal.detail}" if refusal.detail else "")
    return Text(f"  ! {words.harmless(told)}", "red")


def _signed(sign: str, style: str, statement: Any) -> Iterator[Text]:
    for line in str(statement).strip().split("\n"):
        yield Text(f"  {sign} {words.harmless(line)}", style)


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


def _list(data: Any) -> list[Any]:
    return data if isinstance(data, list) else []


def _nodes(data: Any) -> list[Node]:
    return [each for each in _list(data) if isinstance(each, dict)]


def _number(node: Any, key: str) -> int:
    found = node.get(key) if isinstance(node, dict) else None
    return found if isinstance(found, int) else 0
