"""From DDL that a merge ran to the statements that take it back, in reverse order. Pure.

What a statement made is dropped, what it renamed gets its old name, what it redefined is defined again as the schema
before had it. What it dropped, and what went with that, is named by its key: definitions and values are in the bytes
before the merge (`lost`), and so are the values of columns whose type changed. What this room does not know how to turn
round is named too, and has no inverse in place.

Nothing here is trusted: the schema after the undo is compared with the one before the merge. New values of enumerated
types stay: the server cannot take them away, and a value that no row has harms nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wye.kinds.postgres.catalog import Schema
from wye.kinds.postgres.ddl import AFTER, EXPAND, Statement
from wye.kinds.postgres.dialect import Dialect
from wye.kinds.postgres.objects import Name, Thing, name_of, qualified
from wye.kinds.postgres.parsing import Unparsable, enum_name
from wye.kinds.postgres.reverse_table import alter_enum, alter_table, rename
from wye.kinds.postgres.session import quote
from wye.kinds.postgres.settings import MAKERS, STATEMENTS
from wye.kinds.postgres.walk import NoInverse, Walk, two

_PARTS = {"OBJECT_TRIGGER": "trigger", "OBJECT_POLICY": "policy", "OBJECT_RULE": "rule"}
_RELATIONS = frozenset({"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_INDEX", "OBJECT_SEQUENCE"})
_OUTPUT = ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")


@dataclass(frozen=True, slots=True)
class Reversed:
    """`irreversible`: the statements that have no inverse; if there are any, all else is worth nothing. `lost`: keys in
    the schema before of what is gone. `retyped`: of columns of another type, with their names now; `dialect`: the
    settings under which they got it."""

    statements: tuple[Statement, ...]
    irreversible: tuple[str, ...]
    lost: tuple[str, ...] = ()
    retyped: tuple[tuple[str, Name], ...] = ()
    dialect: Dialect = ()


def reverse(statements: Iterable[Statement], before: Schema, after: Schema) -> Reversed:
    """`before` and `after`: the schema that `statements` ran on, and what came of it."""
    walk = Walk(before, after)
    irreversible = []
    for statement in statements:
        if statement.stage == EXPAND:
            continue
        try:
            for kind, node in walk.follow(statement):
                act = _ACTS.get(kind)
                if act is None:
                    raise NoInverse
                act(walk, node)
        except (NoInverse, Unparsable):
            irreversible.append(statement.sql)
    lost = walk.lost()
    irreversible += [key for key in lost if _is_beyond(key, before[key])]
    return Reversed(_ordered(walk), tuple(irreversible), tuple(lost), tuple(walk.types_since()), walk.dialect or ())


def _is_beyond(key: str, definition: str) -> bool:
    """Whether it cannot be defined again: a foreign table, a type of ranges, an aggregate."""
    kind = key.partition(" ")[0]
    return (kind, definition[:2]) in (("table", "f "), ("type", "r ")) or (
        kind == "function" and not definition.startswith("CREATE ")
    )


def _ordered(walk: Walk) -> tuple[Statement, ...]:
    """A type that came with the merge goes when no column has it any more."""
    found = walk.inverse()
    if not walk.retyped:
        return tuple(found)
    types = [each for each in found if each.sql.startswith(("drop type ", "drop domain "))]
    return (*(each for each in found if each not in types), *(replace(each, stage=AFTER) for each in types))


# ---------------------------------------------------------------- what is created


def _create_table(walk: Walk, node: Any) -> None:
    walk.make("relation", "table", node.relation.schemaname, node.relation.relname)


def _create_table_as(walk: Walk, node: Any) -> None:
    is_view = enum_name("ObjectType", node.objtype) == "OBJECT_MATVIEW"
    word = "materialized view" if is_view else "table"
    walk.make("relation", word, node.into.rel.schemaname, node.into.rel.relname)


def _create_sequence(walk: Walk, node: Any) -> None:
    walk.make("relation", "sequence", node.sequence.schemaname, node.sequence.relname)


def _create_composite(walk: Walk, node: Any) -> None:
    walk.make("relation", "type", node.typevar.schemaname, node.typevar.relname)


def _create_type(walk: Walk, node: Any) -> None:
    walk.make("type", "type", *two(node.type_name))


def _create_domain(walk: Walk, node: Any) -> None:
    walk.make("type", "domain", *two(node.domainname))


def _create_statistics(walk: Walk, node: Any) -> None:
    walk.make("statistics", "statistics", *two(node.defnames))


def _create_schema(walk: Walk, node: Any) -> None:
    name = node.schemaname or node.authrole.rolename
    if walk.objects.find("schema", name) is None:
        walk.add(f"drop schema {quote(name)}", walk.objects.make("schema", name))


def _create_extension(walk: Walk, node: Any) -> None:
    if walk.objects.find("extension", node.extname) is None:
        walk.add(f"drop extension {quote(node.extname)}", walk.objects.make("extension", node.extname))


def _create_view(walk: Walk, node: Any) -> None:
    name = walk.objects.relation(walk.path, node.view.schemaname, node.view.relname)
    if name is None:
        walk.make("relation", "view", node.view.schemaname, node.view.relname)
        return
    thing = walk.objects.things[name]
    if not thing.is_made:
        walk.add(f"drop view {qualified(*name[1:])}")
        _recreate_view(walk, thing)


def _create_function(walk: Walk, node: Any) -> None:
    schema, name = two(node.funcname)
    modes = (enum_name("FunctionParameterMode", each.function_parameter.mode) for each in node.parameters)
    count = sum(mode not in _OUTPUT for mode in modes)
    place = schema or walk.objects.new_schema(walk.path)
    now = _functions(walk.after, (place,), name, count)
    new = [key for key in now if walk.objects.find(*name_of(key)) is None]
    if len(new) > 1:  # several of one name, which types would have to tell apart
        raise NoInverse
    for key in new:
        walk.add(f"drop routine if exists {key.partition(' ')[2]}", walk.objects.make(*name_of(key)))
    for key in () if new else _there(walk, (place,), name, count):
        _restore_function(walk, key)


def _create_index(walk: Walk, node: Any) -> None:
    table, thing = walk.table(node.relation)
    if node.idxname:
        if walk.objects.find("relation", table[1], node.idxname) is None:
            made = walk.objects.make("relation", table[1], node.idxname)
            if not thing.is_made:
                walk.add(f"drop index {qualified(table[1], node.idxname)}", thing, made)
        return
    if thing.is_made:
        return
    bound = {name_of(key)[-1] for key in walk.after if name_of(key)[:-1] == ("constraint", *table[1:])}
    for key, definition in walk.after.items():  # the server chose the name; all that are new came with the merge
        name = name_of(key)
        is_new = key.startswith("index ") and key not in walk.before and name[-1] not in bound
        if is_new and re.search(rf" ON (ONLY )?{re.escape(_shown(table))} ", definition):
            walk.add(f"drop index if exists {qualified(*name[1:])}", thing)


def _create_trigger(walk: Walk, node: Any) -> None:
    _create_part(walk, "trigger", node.relation, node.trigname)


def _create_policy(walk: Walk, node: Any) -> None:
    _create_part(walk, "policy", node.table, node.policy_name)


def _create_rule(walk: Walk, node: Any) -> None:
    _create_part(walk, "rule", node.relation, node.rulename)


def _create_part(walk: Walk, kind: str, relation: Any, name: str) -> None:
    """A trigger, policy or rule of a table; one that was there was replaced."""
    table, thing = walk.table(relation)
    old = walk.objects.find(kind, *table[1:], name)
    made = walk.objects.make(kind, *table[1:], name)
    if thing.is_made:
        return
    walk.add(f"drop {kind} {quote(name)} on {qualified(*table[1:])}", thing, made)
    if old is not None and not old.is_made:
        _recreate_part(walk, kind, old)


# ---------------------------------------------------------------- what is dropped


def _drop(walk: Walk, node: Any) -> None:
    """What is gone in the end comes back by its definition (`Walk.lost`)."""
    sort = enum_name("ObjectType", node.remove_type)
    for each in node.objects:
        if sort in _RELATIONS:
            name = walk.objects.relation(walk.path, *two(each.list.items))
            walk.objects.drop(*(name or ("", "")))
        elif sort in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
            parts = two(each.type_name.names)
            name = walk.objects.type(walk.path, *parts) or walk.objects.relation(walk.path, *parts)
            walk.objects.drop(*(name or ("", "")))
        elif sort in _PARTS:
            *above, part = each.list.items
            name = walk.objects.relation(walk.path, *two(above))
            walk.objects.drop(_PARTS[sort], *(name or ("", ""))[1:], part.string.sval)
        elif sort in ("OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE"):
            _drop_function(walk, each.object_with_args)
        elif sort == "OBJECT_STATISTIC_EXT":
            schema, last = two(each.list.items)
            for place in [schema] if schema else walk.path:
                walk.objects.drop("statistics", place, last)
        elif sort == "OBJECT_SCHEMA":
            walk.objects.drop("schema", each.string.sval)
        elif sort == "OBJECT_EXTENSION" and _is_made_extension(walk, each.string.sval):
            walk.objects.drop("extension", each.string.sval)
        else:
            raise NoInverse


def _is_made_extension(walk: Walk, name: str) -> bool:
    thing = walk.objects.find("extension", name)
    return thing is None or thing.is_made


def _drop_function(walk: Walk, given: Any) -> None:
    schema, name = two(given.objname)
    places = [schema] if schema else walk.path
    was = _there(walk, places, name, None if given.args_unspecified else len(given.objargs))
    gone = [key for key in was if key not in walk.after]
    for key in gone or [key for key in was if walk.after[key] != walk.before[key]]:
        walk.objects.drop(*name_of(key))
    made = [n for n in walk.objects.things if n[0] == "function" and n[2].partition("(")[0] == name]
    for each in made if not was else ():
        walk.objects.drop(*each)


def _recreate_view(walk: Walk, thing: Thing) -> None:
    name = (thing.key or "").partition(" ")[2]
    definition = walk.defined(f"view {name}")
    if not definition.startswith("v"):
        raise NoInverse  # materialized: its rows are not in the schema
    # The words before the owner are always there in a view's definition, but for options such as security_barrier.
    options, owner = walk.definition(thing).split(" ")[5:7]
    if "=" not in options:
        options, owner = "", options
    given = f" with ({options})" if options else ""
    walk.add(f"create view {name}{given} as {definition[1:]}", late=True)
    walk.add(f"alter view {name} owner to {owner}", late=True)


def _recreate_part(walk: Walk, kind: str, thing: Thing) -> None:
    if kind == "policy":  # told in pieces that make no statement
        raise NoInverse
    walk.add(walk.definition(thing).rpartition(" ")[0], late=True)


def _restore_function(walk: Walk, key: str) -> None:
    """Its text ends with a line feed; owner and rights follow."""
    if walk.after.get(key) != walk.before[key]:
        walk.add(walk.before[key].rpartition("\n")[0], late=True)


def _there(walk: Walk, places: Sequence[str], name: str, count: int | None) -> list[str]:
    """As `_functions`, of the schema before and not dropped so far."""
    return [key for key in _functions(walk.before, places, name, count) if walk.objects.find(*name_of(key))]


def _functions(schema: Schema, places: Sequence[str], name: str, count: int | None) -> list[str]:
    """Keys of the functions of that name and number of arguments (None: any)."""
    found = []
    for key in schema:
        kind, _, identity = key.partition(" ")
        if kind == "function" and name_of(key)[1] in places and name_of(key)[2].partition("(")[0] == name:
            arguments = identity.partition("(")[2].rstrip(")")
            if count in (None, len(arguments.split(",")) if arguments else 0):
                found.append(key)
    return found


def _alter_function(walk: Walk, node: Any) -> None:
    schema, name = two(node.func.objname)
    count = None if node.func.args_unspecified else len(node.func.objargs)
    for key in _there(walk, [schema] if schema else walk.path, name, count):
        if not walk.before[key].startswith("CREATE "):
            raise NoInverse
        _restore_function(walk, key)


def _alter_domain(walk: Walk, node: Any) -> None:
    """Only of what came with the merge, and goes with it."""
    name = walk.objects.type(walk.path, *two(node.type_name))
    if name is None or not walk.objects.things[name].is_made:
        raise NoInverse


def _set(walk: Walk, node: Any) -> None:
    """What is set is known by its values, and what is made of the rarer sorts by its name (`settings`)."""


def _define(walk: Walk, node: Any) -> None:
    if enum_name("ObjectType", node.kind) == "OBJECT_TYPE":  # which needs functions that need it
        raise NoInverse


def _shown(table: Name) -> str:
    """As the server prints it in a definition."""
    return ".".join(part if re.fullmatch(r"[a-z_][a-z0-9_]*", part) else quote(part) for part in table[1:])


_ACTS: dict[str, Callable[[Walk, Any], None]] = {
    "alter_domain_stmt": _alter_domain,
    "alter_enum_stmt": alter_enum,
    "alter_function_stmt": _alter_function,
    "alter_table_stmt": alter_table,
    "composite_type_stmt": _create_composite,
    "create_domain_stmt": _create_domain,
    "create_enum_stmt": _create_type,
    "create_extension_stmt": _create_extension,
    "create_function_stmt": _create_function,
    "create_policy_stmt": _create_policy,
    "create_range_stmt": _create_type,
    "create_schema_stmt": _create_schema,
    "create_seq_stmt": _create_sequence,
    "create_stats_stmt": _create_statistics,
    "create_stmt": _create_table,
    "create_table_as_stmt": _create_table_as,
    "create_trig_stmt": _create_trigger,
    "drop_stmt": _drop,
    "index_stmt": _create_index,
    "rename_stmt": rename,
    "rule_stmt": _create_rule,
    "view_stmt": _create_view,
    **dict.fromkeys(STATEMENTS | MAKERS, _set),
    "define_stmt": _define,
}
