"""One walk along the DDL that a merge ran: what there is at each moment, and the inverses found so far. Pure.

A drop or a rename uses the names of its moment, and runs before the rows are written back; a definition from the schema
before the merge uses the names that counted there, and runs last, when they count again. What was made and dropped
again within the merge needs no inverse at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wye.kinds.postgres.catalog import Schema
from wye.kinds.postgres.ddl import AFTER, BEFORE, Statement
from wye.kinds.postgres.dialect import Dialect
from wye.kinds.postgres.objects import Name, Objects, Thing, name_of, path_of, qualified
from wye.kinds.postgres.parsing import parse

_DEFINED = frozenset({
    "schema", "type", "relation", "column", "constraint", "function", "statistics", "trigger", "policy", "rule",
})  # fmt: skip
"""Kinds that can be defined again."""


class NoInverse(Exception):
    """This statement cannot be turned round in place."""


@dataclass(frozen=True, slots=True)
class _Inverse:
    """`about`: what it speaks of; not needed if that is gone."""

    statement: Statement
    about: tuple[Thing, ...]


@dataclass(slots=True)
class Walk:
    """`before` and `after`: the schema that the statements ran on, and what came of it."""

    before: Schema
    after: Schema
    objects: Objects = field(init=False)
    retyped: list[Thing] = field(default_factory=list)
    """Columns that were there before."""
    dialect: Dialect | None = None
    """The settings under which these were given another type."""
    path: list[str] = field(default_factory=list)
    _now: Statement = field(init=False)
    _found: list[list[_Inverse]] = field(default_factory=list)
    _were: list[Thing] = field(init=False)

    def __post_init__(self) -> None:
        self.objects = Objects.of(self.before)
        self._were = list(self.objects.things.values())

    def follow(self, statement: Statement) -> Iterator[tuple[str, Any]]:
        """What is in the statement: kind and parse tree of each. Inverses that are added next are of this one."""
        self._now = statement
        self.path = path_of(statement.path, statement.role)
        self._found.append([])
        for raw in parse(statement.sql).stmts:
            kind = raw.stmt.WhichOneof("node")
            yield kind, getattr(raw.stmt, kind)

    def inverse(self) -> list[Statement]:
        """In the order in which they have to run."""
        ordered = [each for inverses in reversed(self._found) for each in inverses]
        kept = [each.statement for each in ordered if not any(thing.gone for thing in each.about)]
        return [s for s in kept if s.stage == BEFORE] + [s for s in kept if s.stage == AFTER]

    def lost(self) -> list[str]:
        """Keys of what was there before and was dropped, by a statement or because it hung on what one dropped."""
        now = {id(thing): name for name, thing in self.objects.things.items()}
        left = {name_of(key) for key in self.after}
        found = [thing.key or "" for thing in self._were if now.get(id(thing)) not in left]
        return [key for key in found if name_of(key)[0] in _DEFINED]

    def retype(self, column: Thing) -> None:
        """A value comes back by a cast under the settings of the one that it went by. Raises NoInverse for a second
        change, and for others' settings."""
        if column in self.retyped or self.dialect not in (None, self._now.dialect):
            raise NoInverse
        self.dialect = self._now.dialect
        self.retyped.append(column)

    def types_since(self) -> list[tuple[str, Name]]:
        """Columns of another type than before: their keys, and their names now."""
        names = {id(thing): name for name, thing in self.objects.things.items()}
        return [(each.key or "", names[id(each)]) for each in self.retyped if id(each) in names]

    def add(self, sql: str, *about: Thing | None, late: bool = False) -> None:
        """`late`: it is a definition from the schema before."""
        statement = Statement(sql=sql, stage=AFTER if late else BEFORE, role=self._now.role, path=self._now.path)
        self._found[-1].append(_Inverse(statement, tuple(thing for thing in about if thing is not None)))

    def make(self, kind: str, word: str, schema: str, name: str) -> None:
        """Something new, to be dropped as a `word`. If it was there already nothing has happened."""
        place = schema or self.objects.new_schema(self.path)
        if self.objects.find(kind, place, name) is None:
            self.add(f"drop {word} {qualified(place, name)}", self.objects.make(kind, place, name))

    def table(self, relation: Any) -> tuple[Name, Thing]:
        """The relation that a statement is about."""
        name = self.objects.relation(self.path, relation.schemaname, relation.relname)
        if name is None:
            raise NoInverse
        return name, self.objects.things[name]

    def definition(self, thing: Thing) -> str:
        """In the schema before."""
        return self.defined(thing.key or "")

    def defined(self, key: str) -> str:
        try:
            return self.before[key]
        except KeyError:
            raise NoInverse from None


def two(parts: Iterable[Any]) -> tuple[str, str]:
    """Schema ("" if there is none) and name, from the parts of a name in a parse tree."""
    *schema, name = [part.string.sval for part in parts]
    return (schema[-1] if schema else ""), name
