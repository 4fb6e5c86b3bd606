"""Runs a fork's DDL on another cluster: first on the base, to give it the fork's schema, then on the target.

Each statement runs under the role, the search path and the settings (`dialect`) that it had in the fork. That something
exists already, or is gone already, is no failure here: both sides may have done the same, and the schema is compared
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg

from wye.host import Host
from wye.kinds.postgres.changes import Definition
from wye.kinds.postgres.ddl import AFTER, EXPAND, Statement
from wye.kinds.postgres.dialect import speak, speak_own
from wye.kinds.postgres.session import Connection, literal, names, value

_EXISTS = frozenset({"42701", "42P07", "42710", "42723", "42P06"})
_GONE = frozenset({"42703", "42P01", "42704", "42883", "3F000"})
_MISSES = frozenset({"42830", "0A000"})
"""A unique key to refer to, a table that owns a sequence."""


def split(statements: Sequence[Statement], *, ddl_first: bool) -> tuple[list[Statement], list[Statement]]:
    """What runs before the rows are written, and what after."""
    before = [s for s in statements if s.stage != AFTER or ddl_first]
    return before, [s for s in statements if s.stage == AFTER and not ddl_first]


def expand(host: Host, connection: Connection, statements: Iterable[Statement]) -> None:
    """Commits new values of enumerated types: PostgreSQL lets nobody use one in the transaction that adds it.

    The only step that a refused merge leaves behind; a value that no row has harms nothing. A type that does not exist
    yet is skipped: it comes with `replay`, and so does its new value.
    """
    for statement in statements:
        if statement.stage == EXPAND:
            host.at("postgres:ddl:expand")
            try:
                with connection.transaction():
                    _run(connection, statement)
            except psycopg.errors.UndefinedObject:
                continue


def replay(
    host: Host,
    connection: Connection,
    statements: Iterable[Statement],
    around: Callable[[Statement], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Runs `statements` in the current transaction, each within its `around`. Raises psycopg.Error at the first that
    fails."""
    for statement in statements:
        host.at("postgres:ddl:replay")
        with around(statement):
            try:
                with connection.transaction():
                    _run(connection, statement)
            except psycopg.Error as error:
                drops = " drop " in f" {statement.sql.lower()}"
                if error.sqlstate not in _EXISTS and not (error.sqlstate in _GONE and drops):
                    raise
    step_back(connection)


def define(
    host: Host, connection: Connection, definitions: Iterable[Definition], *, patient: bool = False
) -> list[Definition]:
    """Runs `definitions` in the current transaction, one that misses something after those that bring it. Returns what
    misses something still, if the caller is `patient`. Raises psycopg.Error."""
    waiting = list(definitions)
    while waiting:
        left: list[tuple[Definition, psycopg.Error]] = []
        for each in waiting:
            host.at("postgres:ddl:define")
            try:
                with connection.transaction():
                    connection.execute(each.sql)
            except psycopg.Error as error:
                if error.sqlstate not in _GONE | _MISSES:
                    raise
                left.append((each, error))
        if len(left) == len(waiting):
            if not patient:
                raise left[0][1]
            break
        waiting = [each for each, _ in left]
    return waiting


def fingerprint(connection: Connection, source: str, columns: Sequence[str], where: str = "true") -> tuple[int, str]:
    """Number of rows, and a digest of these columns of all of them that their order does not matter to. `source`: for
    FROM; `where`: about its rows `t`."""
    sql = f"""select count(*), coalesce(sum(hashtextextended(row({names(columns, "t.")})::text, 0)), 0)::text
        from {source} t where {where}"""
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0], row[1]


def exists(connection: Connection, table: str) -> bool:
    return bool(value(connection, f"select to_regclass({literal(table)}) is not null"))


def run_as(connection: Connection, statement: Statement) -> None:
    """From here on under its role, its search path and its settings."""
    step_back(connection)
    speak(connection, statement.dialect)
    path, role = literal(statement.path), literal(statement.role)
    connection.execute(f"select set_config('search_path', {path}, true), set_config('role', {role}, true)")


def step_back(connection: Connection) -> None:
    """From here on under the session's own role and settings, without a search path."""
    connection.execute(
        "select pg_catalog.set_config('search_path', '', true), pg_catalog.set_config('role', 'none', true)"
    )
    speak_own(connection)


def _run(connection: Connection, statement: Statement) -> None:
    run_as(connection, statement)
    connection.execute(statement.sql)
