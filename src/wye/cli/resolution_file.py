"""Resolution files: what a person decided about conflicts, as YAML or JSON.

    3f9c0a1b2c3d: theirs
    8a7b6c5d4e3f: {value: "42"}
    default: ours                 # all that are not named

A file is read strictly, so that no decision is lost by a slip: errors name the line, and a key that is named twice is
one. A number is taken as it is written ("1.10" stays 1.10), because a cell is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wye.cli import words
from wye.errors import BadRequest

DEFAULT = "default"

_ID = re.compile(r"[0-9a-f]{4,64}")
_INT = re.compile(r"-?(0|[1-9][0-9]{0,999})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_SIDES = ("ours", "theirs")
_HINT = "for example: 3f9c0a1b2c3d: theirs; 'wye conflicts FORK --template FILE' writes one to fill in"


@dataclass(frozen=True, slots=True)
class Choice:
    """`answer` as the wire has it; `line` of the file, from 1."""

    answer: Any
    line: int


def read(path: Path | None) -> dict[str, Choice]:
    """Nothing if there is no path. Raises BadRequest."""
    if path is None:
        return {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        return parse(text)
    except BadRequest as error:
        raise BadRequest(f"{path}, {error.message}", hint=error.hint) from error


def parse(text: str) -> dict[str, Choice]:
    """By id or the beginning of one, and "default". Raises BadRequest with the line."""
    found: dict[str, Choice] = {}
    for key, data, line in _pairs(text):
        if key in found:
            raise _wrong(line, f"{key!r} is named twice, first in line {found[key].line}")
        if key == DEFAULT:
            if data not in _SIDES:
                raise _wrong(line, "the default is ours or theirs")
        elif not _ID.fullmatch(key):
            raise _wrong(line, f"{words.cut(key, 80)!r} is not the id of a conflict")
        elif data not in _SIDES and not (isinstance(data, dict) and set(data) == {"value"}):
            raise _wrong(line, f"say for {key}: ours, theirs or {{value: ...}}")
        found[key] = Choice(data, line)
    return found


# ---------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """Composes nodes, which know their lines. Aliases are refused: they make loops and explosions."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: yaml.AliasEvent = self.peek_event()  # type: ignore[no-untyped-call]
            raise _wrong(_line(event.start_mark), "aliases are not taken here")
        return super().compose_node(parent, index)


def _pairs(text: str) -> Iterator[tuple[str, Any, int]]:
    if text.lstrip()[:1] == "{":
        try:
            yield from _json_pairs(text)
        except ValueError:
            pass  # YAML looks alike
        else:
            return
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _wrong(_line(mark), error.problem or "not YAML") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _wrong(1, "this is neither YAML nor JSON") from error
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(_line(node.start_mark), "a resolution file says for each conflict what to take")
    for key, value in node.value:
        line = _line(key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(line, "an id must be text")
        yield _joined(key.value), _data(value), line


def _json_pairs(text: str) -> list[tuple[str, Any, int]]:
    """Raises ValueError for what is no JSON object, or for what YAML can tell the line of."""
    objects: list[list[tuple[str, Any]]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        objects.append(pairs)
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=keep, parse_float=_float, parse_int=_int, parse_constant=_no_constant)
    except RecursionError as error:
        raise _wrong(1, "this is nested too deeply") from error
    if any(len(dict(pairs)) < len(pairs) for pairs in objects[:-1]):
        raise ValueError("a name comes twice")
    found, at = [], 0
    for key, value in objects[-1]:
        at = max(text.find(json.dumps(key), at), at)
        found.append((key, value, text.count("\n", 0, at) + 1))
        at += 1
    return found


def _data(node: yaml.Node) -> Any:
    """What JSON can say: no dates, no tags, no numbers in other bases."""
    line = _line(node.start_mark)
    if node.tag not in _TAGS:
        raise _wrong(line, f"{node.tag} is not taken here")
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key, value in node.value:
            name = _joined(key.value) if isinstance(key, yaml.ScalarNode) else None
            if name is None or name in made:
                raise _wrong(_line(key.start_mark), "a name must be text" if name is None else f"{name!r} comes twice")
            made[name] = _data(value)
        return made
    if isinstance(node, yaml.SequenceNode):
        return [_data(item) for item in node.value]
    text: str = node.value
    if isinstance(node, yaml.ScalarNode) and node.style is not None:
        return _joined(text)
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _int(text)
    return _float(text) if _FLOAT.fullmatch(text) else _joined(text)


_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
}


def _int(text: str) -> int | str:
    return int(text) if len(text) < 1000 and text != "-0" else text


def _float(text: str) -> float | str:
    """The number if it can be written back as it was, else its text."""
    number = float(text)
    return number if json.dumps(number) == text else text


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _joined(text: str) -> str:
    """JSON writes a character beyond 16 bits as two surrogates."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 1


def _wrong(line: int, what: str) -> BadRequest:
    return BadRequest(f"line {line}: {what}", hint=_HINT)
