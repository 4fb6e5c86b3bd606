"""YAML text → nodes with marks.

The tree is built from the parser's events, without recursion, so that a hostile document meets our limits (depth,
nodes after alias expansion) before it meets the stack or the memory. Scalars are typed by YAML 1.2's core schema: `no`,
`on` and `22:22` are strings, as compose files expect. Refused: duplicate keys, keys that are no scalars, unknown tags,
characters that can be in no path or message (NUL, lone surrogates).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from wye.compose.nodes import ComposeError, Directive, Entry, Items, Kind, Mark, Node, Origin, Scalar, Table

DEPTH = 64
NODES = 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_KINDS_BY_TAG = {
    f"{_CORE}str": Kind.STRING,
    f"{_CORE}int": Kind.INTEGER,
    f"{_CORE}float": Kind.FLOAT,
    f"{_CORE}bool": Kind.BOOLEAN,
    f"{_CORE}null": Kind.NULL,
}
_COLLECTION_TAGS = (None, "!", f"{_CORE}map", f"{_CORE}seq")
_DIRECTIVES = {"!reset": Directive.RESET, "!override": Directive.OVERRIDE}
_PATTERNS = (
    (Kind.NULL, re.compile(r"~|null|Null|NULL|")),
    (Kind.BOOLEAN, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (Kind.INTEGER, re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    (Kind.FLOAT, re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")),
)
_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")
_MERGE = "<<"


def is_text(text: str) -> bool:
    """Whether `text` can be stored, hashed and used as a path: no NUL, no lone surrogate."""
    return _FORBIDDEN.search(text) is None


def kind_of(text: str) -> Kind:
    """What an untagged plain scalar is."""
    return next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(text)), Kind.STRING)


def parse(text: str, origin: Origin) -> tuple[Node, ...]:
    """The documents of a file, without the empty ones. Raises ComposeError."""
    return tuple(_documents(text, origin))


def _documents(text: str, origin: Origin) -> Iterator[Node]:
    builder = _Builder(origin)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            done = builder.take(event)
            if done is not None and not (isinstance(done, Scalar) and done.kind is Kind.NULL):
                yield done
    except yaml.YAMLError as error:
        raise _syntax_error(error, origin, text) from error


def _syntax_error(error: yaml.YAMLError, origin: Origin, text: str) -> ComposeError:
    line = 1
    problem = str(error).splitlines()[0] if str(error) else "not YAML"
    if isinstance(error, yaml.MarkedYAMLError):
        problem = error.problem or problem
        if error.problem_mark is not None:
            line = error.problem_mark.line + 1
    elif isinstance(error, yaml.reader.ReaderError):
        problem = f"a character that YAML does not allow ({error.reason})"
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 1
    is_tab = "tab" in problem or "cannot start any token" in problem
    hint = "YAML is indented with spaces, not tabs" if is_tab else "look at that line and the one before it"
    return ComposeError(f"not valid YAML: {problem}", Mark(origin, line), hint=hint)


class _Frame:
    """A list or mapping that is still open. A mapping's `children` alternate keys and values."""

    def __init__(self, *, is_table: bool, mark: Mark, directive: Directive, anchor: str | None) -> None:
        self.is_table = is_table
        self.mark = mark
        self.directive = directive
        self.anchor = anchor
        self.children: list[Node] = []
        self.keys: list[bool] = []
        """For each key, whether it is a plain scalar: only such a `<<` merges."""


