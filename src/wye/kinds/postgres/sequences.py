"""Sequences: how far those of a fork have moved, and what that does to those of a target.

A position is the last number that a sequence gave out, or would have before the first. A target's sequence is moved on,
so that it and a fork that was merged both go on handing out numbers of their own. It is never set back: rows may have
come since with the numbers that it would give out again. Who wants that is told where it is, and does it there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from wye.kinds.postgres.changes import SequenceChange
from wye.kinds.postgres.prepare import STRIDE
from wye.kinds.postgres.replay import exists
from wye.kinds.postgres.session import LOG_SCHEMA, Connection, fetch, literal, value
from wye.kinds.postgres.side import Side
from wye.merge.conflict import OURS_ONLY, Conflict, Decisions

_AHEAD = f"""select case when seqcycle then 0 else least({STRIDE},
    (case when seqincrement > 0 then seqmax else seqmin end::numeric - {{at}}) / seqincrement / 10)::bigint end
    from pg_sequence where seqrelid = {{name}}::regclass"""
"""Steps that a target's sequence moves beyond a fork's; less where it has not that much left."""
_SEQUENCES = f"""
select format('%I.%I', n.nspname, c.relname), s.seqincrement, pg_relation_filepath(c.oid)
from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
where c.relpersistence <> 't' and n.nspname <> '{LOG_SCHEMA}' order by 1"""


def sequence_names(connection: Connection) -> set[str]:
    return {name for name, *_ in fetch(connection, _SEQUENCES)}


def moved_sequences(side: Side, known: Collection[str] | None) -> list[SequenceChange]:
    """Sequences that are elsewhere in the fork than in the base, or came with the fork. `known`: sequences of the base
    before the fork's DDL; None: there was none. A new one counts from where the fork's rows end."""
    base, fork = side.both(lambda connection: fetch(connection, _SEQUENCES))
    files = {name: file for name, _, file in base}
    touched = {
        name: increment for name, increment, file in fork if files.get(name) != file or side.blocks.touched(file)
    }
    before = _positions(side.base, {name: step for name, step, _ in base if name in touched})
    found = []
    for name, (at, asked) in _positions(side.fork, touched).items():
        was, _ = before.get(name, (None, False))
        is_new = known is not None and name not in known
        if was != at or (is_new and asked):
            start = None if is_new else was
            found.append(SequenceChange(name=name, value=at, increment=touched[name], base=start))
    return found


def _positions(connection: Connection, increments: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
    """By name: the position, and whether the sequence has ever been asked."""
    if not increments:
        return {}
    each = (f"select {literal(name)}, last_value, is_called from {name}" for name in increments)
    found = fetch(connection, " union all ".join(each))
    return {name: (at if asked else at - increments[name], asked) for name, at, asked in found}


def refuse_setting_back(
    connection: Connection, sequences: Iterable[SequenceChange], place: str, decisions: Decisions
) -> None:
    """Leaves a conflict with `decisions` for each sequence that the fork set back, to before where the target's is."""
    for sequence in sequences:
        if not sequence.is_set_back or not exists(connection, sequence.name):
            continue
        [(at, _)] = _positions(connection, {sequence.name: sequence.increment}).values()
        if sequence.is_behind(at):
            decisions.of(
                Conflict(
                    kind="sequence-set-back", place=f"{place}/{sequence.name}", base=sequence.base, ours=at,
                    theirs=sequence.value, choices=OURS_ONLY,
                    detail="the fork set it back, and the target's would give out numbers again that it has given out:"
                    " ours leaves it where it is",
                )
            )  # fmt: skip


def move_ahead(connection: Connection, sequences: Iterable[SequenceChange]) -> int:
    """Moves sequences forward, never back, to a stride beyond the fork's, which may be merged again. ALTER SEQUENCE is
    transactional and holds nextval() off until commit. Returns how many moved."""
    moved = 0
    for sequence in sequences:
        if not exists(connection, sequence.name):
            continue
        [(at, _)] = _positions(connection, {sequence.name: sequence.increment}).values()
        if at != sequence.value and not sequence.is_behind(at):
            ahead = value(connection, _AHEAD.format(name=literal(sequence.name), at=sequence.value))
            target = sequence.value + (1 + int(ahead)) * sequence.increment
            connection.execute(f"alter sequence {sequence.name} restart with {target}")
            moved += 1
    return moved
