"""From a fork's DDL log to statements that can be replayed on the target, each in its place.

The log holds whole query strings, as clients sent them. They are parsed with PostgreSQL's own grammar; DDL is kept,
data statements are dropped (their effect is in the rows), and statements that may hide DDL (DO, CALL, a function)
cannot be replayed: the log says that something happened, but not what, so the merge is refused.

Only statements on a list are ever replayed. The fork's own users wrote the log and may have forged it; a forged
statement is still one that defines an object, and the target's schema is compared with the fork's afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import postgast

from wye.kinds.postgres.parsing import Unparsable, parse
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, fetch, literal, value
from wye.merge.conflict import Conflict

EXPAND, BEFORE, AFTER = "expand", "before", "after"
"""When a statement runs: committed ahead, before the rows are written, or after them if it must wait for them."""

_READ = f"""select process, statement_at::text, tag, object, extension, role, path, query
from {LOG_SCHEMA}.ddl where id > {{since}} order by id"""

_REPLAYED = frozenset(
    f"{name}_stmt"
    for name in (
        "alter_collation", "alter_default_privileges", "alter_domain", "alter_enum", "alter_extension",
        "alter_extension_contents", "alter_function", "alter_object_depends", "alter_object_schema", "alter_op_family",
        "alter_operator", "alter_owner", "alter_policy", "alter_publication", "alter_seq", "alter_stats", "alter_table",
        "alter_tsconfiguration", "alter_tsdictionary", "alter_type", "comment", "composite_type", "create",
        "create_cast", "create_conversion", "create_domain", "create_enum", "create_extension", "create_function",
        "create_op_class", "create_op_family", "create_policy", "create_publication", "create_range", "create_schema",
        "create_seq", "create_stats", "create_table_as", "create_trig", "define", "drop", "grant", "index",
        "refresh_mat_view", "rename", "rule", "sec_label", "view",
    )
)  # fmt: skip
_DROPPED = frozenset(
    f"{name}_stmt"
    for name in (
        "check_point", "close_portal", "cluster", "constraints_set", "copy", "deallocate", "declare_cursor", "delete",
        "discard", "execute", "explain", "fetch", "insert", "listen", "lock", "merge", "notify", "prepare", "reindex",
        "select", "transaction", "truncate", "unlisten", "update", "vacuum", "variable_set", "variable_show",
        "do", "call",
    )
)  # fmt: skip
_LATE = frozenset({
    "AT_SetNotNull", "AT_AddConstraint", "AT_AlterConstraint", "AT_ValidateConstraint", "AT_AddIndex",
})  # fmt: skip
_TEMPORARY = "t"
_AS_IT_WAS = "REINDEX"
"""Reported since PostgreSQL 17, wherever it was done; the schema is the same after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a statement takes from a column: a fingerprint of the values that it changes for good, with their rows' keys
    `by`. If `is_whole`, of all values: nobody knows what an expression keeps. `was` and `now`: the column's type before
    and after; `now` is empty if an attribute of the type is dropped."""

    table: str
    column: str
    was: str
    now: str = ""
    by: tuple[str, ...] = ()
    is_whole: bool = False
    rows: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement to replay under `role` with the search path `path` (as a setting's text). `losses`: in the base."""

    sql: str
    stage: str
    role: str
    path: str
    losses: tuple[Loss, ...] = ()


def last_statement(connection: Connection) -> int:
    """The number of the last entry in a log; 0 if there is none."""
    if value(connection, f"select to_regclass('{LOG_SCHEMA}.ddl') is null"):
        return 0
    return int(value(connection, f"select coalesce(max(id), 0) from {LOG_SCHEMA}.ddl"))


def read_statements(connection: Connection, database: str, *, since: int = 0) -> tuple[list[Statement], list[Conflict]]:
    """The fork's DDL after entry `since` in order, and a refusal for each thing in the log that cannot be replayed.

    Without a log there are no statements: then a changed schema is one that the log does not explain."""
    if value(connection, f"select to_regclass('{LOG_SCHEMA}.ddl') is null"):
        return [], []
    return plan_statements(fetch(connection, _READ.format(since=since)), f"postgres/{database}")


def plan_statements(log: Iterable[Sequence[Any]], place: str) -> tuple[list[Statement], list[Conflict]]:
    """As read_statements, for rows of the log (process, time, tag, object, extension, role, path, query)."""
    kept: list[tuple[_Parsed, str, str]] = []
    refused: list[Conflict] = []
    seen: tuple[Any, ...] = ()
    for process, at, tag, name, extension, role, path, query in log:
        if extension or tag == _AS_IT_WAS or (process, at, query) == seen:
            continue
        seen = (process, at, query)
        try:
            found = list(_parse(query))
        except (Unparsable, _Opaque) as error:
            refused.append(refusal("opaque-ddl", place, f"{tag}: {error}", key=(name or tag,), theirs=query))
            continue
        if not found:
            refused.append(
                refusal("opaque-ddl", place, f"{tag} was done inside {_head(query)}", key=(name or tag,), theirs=query)
            )
        kept += [(statement, role, path) for statement in found]
    _fold_enums([statement for statement, _, _ in kept])
    statements = [
        Statement(sql=sql, stage=stage, role=role, path=path)
        for statement, role, path in kept
        for sql, stage in _staged(statement.kind, statement.node, statement.text)
        if sql
    ]
    return statements, refused


class _Opaque(Exception):
    """Says what cannot be replayed."""


