"""Databases on three sides, made and judged with the standard library's sqlite3, merged with ours."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wye.host import Host
from wye.kinds.files.tree import Side
from wye.kinds.sqlite.apply import Application, merged
from wye.kinds.sqlite.changes import SqliteChanges, changes, from_json, to_json
from wye.kinds.sqlite.database import copy
from wye.merge.conflict import Conflict, Decisions, Resolution
from wye.merge.rows import Grain

HOST = Host()
FILE = "volumes/data/app.db"


@dataclass
class Three:
    home: Path

    def path(self, name: str) -> Path:
        return self.home / name / FILE

    def run(self, name: str, *statements: str) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path(name), isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # what is tested is what the merge itself does
            for statement in statements:
                connection.execute(statement)

    def copy(self) -> None:
        for name in ("ours", "theirs"):
            HOST.run("test:copy", ["cp", "-a", str(self.home / "base"), str(self.home / name)])

    def changes(self, base: str = "base", theirs: str = "theirs", watched: Sequence[str] = ()) -> SqliteChanges:
        with tempfile.TemporaryDirectory(dir=self.home) as scratch:
            directories = []
            for name in (base, theirs):
                with Side(HOST, self.home / name) as side:
                    directories.append(copy(HOST, side, FILE, Path(scratch) / name))
            return from_json(to_json(changes(HOST, *directories, watched)))

    @contextmanager
    def merged(self, *arguments: Any, host: Host = HOST, busy_s: float = 5.0, **options: Any) -> Iterator[Application]:
        rules = arguments[1] if len(arguments) > 1 else {}
        found = self.changes(watched=[name for name, each in rules.items() if each.grain is Grain.TABLE])
        with merged(host, "db", self.home / "ours", FILE, found, *arguments, busy_s=busy_s, **options) as application:
            yield application

    def merge(self, *arguments: Any, **options: Any) -> list[tuple[str, str, tuple[Any, ...]]]:
        """Commits, or gives the conflicts in brief."""
        with self.merged(*arguments, **options) as application:
            if application.conflicts:
                return [(c.kind, c.place, c.key) for c in application.conflicts]
            application.commit()
        return []

    def conflicts(self, decided: dict[str, Resolution] | None = None, *arguments: Any) -> list[Conflict]:
        """Of a merge that commits nothing, and of which nothing is left in the file."""
        before = self.path("ours").read_bytes()
        with self.merged(Decisions(decided), *arguments) as application:
            found = list(application.conflicts)
        assert self.path("ours").read_bytes() == before
        return found

    def query(self, name: str, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.path(name))) as connection:
            return connection.execute(statement).fetchall()

    def dump(self, name: str) -> list[str]:
        """Definitions, and all rows with their types, the rowids left out."""
        with closing(sqlite3.connect(self.path(name))) as connection:
            connection.text_factory = bytes
            found = [repr(row) for row in connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2")]
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in sorted(tables):
                rows = connection.execute(f'SELECT * FROM "{table.decode()}"').fetchall()
                found += sorted(f"{table!r} {row!r}" for row in rows)
        return found


@pytest.fixture
def three(tmp_path: Path) -> Three:
    return Three(tmp_path)
