"""Exactly which rows differ between two clusters, in the blocks that may hold a difference.

Both sides hash the rows of these blocks themselves and send (address, hash); only rows whose hash the other side
lacks are fetched. So the cost follows the number of blocks on the servers and the number of changed rows on the wire,
and a row that merely moved to another block is no difference. A row's hash is over the text of its cells, as the
server prints them, never over values that the server takes for equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from wye.kinds.postgres.blocks import Ranges
from wye.kinds.postgres.hashes import Address, Pieces, differing, piece_of
from wye.kinds.postgres.session import Connection, names
from wye.merge.rows import Row

_PIECE_BLOCKS = 64
"""Blocks per line of answer: some 50 KiB."""
_FETCHED = 5000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """One side of one table: where to read it and how its columns are called there."""

    connection: Connection
    table: str
    """As in FROM: 'only public.t'."""
    columns: Sequence[str]


@dataclass(slots=True)
class RowChanges:
    """Net changes of one table or partition. `updates`: (before, after) of rows with the same key."""

    deletes: list[Row] = field(default_factory=list)
    inserts: list[Row] = field(default_factory=list)
    updates: list[tuple[Row, Row]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.deletes or self.inserts or self.updates)


def differing_rows(
    executor: Executor, old: Source | None, new: Source | None, ranges: Ranges
) -> tuple[list[Row], list[Row]]:
    """Rows of `old` that `new` has not, and the other way round, counting duplicates. None: an empty table."""
    before, after = _both(executor, lambda s: _hashes(s, ranges) if s else {}, old, new)
    gone, come = differing(before, after)
    jobs = [executor.submit(_fetch, s, tids) if s and tids else None for s, tids in ((old, gone), (new, come))]
    removed, added = (job.result() if job else [] for job in jobs)
    return removed, added


def pair(removed: list[Row], added: list[Row], key: Sequence[int] | None) -> RowChanges:
    """Removed and added rows of one key make an update. `key`: indexes of its columns; None: no key."""
    if key is None:
        return RowChanges(deletes=removed, inserts=added)
    old = {tuple(row[i] for i in key): row for row in removed}
    new = {tuple(row[i] for i in key): row for row in added}
    return RowChanges(
        deletes=[row for k, row in old.items() if k not in new],
        inserts=[row for k, row in new.items() if k not in old],
        updates=[(old[k], row) for k, row in new.items() if k in old],
    )


def count_equal(source: Source, rows: Sequence[Row]) -> Counter[Row]:
    """How often each of `rows` is in the whole table. The source's transaction must be able to write."""
    wanted = set(rows)
    if not wanted:
        return Counter()
    connection = source.connection
    cells = names(source.columns, "t.")
    with connection.transaction(force_rollback=True):
        connection.execute(
            f"create temp table _wye_rows on commit drop as select {cells} from {source.table} t limit 0"
        )
        copy_rows(connection, "_wye_rows", wanted)
        text = f"row({cells})::text"
        sql = f"""select {cells} from {source.table} t
            where {text} in (select {text} from pg_temp._wye_rows t)"""
        return Counter(read_rows(connection, sql))


def read_rows(connection: Connection, sql: str) -> Iterator[Row]:
    """The rows of a query as text."""
    with connection.cursor().copy(f"copy ({sql}) to stdout") as copy:
        yield from copy.rows()


def copy_rows(connection: Connection, table: str, rows: Iterable[Row]) -> None:
    with connection.cursor().copy(f"copy {table} from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def _both(executor: Executor, work: Callable[[Source | None], T], old: Source | None, new: Source | None) -> list[T]:
    return [job.result() for job in [executor.submit(work, side) for side in (old, new)]]


def _hashes(source: Source, ranges: Ranges) -> Pieces:
    pieces = list(ranges.pieces(_PIECE_BLOCKS))
    if not pieces:
        return {}
    cells = names(source.columns, "t.")
    first, end = (",".join(f'"({piece[side]},0)"' for piece in pieces) for side in (0, 1))
    # The aggregates keep the subquery from being pulled up, so that r.first and r.finish are parameters of a scan of
    # just these blocks (a TID range scan).
    sql = f"""
        select r.number, q.places, q.hashes
        from unnest('{{{first}}}'::tid[], '{{{end}}}'::tid[]) with ordinality r(first, finish, number), lateral (
            select string_agg(tidsend(t.ctid), ''::bytea) places,
                string_agg(int8send(hashtextextended(row({cells})::text, 0)), ''::bytea) hashes
            from {source.table} t where t.ctid >= r.first and t.ctid < r.finish) q
        where q.places is not null"""
    with source.connection.cursor().copy(f"copy ({sql}) to stdout (format binary)") as copy:
        copy.set_types(["int8", "bytea", "bytea"])
        return {number: piece_of(places, hashes) for number, places, hashes in copy.rows()}


def _fetch(source: Source, addresses: list[Address]) -> list[Row]:
    rows: list[Row] = []
    for start in range(0, len(addresses), _FETCHED):
        chunk = ",".join(f'"({block},{offset})"' for block, offset in addresses[start : start + _FETCHED])
        cells = names(source.columns, "t.")
        rows += read_rows(
            source.connection, f"select {cells} from {source.table} t where t.ctid = any('{{{chunk}}}'::tid[])"
        )
    return rows