@dataclass(slots=True)
class _Parsed:
    """A statement's text and parse tree. Empty text: folded into an earlier one."""

    kind: str
    node: Any
    text: str


def _fold_enums(statements: Iterable[_Parsed]) -> None:
    """Gives a type that the fork created the values that it added later: created with them, it can be used at once, but
    nobody can use a value in the transaction that adds it."""
    created: dict[tuple[str, ...], _Parsed] = {}
    for statement in statements:
        if statement.kind not in ("create_enum_stmt", "alter_enum_stmt"):
            continue
        name = tuple(part.string.sval for part in statement.node.type_name)
        if statement.kind == "create_enum_stmt":
            created[name] = statement
        elif name in created and not _add_value(created[name], statement):
            del created[name]


def _add_value(create: _Parsed, alter: _Parsed) -> bool:
    """Whether the value could be put where it belongs."""
    node, labels = alter.node, [value.string.sval for value in create.node.vals]
    if node.old_val or (node.new_val_neighbor and node.new_val_neighbor not in labels):
        return False
    if node.new_val not in labels:
        at = labels.index(node.new_val_neighbor) + node.new_val_is_after if node.new_val_neighbor else len(labels)
        labels.insert(at, node.new_val)
        del create.node.vals[:]
        for label in labels:
            create.node.vals.add().string.sval = label
        create.text = _deparse(create.kind, create.node)
    alter.text = ""
    return True


def _parse(query: str) -> Iterable[_Parsed]:
    data = query.encode()
    for raw in parse(query).stmts:
        kind = raw.stmt.WhichOneof("node")
        node = getattr(raw.stmt, kind)
        if kind == "select_stmt" and node.HasField("into_clause"):
            raise _Opaque("SELECT INTO cannot be replayed; use CREATE TABLE AS")
        if kind == "refresh_mat_view_stmt" and node.skip_data:
            raise _Opaque("a materialized view that is emptied cannot be merged; refresh it with data")
        if kind in _DROPPED:
            continue
        if kind not in _REPLAYED:
            raise _Opaque(f"{kind.removesuffix('_stmt').replace('_', ' ')} cannot be replayed")
        end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(data)
        text = data[raw.stmt_location : end].decode().strip()
        yield _Parsed(kind, node, text)


def _staged(kind: str, node: Any, text: str) -> Iterable[tuple[str, str]]:
    """A statement as it is replayed: without CONCURRENTLY, without rows, one command of ALTER TABLE at a time.

    Empty text: understood, and nothing to replay."""
    if not text or (kind in ("create_stmt", "create_table_as_stmt") and _is_temporary(kind, node)):
        yield "", BEFORE
    elif kind == "refresh_mat_view_stmt":
        yield "", AFTER
    elif kind == "create_table_as_stmt":
        node.into.skip_data = True
        yield _deparse(kind, node), BEFORE
    elif kind == "index_stmt":
        node.concurrent = False
        yield _deparse(kind, node), AFTER
    elif kind == "drop_stmt" and node.concurrent:
        node.concurrent = False
        yield _deparse(kind, node), BEFORE
    elif kind == "alter_enum_stmt" and node.new_val and not node.old_val:
        node.skip_if_new_val_exists = True
        yield _deparse(kind, node), EXPAND
    elif kind == "alter_seq_stmt" and _take_out_restart(node.options):
        yield (_deparse(kind, node) if node.options else ""), BEFORE
    elif kind == "alter_table_stmt":
        yield from _staged_table(kind, node, text)
    else:
        yield text, BEFORE


def _staged_table(kind: str, node: Any, text: str) -> Iterable[tuple[str, str]]:
    for command in node.cmds:
        options = getattr(command.alter_table_cmd, "def").list.items
        restarts = _take_out_restart(options)
        if restarts and not options:
            yield "", BEFORE
            continue
        one = type(node)()
        one.CopyFrom(node)
        del one.cmds[:]
        one.cmds.add().CopyFrom(command)
        name = postgast.pg_query_pb2.AlterTableType.Name(command.alter_table_cmd.subtype)
        is_whole = len(node.cmds) == 1 and not restarts
        yield (text if is_whole else _deparse(kind, one)), AFTER if name in _LATE else BEFORE


def _take_out_restart(options: Any) -> bool:
    """Where a sequence goes on is no part of its definition: it comes with the positions of all sequences, and must not
    set back one that the target has gone on with. Returns whether there was such an option."""
    kept = [each for each in options if each.def_elem.defname != "restart"]
    if len(kept) == len(options):
        return False
    del options[:]
    options.extend(kept)
    return True


def added_values(statements: Iterable[Statement]) -> frozenset[str]:
    """The values, quoted, that `statements` commit ahead of the rest."""
    nodes = (raw.stmt.alter_enum_stmt for each in statements if each.stage == EXPAND for raw in parse(each.sql).stmts)
    return frozenset(literal(node.new_val) for node in nodes)


def _is_temporary(kind: str, node: Any) -> bool:
    relation = node.relation if kind == "create_stmt" else node.into.rel
    return bool(relation.relpersistence == _TEMPORARY)


def _deparse(kind: str, node: Any) -> str:
    result = postgast.ParseResult()
    getattr(result.stmts.add().stmt, kind).CopyFrom(node)
    return str(postgast.deparse(result))


def _head(query: str) -> str:
    words = " ".join(query.split())
    return words if len(words) <= 60 else words[:57] + "..."
