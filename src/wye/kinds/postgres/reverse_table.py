"""The inverses of ALTER TABLE's parts and of renaming. See `reverse`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from wye.kinds.postgres.objects import Name, Thing, name_of, qualified
from wye.kinds.postgres.parsing import Unparsable, enum_name, parse
from wye.kinds.postgres.session import literal, quote
from wye.kinds.postgres.settings import PARTS
from wye.kinds.postgres.walk import NoInverse, Walk, two

_CONSTRAINTS = {
    "CONSTR_PRIMARY": "PRIMARY KEY", "CONSTR_UNIQUE": "UNIQUE", "CONSTR_CHECK": "CHECK",
    "CONSTR_FOREIGN": "FOREIGN KEY", "CONSTR_EXCLUSION": "EXCLUDE", "CONSTR_NOTNULL": "NOT NULL",
}  # fmt: skip
_SECURITY = {
    "AT_EnableRowSecurity": 2, "AT_DisableRowSecurity": 2, "AT_ForceRowSecurity": 3, "AT_NoForceRowSecurity": 3,
}  # fmt: skip
"""By part of ALTER TABLE: which word of a table's definition says how it was."""
_RELATIONS = frozenset({"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_INDEX", "OBJECT_SEQUENCE"})
_OF_A_TABLE = {
    "OBJECT_COLUMN": "column", "OBJECT_TABCONSTRAINT": "constraint",
    "OBJECT_TRIGGER": "trigger", "OBJECT_POLICY": "policy", "OBJECT_RULE": "rule",
}  # fmt: skip


def alter_table(walk: Walk, node: Any) -> None:
    if node.missing_ok and walk.objects.relation(walk.path, node.relation.schemaname, node.relation.relname) is None:
        return
    name, thing = walk.table(node.relation)
    for command in node.cmds:
        one = command.alter_table_cmd
        part = enum_name("AlterTableType", one.subtype)
        act = _ALTERATIONS.get(part)
        if act is not None:
            act(walk, one, name, thing)
        elif thing.is_made or part in PARTS or _is_made(walk, name, one.name):
            continue
        elif part in _SECURITY:
            _row_security(walk, part, name, thing)
        else:
            raise NoInverse


def rename(walk: Walk, node: Any) -> None:
    sort = enum_name("ObjectType", node.rename_type)
    old, new = node.subname, node.newname
    if sort == "OBJECT_SCHEMA":
        thing = walk.objects.rename(("schema", old), ("schema", new))
        walk.add(f"alter schema {quote(new)} rename to {quote(old)}", thing)
    elif sort in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        name = walk.objects.type(walk.path, *two(node.object.list.items))
        if name is None:
            raise NoInverse
        thing = walk.objects.rename(name, (*name[:-1], new))
        walk.add(f"alter type {qualified(name[1], new)} rename to {quote(name[2])}", thing)
    elif node.missing_ok and walk.objects.relation(walk.path, node.relation.schemaname, node.relation.relname) is None:
        return
    else:
        _rename_in(walk, sort, old, new, *walk.table(node.relation))


def _rename_in(walk: Walk, sort: str, old: str, new: str, table: Name, thing: Thing) -> None:
    """A relation, or something of one."""
    at = qualified(*table[1:])
    if sort in _RELATIONS:
        walk.objects.rename(table, (*table[:-1], new))
        walk.add(f"alter table {qualified(table[1], new)} rename to {quote(table[2])}", thing)
        return
    kind = _OF_A_TABLE.get(sort)
    if kind is None:
        raise NoInverse
    renamed = walk.objects.rename((kind, *table[1:], old), (kind, *table[1:], new))
    if kind in ("column", "constraint"):
        walk.add(f"alter table {at} rename {kind} {quote(new)} to {quote(old)}", thing, renamed)
    else:
        walk.add(f"alter {kind} {quote(new)} on {at} rename to {quote(old)}", thing, renamed)


