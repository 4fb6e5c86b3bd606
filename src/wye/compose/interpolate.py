"""Variables in text: `$V`, `${V}`, the six operators `:-` `-` `:?` `?` `:+` `+`, nested, and `$$`.

Only the branch that is used is expanded, so `${A:-${B:?say B}}` asks for B only without A. What comes out is
bounded, because variables that name variables can grow exponentially. Expansion happens on scalars, after YAML is
parsed and before values are typed, so a variable can never change a document's structure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wye.compose.at import At
from wye.compose.nodes import ComposeError, Entry, Items, Kind, Node, Scalar, Table

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":-|-|:\?|\?|:\+|\+")
_DEPTH = 20
_BUDGET = 16 << 20


class TemplateError(Exception):
    """Text that cannot be expanded, in a sentence; caught where the key and the line are known."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(slots=True)
class Expander:
    """Puts `variables` into templates. `missing` hears of each one that is not set and has no default.

    `budget` is how many characters may yet come out of it."""

    variables: Mapping[str, str]
    missing: Callable[[str], None]
    budget: int = _BUDGET

    def expand(self, template: str) -> str:
        """Raises TemplateError."""
        return self._expand(template, 0) if "$" in template else template

    def _expand(self, template: str, depth: int) -> str:
        if depth > _DEPTH:
            raise TemplateError(f"variables nested more than {_DEPTH} deep")
        pieces: list[str] = []
        position = 0
        while (dollar := template.find("$", position)) >= 0:
            pieces.append(template[position:dollar])
            after = template[dollar + 1 : dollar + 2]
            if after == "$":
                pieces.append("$")
                position = dollar + 2
            elif after == "{":
                end = _closing_brace(template, dollar)
                pieces.append(self._braced(template[dollar + 2 : end], depth))
                position = end + 1
            elif (name := _NAME.match(template, dollar + 1)) is not None:
                pieces.append(self._plain(name[0]))
                position = name.end()
            else:
                raise TemplateError(f'"{_excerpt(template, dollar)}" is not a variable', "write $$ for a dollar sign")
            self._spend(len(pieces[-1]))
        pieces.append(template[position:])
        return "".join(pieces)

    def _spend(self, characters: int) -> None:
        self.budget -= characters
        if self.budget < 0:
            raise TemplateError(f"the variables come to more than {_BUDGET >> 20} MiB of text")

    def _plain(self, name: str) -> str:
        if name in self.variables:
            return self.variables[name]
        self.missing(name)
        return ""

    def _braced(self, body: str, depth: int) -> str:
        name = _NAME.match(body)
        if name is None:
            raise TemplateError(f'"${{{body[:40]}}}" names no variable', "write $$ for a dollar sign")
        if name.end() == len(body):
            return self._plain(name[0])
        operator = _OPERATOR.match(body, name.end())
        if operator is None:
            message = f'"${{{body[:40]}}}" has no operator after {name[0]}'
            raise TemplateError(message, "the operators are :- - :? ? :+ +")
        return self._operate(name[0], operator[0], body[operator.end() :], depth)

    def _operate(self, name: str, operator: str, operand: str, depth: int) -> str:
        value = self.variables.get(name)
        is_there = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("+"):
            return self._expand(operand, depth + 1) if is_there else ""
        if value is not None and is_there:
            return value
        if operator.endswith("-"):
            return self._expand(operand, depth + 1)
        said = self._expand(operand, depth + 1)
        state = "is empty" if value is not None else "is not set"
        raise TemplateError(
            f"the variable {name} {state}" + (f": {said}" if said else ""),
            f"set it in the shell or in .env: {name}=...",
        )


def _closing_brace(template: str, dollar: int) -> int:
    """Where the brace opened after `dollar` is closed; only `${` opens further ones."""
    depth, position = 0, dollar
    while position < len(template):
        if template.startswith("${", position):
            depth += 1
            position += 2
            continue
        if template[position] == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise TemplateError(
        f'"{_excerpt(template, dollar)}" is not closed', "a } is missing, or write $$ for a dollar sign"
    )


def _excerpt(template: str, start: int) -> str:
    return template[start : start + 20].split("\n", maxsplit=1)[0]


def interpolate(node: Node, variables: Mapping[str, str], missing: Callable[[At, str], None]) -> Node:
    """`node` with every string in it expanded; keys stay as they are. `missing` is told where each unset one stands.

    Raises ComposeError."""
    return _Walk(variables, missing).visit(node, "")


class _Walk:
    def __init__(self, variables: Mapping[str, str], missing: Callable[[At, str], None]) -> None:
        self._unset: list[str] = []
        self._expander = Expander(variables, self._unset.append)
        self._missing = missing

    def visit(self, node: Node, key: str) -> Node:
        if isinstance(node, Scalar):
            return self._scalar(node, key) if node.kind is Kind.STRING and "$" in node.text else node
        if isinstance(node, Items):
            values = tuple(self.visit(value, f"{key}[{n}]") for n, value in enumerate(node.values))
            return Items(values, node.mark, node.directive, node.size)
        entries = {
            name: Entry(mark, self.visit(value, f"{key}.{name}" if key else name))
            for name, (mark, value) in node.entries.items()
        }
        return Table(entries, node.mark, node.directive, node.size)

    def _scalar(self, node: Scalar, key: str) -> Scalar:
        try:
            text = self._expander.expand(node.text)
        except TemplateError as error:
            raise ComposeError(error.message, node.mark, key=key, hint=error.hint) from None
        for name in self._unset:
            self._missing(At(key, node, node.mark), name)
        self._unset.clear()
        return Scalar(text, node.kind, node.mark, node.directive)
