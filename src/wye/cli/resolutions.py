"""Resolutions on their way to the daemon, and files to write them in.

An id in a file may be cut short as long as it fits one conflict; which one is known only when the conflicts are, so
`settle` asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from wye.api import wire
from wye.cli import words
from wye.cli.resolution_file import DEFAULT, Choice
from wye.errors import BadRequest, Conflict, NotFound

Resolve = Annotated[
    Path | None,
    typer.Option(
        "--resolve", "-r", help="File that says what to take where both sides changed something.", metavar="FILE"
    ),
]

ID_CHARACTERS = 12
"""Of a whole id."""


def settle(choices: dict[str, Choice], call: Callable[[wire.Resolutions], wire.MergeResult]) -> wire.MergeResult:
    """`call` with `choices`, ids in full. A call that leaves conflicts open changes nothing, so where ids are cut short
    such a call is made first, without the default, until it has named them all.

    Raises NotFound for what is not in conflict, BadRequest for what fits several conflicts.
    """
    default = {DEFAULT: choices[DEFAULT].answer} if DEFAULT in choices else {}
    known = {key: each.answer for key, each in choices.items() if len(key) >= ID_CHARACTERS and key != DEFAULT}
    short = {key: each for key, each in choices.items() if key not in known and key != DEFAULT}
    while short:
        result = call(dict(known))
        if not result.conflicts:
            return result
        found = _found(short, result.conflicts)
        if not found:
            key, choice = next(iter(short.items()))
            raise NotFound(
                f"line {choice.line}: there is no conflict {key}", hint="'wye conflicts' lists what is in conflict"
            )
        for key, identity in found.items():
            known[identity] = short.pop(key).answer
    return call({**known, **default})


def _found(short: Iterable[str], conflicts: Iterable[wire.ConflictView]) -> dict[str, str]:
    ids = [conflict.id for conflict in conflicts]
    found = {}
    for key in short:
        fitting = [identity for identity in ids if identity.startswith(key)]
        if len(fitting) > 1:
            raise BadRequest(f"{key} may be any of {', '.join(fitting)}", hint="write more of it")
        if fitting:
            found[key] = fitting[0]
    return found


# ---------------------------------------------------------------- a file to fill in


def template(result: wire.MergeResult) -> Iterator[str]:
    """Its lines. What comes from a fork stays within its comment."""
    yield f"# Conflicts of merging {result.source} into {result.into}."
    yield f"# Say for each: ours ({result.into} as it is now), theirs ({result.source}), or {{value: ...}}; then:"
    yield f"#     wye merge {result.source} --into {result.into} --resolve FILE"
    yield "# For all that are not named:"
    yield "# default: ours"
    for conflict in result.conflicts:
        yield ""
        yield "# " + words.harmless(place_of(conflict))
        for name, value in (("base", conflict.base), ("ours", conflict.ours), ("theirs", conflict.theirs)):
            if conflict.choices or value is not None:
                yield f"#   {name + ':':<8}{shown(value, 2000)}"
        if conflict.detail:
            yield f"#   {words.harmless(conflict.detail)}"
        if conflict.choices:
            yield f"#   choices: {', '.join(conflict.choices)}"
            yield f'"{conflict.id}":'
        else:
            yield "#   cannot be settled here: change one of the sides and merge again"


def write_template(path: Path, result: wire.MergeResult) -> None:
    """Raises Conflict if the file is there already, BadRequest if it cannot be written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in template(result))
    except FileExistsError as error:
        raise Conflict(f"{path} is there already", hint="name another file, or remove it") from error
    except OSError as error:
        raise BadRequest(f"cannot write {path}: {error.strerror or error}") from error


def place_of(conflict: wire.ConflictView) -> str:
    """ "update/update in postgres db/public.orders, key 7, column status"."""
    parts = [f"{conflict.kind} in {conflict.place}"]
    if conflict.key:
        parts.append(f"key {key_of(conflict)}")
    if conflict.column:
        parts.append(f"column {conflict.column}")
    return ", ".join(parts)


def key_of(conflict: wire.ConflictView) -> str:
    return ", ".join("NULL" if part is None else part for part in conflict.key)


def shown(value: Any, length: int) -> str:
    """JSON, which is what a resolution file takes; cut where it is long."""
    return words.harmless(words.cut(json.dumps(value, ensure_ascii=False), length))
