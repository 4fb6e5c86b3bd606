"""What a database defines: its tables, indexes, views and triggers, and what a fork changed of them.

A definition is the text of its CREATE statement. Only changes that can be repeated on another database without a doubt
are taken over: new and removed objects, replaced indexes, views and triggers, and columns added to a table or removed
from it. Any other change of a table (renamed columns, a rebuilt table) is refused by name, as are virtual tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from wye.kinds.sqlite.database import quoted

Name = tuple[str, str]
"""(type, name)."""

_DROPS = ("trigger", "view", "index", "table")
_CREATES = ("table", "index", "view", "trigger")
_QUOTES = {'"': '"', "`": "`", "[": "]", "'": "'"}
_WORD = re.compile(r"[^\s(),;'\"`\[]+")
_STRING = re.compile(r"'(?:[^']|'')*'")
_ORDER = re.compile(r"\s+(?:ASC|DESC)\Z", re.IGNORECASE)
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|.""", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectChange:
    """One definition, before and after (None: not there), and the statements that lead from one to the other."""

    type: str
    name: str
    before: str | None
    after: str | None
    statements: tuple[str, ...]

    @property
    def steps(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """The statements by when they are due: what would be in the way of a change to a table goes first, then tables
        change, and what rests on them or on their rows is made at the end."""
        if self.type == "table":
            return (), self.statements, ()
        first = () if self.before is None else self.statements[:1]
        return first, (), self.statements[len(first) :]

    @property
    def lost_columns(self) -> tuple[str, ...]:
        """Columns that it takes out of a table that stays."""
        if self.type != "table" or self.before is None or self.after is None:
            return ()
        return tuple(_removed_columns(self.before, self.after) or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A table's stored columns, without generated ones. `key`: the declared primary key; empty: none."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    has_rowid: bool
    unique: frozenset[str]
    """Columns of the key and of unique indexes; with an index on an expression or a generated column, all."""
    indexes: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Of each unique index over columns and all rows, the key's among them: (column, collation)."""


def read_objects(connection: apsw.Connection, schema: str) -> dict[Name, str]:
    """All definitions by (type, name), without SQLite's own."""
    rows = connection.execute(
        f"SELECT type, name, sql FROM {quoted(schema)}.sqlite_schema "
        "WHERE sql IS NOT NULL AND substr(name, 1, 7) <> 'sqlite_'"
    )
    return {(str(kind), str(name)): str(sql) for kind, name, sql in rows}


def virtual_tables(connection: apsw.Connection, schema: str) -> dict[str, str]:
    """The virtual table to which a table belongs, by name: itself, or one that keeps its content there. Modules that
    are not here cannot say where they do: there it is all tables that are named after it."""
    rows = connection.execute("SELECT name, type FROM pragma_table_list WHERE schema = ?", (schema,)).fetchall()
    virtual = [str(name) for name, kind in rows if kind == "virtual"]
    found = {name: name for name in virtual}
    for owner in sorted(virtual, key=len):
        after = [(str(name), kind == "shadow") for name, kind in rows if str(name).startswith(f"{owner}_")]
        is_known = any(is_shadow for _, is_shadow in after)
        found |= {name: owner for name, is_shadow in after if name not in virtual and (is_shadow or not is_known)}
    return found


def read_shape(connection: apsw.Connection, schema: str, table: str) -> Shape:
    columns: list[Any] = connection.execute(f"PRAGMA {quoted(schema)}.table_xinfo({quoted(table)})").fetchall()
    stored = [column for column in columns if column[6] == 0]
    key = sorted((column for column in stored if column[5]), key=lambda column: int(column[5]))
    listed = connection.execute("SELECT schema, name, wr FROM pragma_table_list(?)", (table,)).fetchall()
    without_rowid = any(owner == schema and wr for owner, _, wr in listed)
    unique = {str(column[1]) for column in key}
    indexes = []
    for _, index, is_unique, _, is_partial in connection.execute(
        f"PRAGMA {quoted(schema)}.index_list({quoted(table)})"
    ).fetchall():
        if not is_unique:
            continue
        parts: list[Any] = connection.execute(f"PRAGMA {quoted(schema)}.index_xinfo({quoted(str(index))})").fetchall()
        for part in parts:
            is_plain = any(column[0] == part[1] for column in stored)
            unique |= {str(part[2])} if is_plain else {str(c[1]) for c in stored} if part[1] != -1 else set()
        keyed = [part for part in parts if part[5]]
        if not is_partial and all(part[1] >= 0 for part in keyed):
            indexes.append(tuple((str(part[2]), str(part[4])) for part in keyed))
    if len(key) == 1 and not any(len(index) == 1 and index[0][0] == key[0][1] for index in indexes):
        indexes.append(((str(key[0][1]), "BINARY"),))  # the rowid by another name has no index
    return Shape(
        name=table,
        columns=tuple(str(column[1]) for column in stored),
        key=tuple(str(column[1]) for column in key),
        has_rowid=not without_rowid,
        unique=frozenset(unique),
        indexes=tuple(indexes),
    )


def column_defaults(connection: apsw.Connection, table: str) -> dict[str, str]:
    """What a column of the main database's table holds where nothing was said: an expression, by column."""
    rows: list[Any] = connection.execute(f"PRAGMA main.table_xinfo({quoted(table)})").fetchall()
    return {str(row[1]): "NULL" if row[4] is None else str(row[4]) for row in rows}


def changed_objects(base: dict[Name, str], theirs: dict[Name, str]) -> tuple[list[ObjectChange], list[Name]]:
    """What theirs changed, in an order that can be carried out, and what cannot be taken over."""
    changes: list[ObjectChange] = []
    refused: list[Name] = []
    for name in base.keys() | theirs.keys():
        before, after = base.get(name), theirs.get(name)
        if before == after:
            continue
        statements = _statements(name, before, after)
        if statements is None:
            refused.append(name)
            continue
        changes.append(ObjectChange(type=name[0], name=name[1], before=before, after=after, statements=statements))
    drops = [change for change in changes if change.after is None]
    rest = [change for change in changes if change.after is not None]
    drops.sort(key=lambda change: (_DROPS.index(change.type), change.name))
    rest.sort(key=lambda change: (_CREATES.index(change.type), change.name))
    return drops + rest, sorted(refused)


@dataclass(frozen=True, slots=True)
class Indexed:
    """What the text of a CREATE INDEX says: its table, its columns or expressions with their collations, as SQL, and
    the condition of a partial one."""

    table: str
    parts: tuple[str, ...]
    where: str


def indexed(sql: str) -> Indexed:
    """Of a statement that SQLite has understood."""
    tokens = [" " if token.startswith(("--", "/*")) else token for token in _TOKEN.findall(sql)]
    start = tokens.index("(")
    depth, end = 0, start
    for end in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[end], 0)
        if depth == 0:
            break
    parts = [_ORDER.sub("", part.strip()) for part in _split("".join(tokens[start + 1 : end]))]
    condition = "".join(tokens[end + 1 :]).strip()
    return Indexed(
        table=_last_name(tokens[:start]),
        # 'a' where a name is due is a name, for SQLite
        parts=tuple(quoted(part[1:-1].replace("''", "'")) if _STRING.fullmatch(part) else part for part in parts),
        where=condition[len("WHERE") :] if condition[: len("WHERE")].upper() == "WHERE" else "",
    )


def _last_name(tokens: list[str]) -> str:
    while tokens and tokens[-1].isspace():
        tokens = tokens[:-1]
    last = tokens[-1] if tokens else ""
    if (close := _QUOTES.get(last[:1])) is not None:
        return last[1:-1].replace(close * 2, close)
    return "".join(tokens).split()[-1]


def _statements(name: Name, before: str | None, after: str | None) -> tuple[str, ...] | None:
    kind, called = name
    drop = f"DROP {kind.upper()} IF EXISTS {quoted(called)}"
    if kind not in _DROPS or any(sql and _is_virtual(sql) for sql in (before, after)):
        return None
    if after is None:
        return (drop,)
    if before is None:
        return (after,)
    if kind != "table":
        return (drop, after)
    alter = f"ALTER TABLE {quoted(called)}"
    added = _added_columns(before, after)
    if added is not None:
        return tuple(f"{alter} ADD COLUMN {column}" for column in added)
    removed = _removed_columns(before, after)
    return None if removed is None else tuple(f"{alter} DROP COLUMN {quoted(column)}" for column in removed)


def _is_virtual(sql: str) -> bool:
    return re.match(r"\s*CREATE\s+VIRTUAL\b", sql, re.IGNORECASE) is not None


def _added_columns(before: str, after: str) -> list[str] | None:
    """Definitions of the columns that were added, if nothing else differs. SQLite adds ", definition" to the text."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    for at in range(start, max(start - 3, -1), -1):
        inserted = after[at : len(after) - (len(before) - at)]
        if before[:at] + inserted + before[at:] == after and inserted.lstrip().startswith(","):
            return [part.strip() for part in _split(inserted.lstrip()[1:])]
    return None


def _removed_columns(before: str, after: str) -> list[str] | None:
    """Names of the columns that were removed, if nothing else differs."""
    definitions = _added_columns(after, before)
    if definitions is None:
        return None
    names = []
    for definition in definitions:
        if (close := _QUOTES.get(definition[:1])) is not None:
            token = str(_TOKEN.findall(definition)[0])
            names.append(token[1:-1].replace(close * 2, close))
        elif (word := _WORD.match(definition)) is not None:
            names.append(word[0])
        else:
            return None
    return names


def _split(text: str) -> Iterator[str]:
    """At commas outside of brackets, strings and comments."""
    depth, part = 0, ""
    for token in _TOKEN.findall(text):
        if token == "," and depth == 0:
            yield part
            part = ""
            continue
        depth += {"(": 1, ")": -1}.get(token, 0)
        part += token
    yield part
