"""The files of a project → one tree.

For each file, as compose does it: variables are put in, included projects are loaded, `extends` is followed, and the
result is laid over the files before it. Each included project and each extended file keeps its own directory for
relative paths, and an included one its own variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from wye.compose import dotenv
from wye.compose.at import At
from wye.compose.document import parse
from wye.compose.extend import Extender
from wye.compose.files import exists, read_text, shown, top
from wye.compose.findings import Findings
from wye.compose.interpolate import interpolate
from wye.compose.keys import TOP, fields
from wye.compose.merge_files import fingerprint, merge, settle
from wye.compose.nodes import ComposeError, Entry, Mark, Node, Origin, Table

_INCLUDES = 8
_FILES = 100
_SHARED = ("services", "networks", "volumes", "secrets", "configs", "models")
_START = "it starts with services:"


class Gatherer:
    """Reads the files of one load. `project_directory` is what messages name files by."""

    def __init__(self, project_directory: Path, findings: Findings) -> None:
        self._project_directory = project_directory
        self._findings = findings
        self._files = 0
        self._unset: set[str] = set()

    def documents(self, path: Path, directory: Path, variables: Mapping[str, str], asked: At | None) -> list[Table]:
        """The documents of a file, each a mapping. Raises ComposeError."""
        self._files += 1
        mark = top(path, self._project_directory)
        if self._files > _FILES:
            key = asked.key if asked is not None else ""
            raise ComposeError(f"more than {_FILES} files", asked.mark if asked is not None else mark, key=key)
        text = read_text(path, asked or mark, what="the compose file")
        origin = Origin(path, shown(path, self._project_directory), directory, variables)
        documents: list[Table] = []
        for node in parse(text, origin):
            if not isinstance(node, Table):
                raise ComposeError("a compose file must be a mapping", node.mark, hint=_START)
            documents.append(node)
        if not documents:
            raise ComposeError("the compose file is empty", Mark(origin, 1), hint=_START)
        return documents

    def project(
        self,
        files: tuple[Path, ...],
        directory: Path,
        variables: Mapping[str, str],
        asked: At | None = None,
        depth: int = 0,
    ) -> Table:
        """The merged tree of `files`, the last the strongest. Raises ComposeError."""
        if depth > _INCLUDES and asked is not None:
            raise asked.error(f"includes more than {_INCLUDES} levels deep", hint="does a file include itself?")
        whole: Node | None = None
        for path in files:
            for document in self.documents(path, directory, variables, asked):
                tree = self._complete(document, directory, variables, depth)
                whole = merge(whole, tree) if whole is not None else settle(tree)
        assert isinstance(whole, Table), "documents() gives at least one table"
        return whole

    def _complete(self, document: Table, directory: Path, variables: Mapping[str, str], depth: int) -> Node:
        tree = self._expanded(document, variables)
        included = self._includes(tree, directory, variables, depth)
        tree = Extender(partial(self._base, variables)).extend(tree)
        entries = {name: entry for name, entry in tree.entries.items() if name != "include"}
        own = Table(entries, tree.mark, tree.directive, tree.size)
        for other in included:
            own = _united(own, other)
        return own

    def _expanded(self, document: Table, variables: Mapping[str, str]) -> Table:
        tree = interpolate(document, variables, self._missing)
        assert isinstance(tree, Table)
        return tree

    def _missing(self, at: At, name: str) -> None:
        if name not in self._unset:
            self._unset.add(name)
            self._findings.warn(at, f"the variable {name} is not set; it is empty")

    def _base(self, variables: Mapping[str, str], path: Path, asked: At) -> Table:
        """A file that a service extends: its relative paths start from where it is."""
        whole: Node | None = None
        for document in self.documents(path, path.parent, variables, asked):
            tree = self._expanded(document, variables)
            whole = merge(whole, tree) if whole is not None else tree
        assert isinstance(whole, Table)
        return whole

    def _includes(self, tree: Table, directory: Path, variables: Mapping[str, str], depth: int) -> list[Table]:
        if "include" not in tree.entries:
            return []
        return [
            self._include(item, directory, variables, depth)
            for item in At("", tree, tree.mark).child("include").items()
        ]

    def _include(self, item: At, directory: Path, variables: Mapping[str, str], depth: int) -> Table:
        paths: tuple[At, ...] = (item,)
        env_files: tuple[At, ...] = ()
        base: Path | None = None
        if not item.is_text:
            known = item.entries()
            for name, at in known.items():
                if name not in ("path", "project_directory", "env_file") and not name.startswith("x-"):
                    self._findings.refuse(at, "unknown key", hint="include takes path, project_directory and env_file")
            if "path" not in known:
                raise item.error('"path" is missing')
            paths = known["path"].one_or_more()
            env_files = known["env_file"].one_or_more() if "env_file" in known else ()
            base = directory / known["project_directory"].filled() if "project_directory" in known else None
        files = tuple(directory / path.filled() for path in paths)
        if not files:
            raise item.error("names no file")
        base = base or files[0].parent
        own = self._include_variables(env_files, directory, base, variables)
        tree = self.project(files, base, own, item, depth + 1)
        fields(At("", tree, tree.mark), (*TOP, *_SHARED), self._findings)
        return tree

    def _include_variables(
        self, env_files: tuple[At, ...], directory: Path, base: Path, variables: Mapping[str, str]
    ) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for at in env_files:
            path = directory / at.filled()
            text = read_text(path, at, what="the env file")
            found |= dotenv.parse(
                text, Origin(path, shown(path, self._project_directory), base, {**found, **variables})
            )
        default = base / ".env"
        if not env_files and base != directory and exists(default):
            mark = top(default, self._project_directory)
            origin = Origin(default, shown(default, self._project_directory), base, variables)
            found = dotenv.parse(read_text(default, mark, what="the env file"), origin)
        return {**found, **variables}


def _united(own: Table, other: Table) -> Table:
    """`own` with what it includes; the same name with another meaning is a conflict."""
    entries = dict(own.entries)
    for section in _SHARED:
        included = other.entries.get(section)
        if included is None or not isinstance(included.node, Table):
            continue
        mine = entries[section].node if section in entries else None
        if mine is not None and isinstance(mine, Table):
            for name in mine.entries.keys() & included.node.entries.keys():
                there = included.node.entries[name]
                here = mine.entries[name]
                if fingerprint(there.node) != fingerprint(here.node):
                    raise ComposeError(
                        f"is also defined by an included file, in {there.mark}",
                        here.mark,
                        key=f"{section}.{name}",
                        hint="rename one of them, or change the included one in an override file",
                    )
            union = {**included.node.entries, **mine.entries}
            entries[section] = Entry(entries[section].mark, Table(union, mine.mark, mine.directive))
        else:
            entries[section] = included
    return Table(entries, own.mark, own.directive, own.size)