def _add_column(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    column = getattr(command, "def").column_def.colname
    if walk.objects.find("column", *table[1:], column) is not None:
        return
    made = walk.objects.make("column", *table[1:], column)
    if not thing.is_made:
        walk.add(f"alter table {qualified(*table[1:])} drop column {quote(column)}", thing, made)


def _drop_column(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    walk.objects.drop("column", *table[1:], command.name)


def _column_type(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    """Only a cast can be turned round: of what any other expression made, nobody knows where it came from."""
    found = _column(walk, command, table, thing)
    if found is None:
        return
    wanted = getattr(command, "def").column_def
    if wanted.HasField("raw_default") and not _is_cast(wanted, command.name):
        raise NoInverse
    walk.retype(found[0])


def _is_cast(wanted: Any, column: str) -> bool:
    """Whether the expression is the column, cast to the wanted type or not at all."""
    node = wanted.raw_default
    if node.HasField("type_cast"):
        if _type_words(node.type_cast.type_name) != _type_words(wanted.type_name):
            return False
        node = node.type_cast.arg
    return [field.string.sval for field in node.column_ref.fields] == [column]


def _type_words(name: Any) -> tuple[Any, ...]:
    bounds = [each.integer.ival for each in name.array_bounds]
    return ([each.string.sval for each in name.names], [each.a_const.ival.ival for each in name.typmods], bounds)


def _column(walk: Walk, command: Any, table: Name, thing: Thing) -> tuple[Thing, str] | None:
    """A column that was there before the merge, and its definition then; None for one that the merge made."""
    found = walk.objects.find("column", *table[1:], command.name)
    if thing.is_made or (found is not None and found.is_made):
        return None
    if found is None:
        raise NoInverse
    return found, walk.definition(found)


def _set_not_null(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    found = _column(walk, command, table, thing)
    if found is not None and not _is_not_null(found[1]):
        walk.add(f"{_alter(table, command.name)} drop not null", thing)


def _drop_not_null(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    found = _column(walk, command, table, thing)
    if found is None or not _is_not_null(found[1]):
        return
    _, schema, owner, column = name_of(found[0].key or "")
    shown = re.compile(rf'NOT NULL ("?){re.escape(column)}\1')
    for key, definition in walk.before.items():  # since PostgreSQL 18 it is a constraint with a name
        if name_of(key)[:-1] == ("constraint", schema, owner) and shown.fullmatch(definition):
            at, name = qualified(schema, owner), name_of(key)[-1]
            walk.add(f"alter table {at} add constraint {quote(name)} {definition}", late=True)
            return
    walk.add(f"{_alter_before(found[0])} set not null", late=True)


def _column_default(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    """Dropped at its place, because it may name what goes next; the old one comes last."""
    found = _column(walk, command, table, thing)
    if found is None:
        return
    walk.add(f"{_alter(table, command.name)} drop default", thing)
    old = default_of(found[1])
    if old is not None:
        walk.add(f"{_alter_before(found[0])} set default {old}", late=True)


def _add_identity(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    if _column(walk, command, table, thing) is not None:
        walk.add(f"{_alter(table, command.name)} drop identity", thing)


def _add_constraint(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    if thing.is_made:
        return
    constraint = getattr(command, "def").constraint
    sort = _CONSTRAINTS.get(enum_name("ConstrType", constraint.contype))
    if sort is None:
        raise NoInverse
    for name in [constraint.conname] if constraint.conname else _new_constraints(walk, table, sort):
        if walk.objects.find("constraint", *table[1:], name) is None:
            made = walk.objects.make("constraint", *table[1:], name)
            walk.add(f"alter table {qualified(*table[1:])} drop constraint if exists {quote(name)}", thing, made)
    for key in constraint.keys if sort == "PRIMARY KEY" else ():  # which made these columns NOT NULL for good
        found = walk.objects.find("column", *table[1:], key.string.sval)
        if found is not None and not found.is_made and not _is_not_null(walk.definition(found)):
            walk.add(f"{_alter(table, key.string.sval)} drop not null", thing)


def _new_constraints(walk: Walk, table: Name, sort: str) -> list[str]:
    """Names that the server chose. All that are new came with the merge, so all of them go."""
    return [
        name_of(key)[-1]
        for key, definition in walk.after.items()
        if key not in walk.before and name_of(key)[:-1] == ("constraint", *table[1:]) and definition.startswith(sort)
    ]


def _drop_constraint(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    walk.objects.drop("constraint", *table[1:], command.name)


def _validate_constraint(walk: Walk, command: Any, table: Name, thing: Thing) -> None:
    found = walk.objects.find("constraint", *table[1:], command.name)
    if not thing.is_made and not (found is not None and found.is_made):
        raise NoInverse


def _row_security(walk: Walk, part: str, table: Name, thing: Thing) -> None:
    was = walk.definition(thing).split(" ")[_SECURITY[part]] == "t"
    words = ("force" if was else "no force") if "Force" in part else ("enable" if was else "disable")
    walk.add(f"alter table {qualified(*table[1:])} {words} row level security", thing)


def _is_made(walk: Walk, table: Name, column: str) -> bool:
    found = walk.objects.find("column", *table[1:], column)
    return found is not None and found.is_made


def _alter(table: Name, column: str) -> str:
    return f"alter table {qualified(*table[1:])} alter column {quote(column)}"


def _alter_before(column: Thing) -> str:
    """The beginning of a statement about a column, by its name in the schema before."""
    _, schema, table, name = name_of(column.key or "")
    return _alter(("relation", schema, table), name)


def _is_not_null(definition: str) -> bool:
    return " not null" in definition.partition(" default ")[0]


def default_of(definition: str) -> str | None:
    """The default in a column's definition: the longest part after the word that is an expression. What follows it is
    how the column is stored, which is none together with it."""
    words = definition.partition(" default ")[2].split(" ")
    for end in range(len(words), 0, -1):
        text = " ".join(words[:end])
        try:
            parse(f"select ({text})")
        except Unparsable:
            continue
        return text or None
    return None


def alter_enum(walk: Walk, node: Any) -> None:
    name = walk.objects.type(walk.path, *two(node.type_name))
    if name is None:
        raise NoInverse
    if node.old_val:
        new, old = literal(node.new_val), literal(node.old_val)
        walk.add(f"alter type {qualified(*name[1:])} rename value {new} to {old}", walk.objects.things[name])


_ALTERATIONS: dict[str, Callable[[Walk, Any, Name, Thing], None]] = {
    "AT_AddColumn": _add_column,
    "AT_DropColumn": _drop_column,
    "AT_AlterColumnType": _column_type,
    "AT_SetNotNull": _set_not_null,
    "AT_DropNotNull": _drop_not_null,
    "AT_ColumnDefault": _column_default,
    "AT_AddIdentity": _add_identity,
    "AT_AddConstraint": _add_constraint,
    "AT_DropConstraint": _drop_constraint,
    "AT_ValidateConstraint": _validate_constraint,
}
