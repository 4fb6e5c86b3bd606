"""From DDL that a merge ran to the statements that take it back, in reverse order. Pure.

What a statement made is dropped, what it renamed gets its old name, what it dropped or redefined is defined again as
the schema before had it, if that holds no data. DROP TABLE, DROP COLUMN and changes of type destroyed data that no
schema has: they have no inverse in place and are named, and so is what this room does not know how to turn round.

Nothing here is trusted: the schema after the undo is compared with the one before the merge. New values of enumerated
types stay: the server cannot take them away, and a value that no row has harms nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from wye.kinds.postgres.catalog import Schema
from wye.kinds.postgres.ddl import EXPAND, Statement
from wye.kinds.postgres.objects import Name, Thing, name_of, qualified
from wye.kinds.postgres.parsing import Unparsable
from wye.kinds.postgres.reverse_settings import PARTS, comment_on_part
from wye.kinds.postgres.reverse_table import alter_enum, alter_table, rename
from wye.kinds.postgres.session import quote
from wye.kinds.postgres.walk import NoInverse, Walk, enum_name, two

_INDEX = re.compile(r"(?s)(.*) [tf] [tf] [tf](?: .*)?")
_PARTS = {"OBJECT_TRIGGER": "trigger", "OBJECT_POLICY": "policy", "OBJECT_RULE": "rule"}
_RELATIONS = frozenset({"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_INDEX", "OBJECT_SEQUENCE"})
_OUTPUT = ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")


@dataclass(frozen=True, slots=True)
class Reversed:
    """`irreversible`: the statements that have no inverse; if there are any, `statements` are worth nothing."""

    statements: tuple[Statement, ...]
    irreversible: tuple[str, ...]


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
    return Reversed(tuple(walk.inverse()), tuple(irreversible))


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
    was, now = (_functions(side, (place,), name, count) for side in (walk.before, walk.after))
    if len(was) == 1 and was[0] in now:
        _restore_function(walk, was[0])
    elif not was and len(now) == 1:
        walk.add(f"drop routine if exists {now[0].partition(' ')[2]}", walk.objects.make(*name_of(now[0])))
    elif was or now:  # several of one name, which types would have to tell apart
        raise NoInverse


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
    sort = enum_name("ObjectType", node.remove_type)
    for each in node.objects:
        if sort in _RELATIONS:
            name = walk.objects.relation(walk.path, *two(each.list.items))
            _dropped(walk, sort, walk.objects.drop(*name) if name else None)
        elif sort in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
            name = walk.objects.type(walk.path, *two(each.type_name.names))
            _dropped(walk, sort, walk.objects.drop(*name) if name else None)
        elif sort in _PARTS:
            *above, part = each.list.items
            name = walk.objects.relation(walk.path, *two(above))
            found = walk.objects.drop(_PARTS[sort], *name[1:], part.string.sval) if name else None
            if found is not None and not found.is_made:
                _recreate_part(walk, _PARTS[sort], found)
        elif sort in ("OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE"):
            _drop_function(walk, each.object_with_args)
        elif sort in ("OBJECT_SCHEMA", "OBJECT_EXTENSION"):
            _dropped(walk, sort, walk.objects.drop(sort.removeprefix("OBJECT_").lower(), each.string.sval))
        else:
            raise NoInverse


def _dropped(walk: Walk, sort: str, thing: Thing | None) -> None:
    if thing is None or thing.is_made:
        return
    if sort == "OBJECT_VIEW":
        _recreate_view(walk, thing)
    elif sort == "OBJECT_INDEX":
        found = _INDEX.fullmatch(walk.definition(thing))
        if found is None:
            raise NoInverse
        walk.add(found[1], late=True)
    else:
        raise NoInverse


def _drop_function(walk: Walk, given: Any) -> None:
    schema, name = two(given.objname)
    places = [schema] if schema else walk.path
    was = _functions(walk.before, places, name, None if given.args_unspecified else len(given.objargs))
    if len(was) > 1:
        raise NoInverse
    for key in was:
        walk.objects.drop(*name_of(key))
        _restore_function(walk, key)
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


# ---------------------------------------------------------------- what is said about things


def _about(walk: Walk, name: Name | None) -> None:
    """Only what came with the merge, and goes with it, may be spoken about."""
    if name is None or not walk.objects.things[name].is_made:
        raise NoInverse


def _comment(walk: Walk, node: Any) -> None:
    sort = enum_name("ObjectType", node.objtype)
    if sort in _RELATIONS:
        name = walk.objects.relation(walk.path, *two(node.object.list.items))
        _uncomment(walk, sort.removeprefix("OBJECT_").lower().replace("mat", "materialized "), name, name)
    elif sort == "OBJECT_COLUMN":
        *above, last = node.object.list.items
        table = walk.objects.relation(walk.path, *two(above))
        if table is None:
            raise NoInverse
        if not walk.objects.things[table].is_made:
            _uncomment(walk, "column", ("column", *table[1:], last.string.sval), table)
    elif sort in PARTS:
        comment_on_part(walk, sort, node)
    else:
        raise NoInverse


def _uncomment(walk: Walk, word: str, name: Name | None, table: Name | None) -> None:
    """None is the inverse only where there was none: then the new one was added at the definition's end."""
    thing = walk.objects.things.get(name) if name else None
    if thing is None or name is None:
        raise NoInverse
    if thing.is_made:
        return
    if not walk.after.get(thing.key or "", "").startswith(walk.definition(thing)):
        raise NoInverse
    walk.add(f"comment on {word} {qualified(*name[1:])} is null", walk.objects.things.get(table or name))


def _grant(walk: Walk, node: Any) -> None:
    for each in node.objects:
        if each.WhichOneof("node") == "string":
            thing = walk.objects.find("schema", each.string.sval)
            _about(walk, ("schema", each.string.sval) if thing else None)
        else:
            _about(walk, walk.objects.relation(walk.path, each.range_var.schemaname, each.range_var.relname))


def _alter_sequence(walk: Walk, node: Any) -> None:
    _about(walk, walk.objects.relation(walk.path, node.sequence.schemaname, node.sequence.relname))


def _alter_domain(walk: Walk, node: Any) -> None:
    _about(walk, walk.objects.type(walk.path, *two(node.type_name)))


def _shown(table: Name) -> str:
    """As the server prints it in a definition."""
    return ".".join(part if re.fullmatch(r"[a-z_][a-z0-9_]*", part) else quote(part) for part in table[1:])


_ACTS: dict[str, Callable[[Walk, Any], None]] = {
    "alter_domain_stmt": _alter_domain,
    "alter_enum_stmt": alter_enum,
    "alter_seq_stmt": _alter_sequence,
    "alter_table_stmt": alter_table,
    "comment_stmt": _comment,
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
    "grant_stmt": _grant,
    "index_stmt": _create_index,
    "rename_stmt": rename,
    "rule_stmt": _create_rule,
    "view_stmt": _create_view,
}
