"""Environments' directories with files and databases in them, seen through the engine's protocol."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wye.host import Host
from wye.interfaces import Bytes, FileApplication, FilePlan, PathChange
from wye.kinds.trees.kind import Trees
from wye.testing.differences import differences

HOST = Host()
DATABASE = "volumes/data/app.db"


@dataclass
class Three:
    """base, ours, theirs and the live target (a copy of ours that is written to since)."""

    home: Path
    trees: Trees
    images: dict[str, Path] = field(default_factory=dict)

    def path(self, name: str, path: str = DATABASE) -> Path:
        found = self.home / name / path
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def run(self, name: str, *statements: str, path: str = DATABASE) -> None:
        with closing(sqlite3.connect(self.path(name, path), isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    def query(self, name: str, statement: str, path: str = DATABASE) -> list[Any]:
        with closing(sqlite3.connect(self.path(name, path))) as connection:
            return connection.execute(statement).fetchall()

    def copy(self, source: str, *names: str) -> None:
        for name in names:
            HOST.run("test:copy", ["cp", "-a", str(self.home / source), str(self.home / name)])

    def bytes(self, name: str) -> Bytes:
        return Bytes(root=self.home / name, images=self.images)

    def changes(self, base: str = "base", theirs: str = "theirs") -> list[PathChange]:
        return differences(HOST, self.home / base, self.home / theirs)

    def plan(
        self,
        resolutions: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        *,
        sides: tuple[str, str, str] = ("base", "ours", "theirs"),
        back: bool = False,
    ) -> FilePlan:
        """Copies the target, as it is now, to "live"."""
        base, ours, theirs = sides
        if not (self.home / "live").exists():
            self.copy(ours, "live")
        paths = self.changes(base, theirs)
        given = (self.bytes(base), self.bytes(ours), self.bytes(theirs))
        return self.trees.plan(*given, paths, resolutions or {}, settings, back=back)

    def apply(self, planned: FilePlan, theirs: str = "theirs", trees: Trees | None = None) -> FileApplication:
        assert planned.conflicts == []
        return (trees or self.trees).apply(planned, self.bytes(theirs), self.bytes("live"))

    def merge(self, **options: Any) -> None:
        done = self.apply(self.plan(**options))
        assert done.check() == []
        done.release()
        done.commit()


@pytest.fixture
def three(tmp_path: Path) -> Three:
    (tmp_path / "scratch").mkdir()
    return Three(tmp_path, Trees(HOST, uid_base=0, scratch=tmp_path / "scratch"))
