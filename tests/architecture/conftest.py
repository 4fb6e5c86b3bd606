"""wye's source as the rules see it: read and parsed once for all of them, for parsing is what takes them long.

A rule is one test over all modules and lists every place that breaks it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "wye"


@dataclass(frozen=True)
class Module:
    """A file of the source. `name` is its path below src/wye."""

    path: Path
    name: str

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def functions(self) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
        return tuple(node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    @cached_property
    def imports(self) -> tuple[tuple[str, ast.stmt], ...]:
        """Names of modules that are imported, and where: for `from a import b` both a and a.b."""
        found: list[tuple[str, ast.stmt]] = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(alias.name, node) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found.append((node.module or "", node))
                found += [(f"{node.module}.{alias.name}", node) for alias in node.names]
        return tuple(found)

    def attributes(self, names: set[str]) -> list[str]:
        """Those of `names` ("os.environ") that are asked for somewhere."""
        last = {name.rpartition(".")[2] for name in names}
        asked = [node for node in self.nodes if isinstance(node, ast.Attribute) and node.attr in last]
        return [name for node in asked if (name := ast.unparse(node)) in names]


MODULES = tuple(Module(path, str(path.relative_to(SOURCE))) for path in sorted(SOURCE.rglob("*.py")))
