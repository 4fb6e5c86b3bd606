"""`extends`: a service that starts from another one, of the same file or a different one.

The base is completed first (it may extend in its turn), then the service is laid over it. A service that extends
itself, through however many files, is refused with the whole way round.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wye.compose.at import At
from wye.compose.document import NODES
from wye.compose.merge_files import merge, settle
from wye.compose.nodes import ComposeError, Entry, Table, is_null

_LONGEST_CHAIN = 32

Read = Callable[[Path, At], Table]
"""Reads a file that `At` names."""


class Extender:
    """Completes the services of one file, and of the files that they extend."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._trees: dict[Path, Table] = {}
        self._done: dict[tuple[Path, str], Table] = {}
        self._doing: list[tuple[Path, str]] = []

    def extend(self, tree: Table) -> Table:
        """`tree` with every `extends` followed. Raises ComposeError."""
        services = _services(tree)
        if services is None:
            return tree
        path = tree.mark.origin.path
        self._trees[path] = tree
        entries, size = {}, 0
        for name, entry in services.entries.items():
            if isinstance(entry.node, Table) and "extends" in entry.node.entries:
                entries[name] = Entry(
                    entry.mark, self._complete(path, name, At(f"services.{name}", entry.node, entry.mark))
                )
            else:
                entries[name] = entry
            size += entries[name].node.size
            if size > NODES:
                raise ComposeError(f"more than {NODES} values with all that is extended", entry.mark, key="services")
        whole = Table(entries, services.mark, services.directive, size)
        return Table(
            {**tree.entries, "services": Entry(tree.entries["services"].mark, whole)}, tree.mark, tree.directive
        )

    def _complete(self, path: Path, name: str, at: At) -> Table:
        node = at.node
        if not isinstance(node, Table):
            raise at.wrong("a mapping")
        place = (path, name)
        if place in self._done:
            return self._done[place]
        extends = node.entries.get("extends")
        if extends is None or is_null(extends.node):
            return node
        if place in self._doing:
            way = " → ".join(service for _, service in (*self._doing[self._doing.index(place) :], place))
            raise at.child("extends").error(f"extends itself: {way}")
        if len(self._doing) >= _LONGEST_CHAIN:
            raise at.child("extends").error(f"a chain of more than {_LONGEST_CHAIN} services")
        self._doing.append(place)
        base = self._base(path, at.child("extends"))
        self._doing.pop()
        own = Table(
            {key: entry for key, entry in node.entries.items() if key != "extends"},
            node.mark,
            node.directive,
            node.size,
        )
        merged = merge(settle(base), own, ("services", name))
        assert isinstance(merged, Table)
        self._done[place] = merged
        return merged

    def _base(self, path: Path, extends: At) -> Table:
        """The completed service that `extends` names."""
        if extends.is_text:
            asked, service, file = extends, extends.filled(), None
        else:
            known = extends.entries()
            for name, at in known.items():
                if name not in ("service", "file"):
                    raise at.error("unknown key", hint="extends takes service and file")
            if "service" not in known:
                raise extends.error('"service" is missing')
            asked, service = known["service"], known["service"].filled()
            file = known.get("file")
        if file is not None:
            path = Path(os.path.normpath(file.node.mark.origin.directory / file.filled()))
            if path not in self._trees:
                self._trees[path] = self._read(path, file)
        services = _services(self._trees[path])
        if services is None or service not in services.entries:
            raise asked.error(f"there is no service {service} to extend in {path.name}")
        entry = services.entries[service]
        return self._complete(path, service, At(f"services.{service}", entry.node, entry.mark))


def _services(tree: Table) -> Table | None:
    entry = tree.entries.get("services")
    if entry is None or is_null(entry.node):
        return None
    if not isinstance(entry.node, Table):
        raise ComposeError("must be a mapping", entry.node.mark, key="services")
    return entry.node
