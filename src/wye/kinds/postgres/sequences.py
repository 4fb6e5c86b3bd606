"""Sequences of a target, moved on so that it and a fork that was merged both go on handing out numbers of their own."""

from __future__ import annotations

from collections.abc import Iterable

from wye.kinds.postgres.changes import SequenceChange
from wye.kinds.postgres.prepare import STRIDE
from wye.kinds.postgres.replay import exists
from wye.kinds.postgres.session import Connection, fetch, literal, value

_AHEAD = f"""select case when seqcycle then 0 else least({STRIDE},
    (case when seqincrement > 0 then seqmax else seqmin end::numeric - {{at}}) / seqincrement / 10)::bigint end
    from pg_sequence where seqrelid = {{name}}::regclass"""
"""Steps that a target's sequence moves beyond a fork's; less where it has not that much left."""


def move_ahead(connection: Connection, sequences: Iterable[SequenceChange]) -> int:
    """Moves sequences forward, never back, to a stride beyond the fork's, which may be merged again. ALTER SEQUENCE is
    transactional and holds nextval() off until commit. Returns how many moved."""
    moved = 0
    for sequence in sequences:
        if not exists(connection, sequence.name):
            continue
        # One that was never asked gives out its last value first.
        at, asked = fetch(connection, f"select last_value, is_called from {sequence.name}")[0]
        beyond = sequence.value - at if sequence.increment > 0 else at - sequence.value
        if beyond > 0 or (beyond == 0 and not asked):
            ahead = value(connection, _AHEAD.format(name=literal(sequence.name), at=sequence.value))
            target = sequence.value + (1 + int(ahead)) * sequence.increment
            connection.execute(f"alter sequence {sequence.name} restart with {target}")
            moved += 1
    return moved
