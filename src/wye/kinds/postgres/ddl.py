"""From a fork's DDL log to statements that can be replayed on the target, each in its place.

The log holds whole query strings, as clients sent them. They are parsed with PostgreSQL's own grammar; DDL is kept,
data statements are dropped (their effect is in the rows), and statements that may hide DDL (DO, CALL, a function)
cannot be replayed: the log says that something happened, but not what, so the merge is refused.

Only statements on a list are ever replayed. The fork's own users wrote the log and may have forged it; a forged
statement is still one that defines an object, and the target's schema is compared with the fork's afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import postgast

from wye.kinds.postgres.dialect import Dialect, dialect_of, is_escaping, read_logged
from wye.kinds.postgres.parsing import Unparsable, enum_name, parse
from wye.kinds.postgres.refuse import refusal
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, fetch, literal, value
from wye.merge.conflict import Conflict

EXPAND, BEFORE, AFTER = "expand", "before", "after"
"""When a statement runs: committed ahead, before the rows are written, or after them if it must wait for them."""

_READ = f"""select process, statement_at::text, tag, object, extension, role, path, query,
    {read_logged("log")}, log.xmin::text
from {LOG_SCHEMA}.ddl log where id > {{since}} order by id"""

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
        "select", "truncate", "unlisten", "update", "vacuum", "variable_set", "variable_show",
        "do", "call",
    )
)  # fmt: skip
_LATE = frozenset({
    "AT_SetNotNull", "AT_AddConstraint", "AT_AlterConstraint", "AT_ValidateConstraint", "AT_AddIndex",
})  # fmt: skip
_RETYPES = "AT_AlterColumnType"
_CLEARING = frozenset({
    "AT_DropColumn", "AT_DropConstraint", "AT_DropNotNull", "AT_DropExpression", "AT_DropIdentity",
})  # fmt: skip
_TRANSACTION = "transaction_stmt"
_KEEPING, _BACK = "TRANS_STMT_COMMIT", frozenset({"TRANS_STMT_ROLLBACK", "TRANS_STMT_ROLLBACK_TO"})
_ONE_BY_ONE = "the log does not say which statements had an effect: send them one by one"
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
    """One statement to replay under `role` with the search path `path` (as a setting's text) and under the settings
    `dialect`. `losses`: in the base."""

    sql: str
    stage: str
    role: str
    path: str
    losses: tuple[Loss, ...] = ()
    dialect: Dialect = ()


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
    """As read_statements, for rows of the log (process, time, tag, object, extension, role, path, query, settings,
    transaction)."""
    kept: list[tuple[_Parsed, _Message]] = []
    refused: list[Conflict] = []
    for message in _messages(log):
        name, query = message.name, message.query
        try:
            found = _in_effect(message)
        except (Unparsable, _Opaque) as error:
            refused.append(refusal("opaque-ddl", place, f"{message.tag}: {error}", key=(name,), theirs=query))
            continue
        if not found:
            detail = f"{message.tag} was done inside {_head(query)}"
            refused.append(refusal("opaque-ddl", place, detail, key=(name,), theirs=query))
        kept += [(statement, message) for statement in found]
    _fold_enums([statement for statement, _ in kept])
    statements = [
        Statement(sql=sql, stage=stage, role=message.role, path=message.path, dialect=message.dialect)
        for statement, message in kept
        for sql, stage in _staged(statement.kind, statement.node, statement.text)
        if sql
    ]
    return statements, refused


@dataclass(frozen=True, slots=True)
class _Message:
    """What a client sent at once, as the first of its entries in the log has it. `terms`: role, path and settings of
    each entry; `transactions`: those that wrote them."""

    tag: str
    name: str
    role: str
    path: str
    query: str
    settings: Any
    terms: frozenset[str]
    transactions: frozenset[str]

    @property
    def dialect(self) -> Dialect:
        return dialect_of(self.settings)


def _messages(log: Iterable[Sequence[Any]]) -> Iterable[_Message]:
    """In the order of their first entries. Others may have written to the log between two of one message."""
    found: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
    making_extensions = set()
    for entry in log:
        process, at, tag, _, extension, _, _, query, *_ = entry
        if extension:
            making_extensions.add((process, at, query))
        elif tag != _AS_IT_WAS:
            found.setdefault((process, at, query), []).append(entry)
    for message, entries in found.items():
        own = entries
        if message in making_extensions:  # what its script drops it drops under terms of its own
            own = [each for each in entries if not each[2].startswith("DROP ")] or entries
        _, _, tag, name, _, role, path, query, settings, _ = own[0]
        terms = frozenset(json.dumps([role, path, settings], sort_keys=True) for *_, role, path, _, settings, _ in own)
        yield _Message(tag, name or tag, role, path, query, settings, terms, frozenset(each[-1] for each in own))


def _in_effect(message: _Message) -> list[_Parsed]:
    """The DDL of a message, if it is certain that all of it was carried out, and under which terms."""
    found: list[_Parsed] = []
    parts, is_kept = 0, True
    for each in _parse(message.query):
        if each.kind != _TRANSACTION:
            parts += is_kept
            is_kept = False
            found.append(each)
        elif found and _act(each.node) in _BACK:
            raise _Opaque(f"the message takes something back (ROLLBACK), but not all, and {_ONE_BY_ONE}")
        elif _act(each.node) == _KEEPING:
            is_kept = True
    if parts > 1 and parts != len(message.transactions):
        raise _Opaque(f"the message goes on after a COMMIT, and what came then was not all carried out; {_ONE_BY_ONE}")
    if found and len(message.terms) > 1:
        raise _Opaque(f"the message sets its role, search path or settings between two statements; {_ONE_BY_ONE}")
    if is_escaping(message.settings) and "\\" in message.query:
        raise _Opaque("a backslash, with standard_conforming_strings off, cannot be read")
    return found


def _act(transaction: Any) -> str:
    return enum_name("TransactionStmtKind", transaction.kind)


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
        if kind == _TRANSACTION:
            yield _Parsed(kind, node, "")
            continue
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
    for commands in _together(list(node.cmds)):
        options = getattr(commands[0].alter_table_cmd, "def").list.items
        restarts = _take_out_restart(options)
        if restarts and not options:
            yield "", BEFORE
            continue
        part = type(node)()
        part.CopyFrom(node)
        del part.cmds[:]
        part.cmds.extend(commands)
        is_whole = len(node.cmds) == len(commands) and not restarts
        yield (text if is_whole else _deparse(kind, part)), AFTER if _command(commands[0]) in _LATE else BEFORE


def _together(commands: list[Any]) -> list[list[Any]]:
    """Commands of ALTER TABLE that have to be one statement, in the order in which the server carries them out. New
    types are all made of the old rows, so that columns may exchange their values; what stands in their way is dropped
    before that, but a column is still read from."""
    retyping = [each for each in commands if _command(each) == _RETYPES]
    if not retyping:
        return [[each] for each in commands]
    if any(getattr(each.alter_table_cmd, "def").column_def.HasField("raw_default") for each in retyping):
        retyping = [*(each for each in commands if _command(each) == "AT_DropColumn"), *retyping]
    others = [each for each in commands if each not in retyping]
    clearing = [each for each in others if _is_cleared(each.alter_table_cmd)]
    return [*([each] for each in clearing), retyping, *([each] for each in others if each not in clearing)]


def _is_cleared(command: Any) -> bool:
    """Whether the server does it ahead of new types."""
    name = enum_name("AlterTableType", command.subtype)
    return name in _CLEARING or (name == "AT_ColumnDefault" and getattr(command, "def").WhichOneof("node") is None)


def _command(node: Any) -> str:
    return enum_name("AlterTableType", node.alter_table_cmd.subtype)


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
