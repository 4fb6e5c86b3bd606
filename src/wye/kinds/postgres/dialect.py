"""What the text of a statement means besides its words: settings of the session that sent it.

'2020-01-01 12:00' is another instant under another time zone, and a cast of text to a date another day under another
style. A fork's log keeps these settings with each statement, as it keeps the role and the search path; the statement is
replayed under them, and turned round under them. Wye's own sessions print and read in one way (`session`), so they come
back to that after each statement. A log that was begun before they were kept has none: such a statement is replayed
under the session's own.

The list is of what a client may set and what reads or converts a value. `standard_conforming_strings` is not replayed
but looked at: with it off a text with a backslash is another text, to the parser too. Tablespaces are refused
elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from wye.kinds.postgres.session import SETTINGS, Connection, array, literal

Dialect = tuple[tuple[str, str], ...]
"""Settings by name, in the order of the list."""

NAMES = (
    "TimeZone", "timezone_abbreviations", "DateStyle", "IntervalStyle", "extra_float_digits", "bytea_output",
    "xmlbinary", "xmloption", "array_nulls", "transform_null_equals", "lc_monetary", "lc_numeric", "lc_time",
    "default_text_search_config", "default_table_access_method",
)  # fmt: skip
_ESCAPES = "standard_conforming_strings"

_PAIRS = ", ".join(f"'{name}', current_setting('{name}', true)" for name in (*NAMES, _ESCAPES))
LOGGED = f"jsonb_build_object({_PAIRS})"
"""An expression for a session's settings."""

_OWN = {name.lower(): setting for name, setting in SETTINGS.items()}
_BACK = ", ".join(
    f"set_config('{name}', {literal(_OWN[name.lower()])}, true)" for name in NAMES if name.lower() in _OWN
)
_DEFAULTS = "; ".join(f"set local {name} to default" for name in NAMES if name.lower() not in _OWN)


def read_logged(entry: str) -> str:
    """An expression for the settings in a log's `entry`, which may have none, or be forged: texts by name."""
    there = f"select to_jsonb({entry}) -> 'settings' logged offset 0"
    wanted = f"unnest({array((*NAMES, _ESCAPES))})"
    return f"(select jsonb_object_agg(n, s.logged ->> n) from ({there}) s, {wanted} n)"


def dialect_of(logged: Any) -> Dialect:
    """Of what was read from a log's entry: those that there are."""
    if not isinstance(logged, dict):
        return ()
    return tuple((name, logged[name]) for name in NAMES if isinstance(logged.get(name), str))


def is_escaping(logged: Any) -> bool:
    """Whether a backslash in a plain string is no backslash there."""
    return isinstance(logged, dict) and logged.get(_ESCAPES) == "off"


def speak(connection: Connection, dialect: Dialect) -> None:
    """From here on, until the transaction ends or `speak_own`, and without a search path. What is so already is not
    set: a server may have begun with a setting that it would not take from a session. Raises psycopg.Error."""
    if dialect:
        rows = ", ".join(f"({literal(name)}, {literal(setting)})" for name, setting in dialect)
        connection.execute(
            "select pg_catalog.set_config('search_path', '', true);"  # lest a name that is looked up is somebody's own
            f" select set_config(s.name, s.setting, true) from (values {rows}) s(name, setting)"
            " where current_setting(s.name, true) is distinct from s.setting"
        )


def speak_own(connection: Connection) -> None:
    """As wye's sessions do, until the transaction ends."""
    connection.execute(f"select {_BACK}; {_DEFAULTS}")


@contextlib.contextmanager
def speaking(connection: Connection, dialect: Dialect) -> Iterator[None]:
    """To be used in a transaction. An error leaves it to the transaction's end."""
    speak(connection, dialect)
    yield
    if dialect:
        speak_own(connection)
