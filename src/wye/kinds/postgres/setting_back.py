"""The statements that set back what a merge has set (`settings`): the inverse of values, not of statements.

They run last, when every object has its old name again. Rights are given anew, all of an object, each by whom they were
given: first the owner's, then what hangs on those. Like every inverse this is not trusted: the schema is compared then.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from wye.kinds.postgres.ddl import AFTER, Statement
from wye.kinds.postgres.objects import parts_of
from wye.kinds.postgres.session import Connection, fetch, literal, quote
from wye.kinds.postgres.settings import COLUMNS, FIRST, MADE, OWNERS, RIGHTS, SORTS, WORDS, Id, Settings

_MODES = {"O": "enable", "D": "disable", "A": "enable always", "R": "enable replica"}
_STORAGE = {"p": "plain", "e": "external", "m": "main", "x": "extended"}
_COMPRESSION = {"p": "pglz", "l": "lz4"}
_IDENTITY = {"f": "full", "n": "nothing", "d": "default"}
_DEFAULTS = {"r": "tables", "S": "sequences", "f": "functions", "T": "types", "n": "schemas", "L": "large objects"}


_GRANTED = {"server": "foreign server"}
_BELONGING = "select classid::regclass::text, objid::text from pg_depend where deptype in ('e', 'i')"
_STORAGE_OF_TYPE = """select t.typstorage::text from pg_attribute a join pg_type t on t.oid = a.atttypid
where a.attrelid = {table} and a.attnum = {column}"""


def set_back(connection: Connection, before: Settings, after: Settings) -> list[Statement]:
    """What gives all objects that are in both what they had before, and drops those of the rarer sorts that are new. To
    run when all have the names they had."""
    back = _Back(connection, before, after)
    keys = before.values.keys() | after.values.keys()
    changed = {key for key in keys if before.values.get(key) != after.values.get(key)}
    # Who takes somebody's rights to a table takes those to its columns too.
    tables = {key[1] for key in changed if key[0] == "pg_class" and key[2:] == (0, "rights")}
    changed |= {key for key in keys if key[0] == "pg_class" and key[1] in tables and key[3] == "rights"}
    found = list(_drops(connection, before, after))
    for key in sorted(changed, key=lambda key: (_order(key, before), key)):
        found += back.of(key)
    return found


def _order(key: Id, before: Settings) -> int:
    """An owner's rights go with the object; and a sequence that is a column's has the owner of the table."""
    if key[3] == "sequence":
        return 3 if " owned by " in before.values.get(key, "") else 0
    return {"owner": 1, "keeper": 1, "rights": 2}.get(key[3], 3)


def _drops(connection: Connection, before: Settings, after: Settings) -> Iterator[Statement]:
    """The newest first, which may need the others; but for what goes with an extension or a type."""
    new = [key for key in after.names.keys() - before.names.keys() if after.names[key][0] in MADE]
    belonging = set(fetch(connection, _BELONGING)) if new else set()
    for key in sorted(new, key=lambda key: int(key[1]), reverse=True):
        if key not in belonging:
            yield _as("none", f"drop {after.names[key][0]} {after.names[key][1]}")


@dataclass(frozen=True, slots=True)
class _Back:
    connection: Connection
    before: Settings
    after: Settings

    def of(self, key: Id) -> Iterator[Statement]:
        catalog, oid, part, what = key
        old, new = self.before.values.get(key), self.after.values.get(key)
        if what == "mode":
            for sql in self._mode(catalog, old, json.loads(old or new or "[]")):
                yield _as("none", sql)
            return
        if catalog == "pg_default_acl":
            yield from self._defaults(oid, old, new)
            return
        found = self._subject(catalog, oid)
        if found is None:  # made by the merge, or dropped
            return
        if what == "rights":
            yield from self._rights(key, *found, old, new)
        elif what == "comment":
            yield _as("none", f"comment on {self._place(key, *found)} is {'null' if old is None else literal(old)}")
        elif what in ("owner", "keeper"):
            # What is a part of something goes with that, unless it is none any more.
            if old is not None and (what == "owner" or (catalog, oid, part, "owner") in self.after.values):
                yield _as("none", f"alter {found[0]} {found[1]} owner to {old}")
        elif part:
            yield from self._column(key, *found, old, new)
        else:
            yield from self._object(what, *found, old, new)

    def _subject(self, catalog: str, oid: str) -> tuple[str, str] | None:
        """Sort and name before; of what nobody makes or renames, now."""
        if (catalog, oid) not in self.before.names or (catalog, oid) not in self.after.names:
            if int(oid) >= FIRST:
                return None
            sql = f"select type, identity from pg_identify_object('{catalog}'::regclass, {oid}, 0)"
            [(sort, name)] = fetch(self.connection, sql)
        else:
            sort, name, of = self.before.names[catalog, oid]
            name = f"{name} on {of}" if of else name
        return WORDS.get(sort, sort), name

    def _place(self, key: Id, sort: str, name: str) -> str:
        _, oid, part, _ = key
        if part:
            return f"column {name}.{self._column_name(oid, part)}"
        return f"{sort} {name}"

    def _column_name(self, oid: str, part: int) -> str:
        names = self.before.columns if (oid, part) in self.before.columns else self.after.columns
        if (oid, part) not in names:
            [(_, _, name)] = fetch(self.connection, COLUMNS.format(where=f"attrelid = {oid} and attnum = {part}"))
            return str(name)
        return names[oid, part]

    def _object(self, what: str, sort: str, name: str, old: str | None, new: str | None) -> Iterator[Statement]:
        alter = f"alter {sort} {name}"
        if what in ("options", "toast"):
            prefix = "toast." if what == "toast" else ""
            yield from _options(alter, old, new, prefix)
        elif what == "identity":
            letter, _, index = (old or "d").partition(" ")
            yield _as("none", f"{alter} replica identity {_IDENTITY.get(letter) or f'using index {index}'}")
        elif what == "cluster":
            yield _as("none", f"{alter} cluster on {old}" if old else f"{alter} set without cluster")
        elif what == "sequence" and old is not None and new is not None:
            free = " owned by none" if " owned by " in new and " owned by " not in old else ""
            yield _as("none", f"{alter} {old}{free}")
        elif what == "statistics":
            yield _as("none", f"{alter} set statistics {old or -1}")

    def _column(self, key: Id, sort: str, name: str, old: str | None, new: str | None) -> Iterator[Statement]:
        _, oid, part, what = key
        if (oid, part) not in self.before.columns or (oid, part) not in self.after.columns:
            return
        only = "only " if sort == "table" else ""
        column = str(part) if sort == "index" else self._column_name(oid, part)
        alter = f"alter {sort} {only}{name} alter column {column}"
        if what == "column options":
            yield from _options(alter, old, new)
        elif what == "statistics":
            yield _as("none", f"{alter} set statistics {old or -1}")
        elif what == "compression":
            yield _as("none", f"{alter} set compression {_COMPRESSION[old] if old else 'default'}")
        elif what == "storage":
            kept = old or fetch(self.connection, _STORAGE_OF_TYPE.format(table=oid, column=part))[0][0]
            yield _as("none", f"{alter} set storage {_STORAGE[kept]}")

    def _mode(self, catalog: str, old: str | None, what: list[str]) -> Iterator[str]:
        mode, table, name = what
        subject = self._subject("pg_class", table)
        if subject is not None:
            word = "trigger" if catalog == "pg_trigger" else "rule"
            yield f"alter table only {subject[1]} {_MODES[mode if old else 'O']} {word} {quote(name)}"

    def _rights(self, key: Id, sort: str, name: str, old: str | None, new: str | None) -> Iterator[Statement]:
        catalog, oid, part, _ = key
        letter = "c" if part else "s" if sort == "sequence" else SORTS[catalog]
        owner_column = OWNERS[catalog][0]
        known = self.before.values
        owner = known.get((catalog, oid, 0, "owner")) or known.get((catalog, oid, 0, "keeper")) or fetch(
            self.connection, f"select {owner_column}::regrole::text from {catalog} where oid = {oid}"
        )[0][0]  # fmt: skip
        if old is None:
            default = f"acldefault('{letter}', {literal(owner)}::regrole)"
            [(old,)] = fetch(self.connection, f"select {RIGHTS.format(default)}")
        columns = f" ({self._column_name(oid, part)})" if part else ""
        word = "table" if catalog == "pg_class" and sort != "sequence" else _GRANTED.get(sort, sort)
        subject = f"on {word} {name}"
        yield from _regrant(subject, columns, owner, _items(old), _items(new))

    def _defaults(self, place: str, old: str | None, new: str | None) -> Iterator[Statement]:
        role, schema, letter = json.loads(place)
        if old is None and schema is None:
            default = f"acldefault('{letter.replace('S', 's')}', {literal(role)}::regrole)"
            [(old,)] = fetch(self.connection, f"select {RIGHTS.format(default)}")
        of = f"alter default privileges for role {role}{f' in schema {schema}' if schema else ''}"
        subject = f"on {_DEFAULTS[letter]}"
        for grantee in sorted({_who(each) for each in (*_items(old), *_items(new))}):
            yield _as("none", f"{of} revoke all {subject} from {grantee}")
        for item in _items(old):
            yield _as("none", f"{of} grant {item[2]} {subject} to {_who(item)}{_option(item)}")


_Item = tuple[str, str | None, str, bool]
"""Who gave it, to whom (None: everybody), what, and whether to give it on."""


def _items(text: str | None) -> list[_Item]:
    return [tuple(each) for each in json.loads(text or "null") or ()]


def _who(item: _Item) -> str:
    return item[1] or "public"


def _option(item: _Item) -> str:
    return " with grant option" if item[3] else ""


def _regrant(
    subject: str, columns: str, owner: str, old: Collection[_Item], new: Collection[_Item]
) -> Iterator[Statement]:
    """Takes all rights, and gives those of `old`."""
    for grantee in sorted({_who(each) for each in (*old, *new)} | {owner}):
        yield _as("none", f"revoke all{columns} {subject} from {grantee} cascade")
    given: set[str | None] = {owner}
    left = list(old)
    while left:
        now = [each for each in left if each[0] in given] or left
        for item in now:
            role = "none" if item[0] == owner else next(parts_of(item[0]))
            yield _as(role, f"grant {item[2]}{columns} {subject} to {_who(item)}{_option(item)}")
        given |= {each[1] for each in now if each[3]}
        left = [each for each in left if each not in now]


def _options(alter: str, old: str | None, new: str | None, prefix: str = "") -> Iterator[Statement]:
    """In the order in which they were given."""
    was, now = ([each.partition("=") for each in json.loads(text or "[]")] for text in (old, new))
    if now:
        yield _as("none", f"{alter} reset ({', '.join(prefix + name for name, _, _ in now)})")
    if was:
        pairs = ", ".join(f"{prefix}{name} = {literal(value)}" for name, _, value in was)
        yield _as("none", f"{alter} set ({pairs})")


def _as(role: str, sql: str) -> Statement:
    return Statement(sql=sql, stage=AFTER, role=role, path="")
