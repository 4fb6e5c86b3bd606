"""Sequences: how far those of a fork have moved, and what that does to those of a target.

A position is the last number that a sequence gave out, or would have before the first. A target's sequence is moved on,
so that it and a fork that was merged both go on handing out numbers of their own. It is never set back: rows may have
come since with the numbers that it would give out again. Who wants that is told where it is, and does it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
_LOGGED_AHEAD = 32
"""Numbers that a server logs in advance: SEQ_LOG_VALS in PostgreSQL's commands/sequence.c."""
_SEQUENCES = f"""
select c.oid::int8, format('%I.%I', n.nspname, c.relname), s.seqincrement, pg_relation_filepath(c.oid),
    ({_LOGGED_AHEAD} + s.seqcache) * abs(s.seqincrement)
from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
where c.relpersistence <> 't' and n.nspname <> '{LOG_SCHEMA}' order by 2"""
_CALLED = """select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and c.oid = {oid}"""


@dataclass(frozen=True, slots=True)
class _Sequence:
    """`ahead`: so much further than it was a sequence may be after recovery, for the server logs numbers in advance."""

    oid: int
    name: str
    increment: int
    file: str
    ahead: int


@dataclass(frozen=True, slots=True)
class Known:
    """Positions of the base's sequences before it was given any DDL. One that was dropped and made again goes by its
    name, one that got another name by its oid."""

    by_oid: Mapping[int, int]
    by_name: Mapping[str, int]

    @classmethod
    def read(cls, connection: Connection) -> Known:
        found = _read(connection)
        at = _positions(connection, {each.name: each.increment for each in found})
        return cls({each.oid: at[each.name][0] for each in found}, {name: number for name, (number, _) in at.items()})

    def position(self, oid: int, name: str) -> int | None:
        return self.by_oid.get(oid, self.by_name.get(name))


def moved_sequences(side: Side, known: Known | None) -> list[SequenceChange]:
    """Sequences that are elsewhere in the fork than in the base, or came with the fork. `known`: None if there was no
    DDL. A new one counts from where the fork's rows end."""
    base, fork = side.both(_read)
    there = {each.name: each for each in base}
    touched = {each.name: each for each in fork if _may_have_moved(side, there.get(each.name), each, known)}
    before = _positions(side.base, {name: there[name].increment for name in touched if name in there})
    after = _positions(side.fork, {name: each.increment for name, each in touched.items()})
    found = []
    for name, (at, asked) in after.items():
        own, old = touched[name], there.get(name)
        was = before[name][0] if name in before else None
        start = was if known is None else known.position(old.oid if old else 0, name)
        change = SequenceChange(name=name, value=at, increment=own.increment, base=start, oid=old.oid if old else 0)
        # In the base's files it may be where it never came to. Who sets it back so little cannot be told from that.
        is_still = (
            change.is_set_back and old is not None and old.file == own.file and abs(at - (start or 0)) <= own.ahead
        )
        if not is_still and (start != at if start is not None else (was != at or asked)):
            found.append(change)
    return found


def _may_have_moved(side: Side, old: _Sequence | None, new: _Sequence, known: Known | None) -> bool:
    is_made_again = old is not None and known is not None and old.oid not in known.by_oid
    return old is None or old.file != new.file or side.blocks.touched(new.file) or is_made_again


def _read(connection: Connection) -> list[_Sequence]:
    return [_Sequence(*row) for row in fetch(connection, _SEQUENCES)]


def _positions(connection: Connection, increments: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
    """By name: the position, and whether the sequence has ever been asked."""
    if not increments:
        return {}
    each = (f"select {literal(name)}, last_value, is_called from {name}" for name in increments)
    found = fetch(connection, " union all ".join(each))
    return {name: (at if asked else at - increments[name], asked) for name, at, asked in found}


def positions(connection: Connection, sequences: Iterable[SequenceChange]) -> dict[str, int]:
    """Where those are in the target that it has, by the names of the changes."""
    found = {}
    for sequence in sequences:
        here = _in_target(connection, sequence)
        if here is not None:
            found[sequence.name] = here[1]
    return found


def keep_positions(
    connection: Connection,
    sequences: Iterable[SequenceChange],
    before: Mapping[str, int],
    place: str,
    decisions: Decisions,
) -> None:
    """After DDL: no sequence is further back than it was `before`. Leaves a conflict with `decisions` for each that the
    fork set back, to before where the target's is."""
    for sequence in sequences:
        here = _in_target(connection, sequence)
        if here is None:
            continue
        name, now = here
        ahead = max if sequence.increment > 0 else min
        at = ahead(now, before.get(sequence.name, now))
        if sequence.is_set_back and sequence.is_behind(at):
            conflict = Conflict(
                kind="sequence-set-back", place=f"{place}/{sequence.name}", base=sequence.base, ours=at,
                theirs=sequence.value, choices=OURS_ONLY,
                detail="the fork set it back, and the target's would give out numbers again that it has given out: ours"
                " leaves it where it is",
            )  # fmt: skip
            decisions.of(conflict)
        if at != now:
            connection.execute(f"alter sequence {name} restart with {at + sequence.increment}")


def move_ahead(connection: Connection, sequences: Iterable[SequenceChange]) -> int:
    """Moves sequences forward, never back, to a stride beyond the fork's, which may be merged again. ALTER SEQUENCE is
    transactional and holds nextval() off until commit. Returns how many moved."""
    moved = 0
    for sequence in sequences:
        here = _in_target(connection, sequence)
        if here is None:
            continue
        name, at = here
        if at != sequence.value and not sequence.is_behind(at):
            ahead = value(connection, _AHEAD.format(name=literal(name), at=sequence.value))
            target = sequence.value + (1 + int(ahead)) * sequence.increment
            connection.execute(f"alter sequence {name} restart with {target}")
            moved += 1
    return moved


def _in_target(connection: Connection, sequence: SequenceChange) -> tuple[str, int] | None:
    """What it is called in the target, which may have renamed it, and its position there; None if there is none."""
    name = sequence.name
    if not exists(connection, name):
        found = fetch(connection, _CALLED.format(oid=int(sequence.oid))) if sequence.base is not None else []
        if not found:
            return None
        name = str(found[0][0])
    return name, _positions(connection, {name: sequence.increment})[name][0]