class _Builder:
    """Turns events into nodes; `take` returns a document's root when it is complete."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None

    def take(self, event: Any) -> Node | None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchors, self._root = {}, None
        elif isinstance(event, yaml.ScalarEvent):
            self._add(self._scalar(event), event.anchor, plain=not event.style)
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._alias(event), None, plain=False)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            frame = self._stack.pop()
            node: Node = self._table(frame) if frame.is_table else self._items(frame)
            self._add(node, frame.anchor, plain=False)
        elif isinstance(event, yaml.DocumentEndEvent):
            return self._root
        return None

    def _mark(self, event: Any) -> Mark:
        return Mark(self._origin, event.start_mark.line + 1)

    def _path(self, *further: str) -> str:
        """The key path of what is being read."""
        path = ""
        for frame in self._stack:
            if not frame.is_table:
                path += f"[{len(frame.children)}]"
            elif len(frame.children) % 2:
                path += f".{_text(frame.children[-1])}"
        return ".".join((path, *further)).lstrip(".")

    def _open(self, event: Any) -> None:
        mark = self._mark(event)
        if len(self._stack) >= DEPTH:
            raise ComposeError(f"nested more than {DEPTH} levels deep", mark, key=self._path())
        if event.tag not in _COLLECTION_TAGS and event.tag not in _DIRECTIVES:
            raise self._unknown_tag(event, mark)
        self._stack.append(
            _Frame(
                is_table=isinstance(event, yaml.MappingStartEvent),
                mark=mark,
                directive=_DIRECTIVES.get(event.tag, Directive.NONE),
                anchor=event.anchor,
            )
        )

    def _scalar(self, event: Any) -> Scalar:
        mark = self._mark(event)
        text: str = event.value
        if not is_text(text):
            raise ComposeError("a NUL or surrogate character in a value", mark, key=self._path())
        kind = kind_of(text) if not event.style else Kind.STRING
        directive = _DIRECTIVES.get(event.tag, Directive.NONE)
        if event.tag in _KINDS_BY_TAG:
            kind = _KINDS_BY_TAG[event.tag]
        elif event.tag == "!":
            kind = Kind.STRING
        elif event.tag is not None and directive is Directive.NONE:
            raise self._unknown_tag(event, mark)
        return Scalar(text, kind, mark, directive)

    def _unknown_tag(self, event: Any, mark: Mark) -> ComposeError:
        hint = "compose knows !reset and !override"
        return ComposeError(f"unknown tag {event.tag}", mark, key=self._path(), hint=hint)

    def _alias(self, event: Any) -> Node:
        try:
            return self._anchors[event.anchor]
        except KeyError:
            message, hint = f"*{event.anchor} refers to no anchor above it", f"define it with &{event.anchor}"
            raise ComposeError(message, self._mark(event), key=self._path(), hint=hint) from None

    def _add(self, node: Node, anchor: str | None, *, plain: bool) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        if frame.is_table and len(frame.children) % 2 == 0:
            if not isinstance(node, Scalar):
                raise ComposeError("a key that is a list or a mapping", node.mark, key=self._path())
            frame.keys.append(plain)
        frame.children.append(node)

    def _measured(self, frame: _Frame) -> tuple[int, int]:
        """Size and height with aliases written out. Raises ComposeError beyond the limits."""
        children, mark = frame.children, frame.mark
        size = 1 + sum(child.size for child in children)
        height = 1 + max((child.height for child in children), default=0)
        if height > DEPTH:
            raise ComposeError(f"nested more than {DEPTH} levels deep", mark, key=self._path())
        if size > NODES:
            message = f"more than {NODES} values once its aliases are written out"
            raise ComposeError(message, mark, key=self._path())
        return size, height

    def _items(self, frame: _Frame) -> Items:
        size, height = self._measured(frame)
        return Items(tuple(frame.children), frame.mark, frame.directive, size, height)

    def _table(self, frame: _Frame) -> Table:
        size, height = self._measured(frame)
        entries: dict[str, Entry] = {}
        merged: list[Table] = []
        seen: dict[str, Mark] = {}
        for key, value, plain in zip(frame.children[::2], frame.children[1::2], frame.keys, strict=True):
            assert isinstance(key, Scalar)
            if key.text in seen:
                hint = "write one key with a list: <<: [*a, *b]" if key.text == _MERGE else None
                message = f"the key is there twice, first in line {seen[key.text].line}"
                raise ComposeError(message, key.mark, key=self._path(key.text), hint=hint)
            seen[key.text] = key.mark
            if key.text == _MERGE and plain:
                merged += _merge_sources(value, self._path(_MERGE))
            else:
                entries[key.text] = Entry(key.mark, value)
        for source in merged:
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)
        return Table(entries, frame.mark, frame.directive, size, height)


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _merge_sources(value: Node, path: str) -> list[Table]:
    """What `<<` names, the strongest first."""
    sources = list(value.values) if isinstance(value, Items) else [value]
    tables = [source for source in sources if isinstance(source, Table)]
    if len(tables) != len(sources):
        raise ComposeError("takes a mapping or a list of mappings", value.mark, key=path, hint="<<: *anchor")
    return tables
