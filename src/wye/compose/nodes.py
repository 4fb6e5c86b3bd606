"""A compose file as a tree of values that know where they stand.

Every node carries a `Mark` (file and line) and, through its `Origin`, the directory that its relative paths start
from and the variables that its file may use. So a path or an error is understood where it is read, however often
files were merged, extended or included before, and no pass has to rewrite paths.

Nodes are immutable and shared: an alias is the same node again. `size` counts a node with all that is below it as
if aliases were written out, and `height` its levels, so that an exponential document is refused without being expanded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from wye.errors import BadRequest


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A file that was read. `shown` names it in messages."""

    path: Path
    shown: str
    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of a file, counted from 1."""

    origin: Origin
    line: int

    def __str__(self) -> str:
        return f"{self.origin.shown}:{self.line}"


class ComposeError(BadRequest):
    """A compose file, or a file it names, that cannot be used: `key` (if there is one), `file` and `line` say where."""

    code = "bad_compose"

    def __init__(self, message: str, mark: Mark, *, key: str = "", hint: str | None = None) -> None:
        super().__init__(f"{key}: {message} ({mark})" if key else f"{message} ({mark})", hint=hint)
        self.key = key
        self.file = mark.origin.shown
        self.line = mark.line


class Kind(StrEnum):
    """What a plain scalar is, as YAML's core schema has it, before variables are put in."""

    NULL = "null"
    BOOLEAN = "a boolean"
    INTEGER = "an integer"
    FLOAT = "a number"
    STRING = "a string"


class Directive(StrEnum):
    """Compose's tags for merging: what an override does to the value it meets."""

    NONE = ""
    RESET = "!reset"
    OVERRIDE = "!override"


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    text: str
    kind: Kind
    mark: Mark
    directive: Directive = Directive.NONE
    size: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    values: tuple[Node, ...]
    mark: Mark
    directive: Directive = Directive.NONE
    size: int = 1
    height: int = 1


class Entry(NamedTuple):
    """A value in a table; `mark` is where its key stands."""

    mark: Mark
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    entries: dict[str, Entry]
    mark: Mark
    directive: Directive = Directive.NONE
    size: int = 1
    height: int = 1


Node = Scalar | Items | Table


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is Kind.NULL


def describe(node: Node) -> str:
    """What a node is, for messages."""
    if isinstance(node, Table):
        return "a mapping"
    return "a list" if isinstance(node, Items) else str(node.kind)
