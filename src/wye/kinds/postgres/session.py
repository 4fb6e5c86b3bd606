"""How this room talks to a server: settings that make text comparable, and quoting.

Values are compared as the text that the server prints, so every session prints alike: the same date style, float
digits and byte format on every side, and no search path, so that every name is printed in full and no name is looked
up in a schema that somebody else filled. Roles and databases may carry settings of their own; these here are set
after connecting and win.

No parameters are ever bound: names of tables go into statements as text, and a "%" in one would be taken for a
parameter. `literal` and `array` quote values instead; standard_conforming_strings is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg.rows import TupleRow

Connection = psycopg.Connection[TupleRow]

LOG_SCHEMA = "_wye"
"""Where a fork keeps its DDL log. Never part of a diff."""

SETTINGS = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "search_path": "",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "escape_string_warning": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "check_function_bodies": "off",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "client_min_messages": "error",
    # What these sessions ask touches a few rows of large tables: by their keys, and not by reading all of the table,
    # which is what costs made for rotating disks lead to; compiling it takes longer than carrying it out.
    "random_page_cost": "1.1",
    "jit": "off",
}


def begin_session(connection: Connection) -> Connection:
    """Makes a fresh superuser connection fit for this room. Returns it."""
    connection.autocommit = True
    pairs = ", ".join(f"set_config({literal(name)}, {literal(value)}, false)" for name, value in SETTINGS.items())
    since_17 = "set_config('transaction_timeout', '0', false)"
    connection.execute(f"select {pairs}{f', {since_17}' if connection.info.server_version >= 170000 else ''}")
    return connection


def quote(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def array(values: Iterable[str], kind: str = "text") -> str:
    return f"array[{', '.join(map(literal, values))}]::{kind}[]"


def names(columns: Sequence[str], prefix: str = "") -> str:
    """Columns as a quoted list, each with `prefix` ("t.")."""
    return ", ".join(prefix + quote(column) for column in columns)


def fetch(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def value(connection: Connection, sql: str) -> Any:
    """The only column of the only row."""
    row = connection.execute(sql).fetchone()
    assert row is not None, sql
    return row[0]
