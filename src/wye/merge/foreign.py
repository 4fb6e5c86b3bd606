"""Files in a database's directory that its server did not make: settings, certificates, scripts, dumps by hand.

They are in no diff of rows or keys, and they are not merged as files either: a server runs on that directory, and its
meaning for such a file (read at a start, never, at every connection) is not known here. So a change of one is refused
by name. What shells leave behind in a home directory says nothing, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterable

from wye.merge.conflict import NONE, Conflict

SHOWN = 100
_HISTORIES = frozenset({
    ".ash_history", ".bash_history", ".cache", ".config", ".lesshst", ".local", ".psql_history", ".python_history",
    ".rediscli_history", ".sh_history", ".viminfo", ".valkeycli_history", ".wget-hsts",
})  # fmt: skip


def is_passing(path: str) -> bool:
    """Whether a path in a volume is what a shell or a client leaves in a home directory."""
    return not _HISTORIES.isdisjoint(path.split("/"))


def refusals(place: str, paths: Iterable[str]) -> list[Conflict]:
    """Of `paths` the ones that hold no other of them; the first of very many."""
    found = sorted(set(paths))
    above = {path[:at] for path in found for at, letter in enumerate(path) if letter == "/"}
    return [
        Conflict(
            kind="foreign-file",
            place=place,
            key=(path,),
            choices=NONE,
            detail=f"the fork changed {path}, which lies in the database's directory and is not merged with it: make"
            " the change in the target too, or keep the file elsewhere, and take it back here",
        )
        for path in [path for path in found if path not in above][:SHOWN]
    ]
