"""A merge's changes to definitions: which of them the target still needs, when each is due, which are left out.

They are made in the merge's transaction, in three steps around its rows. What cannot be repeated on the target is
refused. A unique index is made as soon as the rows are written, in the same attempt: what it refuses is then settled
like what any other constraint refuses. A table that is dropped is told apart from what else is dropped with it (its
indexes, its triggers), so that all of it can be kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import apsw

from wye.kinds.sqlite.changes import SqliteChanges, content
from wye.kinds.sqlite.schema import Name, ObjectChange, read_objects
from wye.merge.conflict import NONE, Conflict, Decisions, Json, Side

DROPS, TABLES, REST = range(3)
"""The steps of `ObjectChange`: a unique index, say, may hold only after the rows were written."""
_HOLDERS = ("table", "view")
_UNIQUE = re.compile(r"\s*CREATE\s+UNIQUE\b", re.IGNORECASE)
STAYS = frozenset({Side.OURS})
"""Choices where the target keeps what it has, or somebody changes it there."""


def refusal(
    place: str, kind: str, name: str, detail: str, base: Json = None, ours: Json = None, theirs: Json = None
) -> Conflict:
    """What nobody can choose about."""
    return Conflict(
        kind=kind, place=place, key=(name,), base=base, ours=ours, theirs=theirs, choices=NONE, detail=detail
    )


class Definitions:
    """Of one merge of `found`, in an open transaction. `kept`: tables that the fork dropped and that stay. What is
    refused is added to `refused`. `made`: unique indexes that are there already. `done`: statements that were carried
    out."""

    def __init__(self, connection: apsw.Connection, place: str, refused: list[Conflict]) -> None:
        self._connection = connection
        self._place = place
        self._refused = refused
        self._left_out: set[str] = set()
        self._beside_views: dict[Name, str] = {}
        self.made: set[str] = set()
        self.wanted: list[ObjectChange] = []
        self.done = 0

    def choose(self, found: SqliteChanges, decisions: Decisions, kept: Collection[str], *, is_back: bool) -> None:
        """What the target is still to get. `is_back`: `found` takes a merge back."""
        ours = read_objects(self._connection, "main")
        staying = set(kept)
        if not is_back:
            self._find_renamed(found, ours, decisions)
            known = {(each.type, each.name) for each in found.objects if each.after is None}
            staying |= {each.name for each in found.objects if self._keeps(each, ours, found, known, decisions)}
        beside = {item for table in staying for item in self._beside(table)}
        for change in found.objects:
            stays = change.type in _HOLDERS and change.name in staying
            goes_along = change.after is None and (change.type, change.name) in beside
            if not stays and not goes_along and self._is_wanted(change, ours):
                self.wanted.append(change)

    def _find_renamed(self, found: SqliteChanges, ours: dict[Name, str], decisions: Decisions) -> None:
        """A table that the fork dropped, and the target has under another name: nothing would be dropped. It has the
        same rows and the same definition, in which SQLite changes only the name."""
        made = {each.name for each in found.objects if each.before is None}
        for change in found.objects:
            was, body = found.dropped.get(change.name, ""), (change.before or "").partition("(")[2]
            if change.type != "table" or change.after is not None or ("table", change.name) in ours:
                continue
            alike = (name for (kind, name), sql in ours.items() if kind == "table" and sql.partition("(")[2] == body)
            others = (name for name in sorted(alike) if name not in made and content(self._connection, name) == was)
            name = next(others, None) if was.partition(":")[0] not in ("", "0") else None
            if name is None:
                continue
            conflict = Conflict(
                kind="drop-vs-change", place=self._place, key=(change.name,), base=change.before,
                ours=ours["table", name], choices=STAYS,
                detail=f"the fork dropped the table, the target renamed it to {name}; ours keeps that: to have it"
                " dropped, drop it there",
            )  # fmt: skip
            decisions.of(conflict)

    def _is_wanted(self, change: ObjectChange, ours: dict[Name, str]) -> bool:
        """Whether the target is still to be changed so; a conflict if it has gone a way of its own."""
        current = ours.get((change.type, change.name))
        if current not in (change.before, change.after):
            detail = f"both sides changed this {change.type}"
            self._refuse(change.name, detail, change.before, current, change.after)
        return current == change.before

    def _keeps(
        self, change: ObjectChange, ours: dict[Name, str], found: SqliteChanges, known: set[Name], decisions: Decisions
    ) -> bool:
        """Whether what the fork dropped stays, decided or undecided: the target has changed what is in it, or made
        something for it. `known`: all that the fork dropped."""
        is_drop = change.type in _HOLDERS and (change.after is None or bool(change.lost_columns))
        if not is_drop or ours.get((change.type, change.name)) != change.before:
            return False
        was = found.dropped.get(change.name) if change.type == "table" else None
        made = [name for kind, name in self._beside(change.name) if (kind, name) not in known]
        if was is not None and content(self._connection, change.name, change.lost_columns) != was:
            done = "changed what is in it"
        elif change.after is None and made:
            done = f"made {', '.join(made)} for it"
        else:
            return False
        lost = f"column {', '.join(change.lost_columns)}" if change.lost_columns else f"the {change.type}"
        conflict = Conflict(
            kind="drop-vs-change",
            place=self._place,
            key=(change.name,),
            base=change.before,
            ours=change.before,
            theirs=change.after,
            choices=STAYS,
            detail=f"the fork dropped {lost}, the target {done}; ours keeps {lost} as the target has it; theirs would"
            " lose what the target did: undo or delete it there",
        )
        decisions.of(conflict)
        return True

    def _beside(self, holder: str) -> dict[Name, str]:
        """Indexes and triggers of a table or view, which go when it does, with their definitions."""
        rows = self._connection.execute(
            "SELECT type, name, sql FROM main.sqlite_schema"
            " WHERE type IN ('index', 'trigger') AND sql IS NOT NULL AND tbl_name = ? COLLATE NOCASE",
            (holder,),
        )
        return {(str(kind), str(name)): str(sql) for kind, name, sql in rows}

    def dropped(self) -> list[str]:
        """Tables that are to go, and no other takes their name."""
        made = {change.name.lower() for change in self.wanted if change.type == "table" and change.before is None}
        gone = [change.name for change in self.wanted if change.type == "table" and change.after is None]
        return [name for name in gone if name.lower() not in made]

    def carry_out(self, step: int) -> None:
        changed = {(change.type, change.name) for change in self.wanted}
        for change in self.wanted:
            if step == DROPS and change.type == "view" and change.after is not None:
                self._beside_views |= {
                    name: sql for name, sql in self._beside(change.name).items() if name not in changed
                }
            for statement in self._statements(change, step):
                if not self._run(statement, change.name, change.before, change.after):
                    break
                self.done += 1
        if step == REST:
            for (_, name), statement in self._beside_views.items():
                self._run(statement, name, statement, statement)

    def _run(self, statement: str, name: str, before: Json, after: Json) -> bool:
        """Whether the target takes it; if not, `name` is refused."""
        try:
            self._connection.execute(statement)
        except apsw.Error as error:
            self._refuse(name, f"{statement}: {error}", before, None, after)
            return False
        return True

    def _statements(self, change: ObjectChange, step: int) -> tuple[str, ...]:
        if step == REST and change.type == "index":
            if change.name in self._left_out:
                return () if change.before is None else (change.before,)
            if change.name in self.made:
                self.done += 1
                return ()
        return change.steps[step]

    def leave_out(self, index: str) -> None:
        """The target keeps what it has under this name."""
        self._left_out.add(index)

    def make_unique(self) -> Iterator[ObjectChange]:
        """Makes the unique indexes, to be undone with all else of an attempt; those that the rows do not allow."""
        for change in self.wanted:
            is_unique = change.type == "index" and change.after is not None and _UNIQUE.match(change.after)
            if not is_unique or change.name in self._left_out:
                continue
            try:
                self._connection.execute(change.after or "")
            except apsw.ConstraintError:
                yield change
            except apsw.Error:
                continue  # told when the others are made
            else:
                self.made.add(change.name)

    def verify(self) -> None:
        ours = read_objects(self._connection, "main")
        refused = {conflict.key[:1] for conflict in self._refused}
        for change in self.wanted:
            current = ours.get((change.type, change.name))
            is_left_out = change.type == "index" and change.name in self._left_out
            expected = change.before if is_left_out else change.after
            if current != expected and (change.name,) not in refused:
                detail = "repeating the change leads to another definition than the fork's"
                self._refuse(change.name, detail, change.before, current, change.after)

    def _refuse(self, name: str, detail: str, before: Json, current: Json, after: Json) -> None:
        self._refused.append(refusal(self._place, "schema", name, detail, before, current, after))
