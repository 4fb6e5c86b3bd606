"""Which objects there are while DDL statements go by: by name at that moment, made by these statements or not, and
what they were called before the first of them. Pure.

It starts from a schema's dictionary (`catalog`) and follows what statements create, rename and drop. Names are found
as the server finds them, along the search path that a statement ran under.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from wye.kinds.postgres.catalog import Schema
from wye.kinds.postgres.session import quote

Name = tuple[str, ...]
"""Kind, then the parts of the name: ("relation", "public", "orders"), ("column", "public", "orders", "note")."""

_RELATIONS = frozenset({"table", "index"})
"""Kinds in the dictionary that share one set of names; views and sequences are among the tables."""
_PART = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


@dataclass(slots=True, eq=False)
class Thing:
    """`key`: its key in the dictionary before; None: made by the statements. `gone`: dropped by them."""

    key: str | None = None
    gone: bool = False

    @property
    def is_made(self) -> bool:
        return self.key is None


@dataclass(slots=True)
class Objects:
    """What is there at one moment, by name."""

    things: dict[Name, Thing] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Schema) -> Objects:
        return cls({name_of(key): Thing(key) for key in schema})

    def find(self, *name: str) -> Thing | None:
        return self.things.get(name)

    def make(self, *name: str) -> Thing:
        return self.things.setdefault(name, Thing())

    def drop(self, *name: str) -> Thing | None:
        """It, and what belongs to it, is no longer there."""
        found = self.things.pop(name, None)
        if found is not None:
            found.gone = True
        for owned in self._owned(name):
            self.drop(*owned)
        return found

    def rename(self, old: Name, new: Name) -> Thing | None:
        """Moves it with all that belongs to it."""
        moved = [old, *self._owned(old)]
        depth = len(old)
        for name in moved:
            if name in self.things:
                self.things[(name[0], *new[1:], *name[depth:])] = self.things.pop(name)
        return self.find(*new)

    def _owned(self, name: Name) -> list[Name]:
        if name[0] not in ("relation", "schema"):
            return []
        depth = len(name)
        return [other for other in self.things if len(other) > depth and other[1:depth] == name[1:]]

    def relation(self, path: Sequence[str], schema: str, relation: str) -> Name | None:
        """The relation that a statement means; None if there is none."""
        return self._along(path, "relation", schema, relation)

    def type(self, path: Sequence[str], schema: str, name: str) -> Name | None:
        return self._along(path, "type", schema, name)

    def new_schema(self, path: Sequence[str]) -> str:
        """Where something is created that names no schema."""
        return next((schema for schema in path if self.find("schema", schema)), "public")

    def _along(self, path: Sequence[str], kind: str, schema: str, last: str) -> Name | None:
        names = [(kind, each, last) for each in ([schema] if schema else path)]
        return next((name for name in names if name in self.things), None)


def name_of(key: str) -> Name:
    """Of a key of the dictionary. A function's last part is its name with the arguments."""
    kind, _, text = key.partition(" ")
    if kind in ("schema", "extension"):
        return (kind, text)
    head, bracket, arguments = text.partition("(") if kind == "function" else (text, "", "")
    parts = tuple(parts_of(head))
    return ("relation" if kind in _RELATIONS else kind, *parts[:-1], parts[-1] + bracket + arguments)


def parts_of(text: str) -> Iterator[str]:
    """The parts of a dotted name, without their quotes."""
    for quoted, plain in _PART.findall(text):
        yield quoted.replace('""', '"') if quoted else plain


def path_of(setting: str, role: str) -> list[str]:
    """Schemas in the order in which names are looked up."""
    found = ["".join(parts_of(part.strip())) for part in setting.split(",") if part.strip()]
    return [role if part == "$user" else part for part in found]


def qualified(*parts: str) -> str:
    return ".".join(map(quote, parts))
