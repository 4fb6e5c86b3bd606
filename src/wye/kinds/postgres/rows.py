"""Exactly which rows differ between two clusters, in the blocks that may hold a difference.

Rows are told apart by the text of their cells, as the server prints them, never by values that the server takes for
equal. Printing all of them is what costs. Where the rows' versions tell which ones may differ at all (`versions`),
only those are fetched and compared. Else, or if those are many, both sides hash the rows of these blocks themselves
and send (address, hash), and only rows whose hash the other side lacks are fetched. Either way a row that merely moved
to another block is no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from wye.errors import Unavailable
from wye.kinds.postgres.blocks import Ranges
from wye.kinds.postgres.hashes import Address, Pieces, differing, piece_of
from wye.kinds.postgres.session import Connection, names
from wye.kinds.postgres.versions import PIECE_BLOCKS, Versions, changed_versions, versions_of
from wye.merge.rows import Row

_FETCHED = 5000
FEW = 100_000
"""Rows that are fetched from both sides because they may differ; of more, most may turn out to be equal."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """One side of one table: where to read it and how its columns are called there."""

    connection: Connection
    table: str
    """As in FROM: 'only public.t'."""
    columns: Sequence[str]
    seed: int = 0
    """Of the hashes. With another one than the other side's every row is said to differ."""


@dataclass(slots=True)
class RowChanges:
    """Net changes of one table or partition. `updates`: (before, after) of rows with the same key."""

    deletes: list[Row] = field(default_factory=list)
    inserts: list[Row] = field(default_factory=list)
    updates: list[tuple[Row, Row]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.deletes or self.inserts or self.updates)


def differing_rows(
    executor: Executor, old: Source | None, new: Source | None, ranges: Ranges, *, by_version: bool = False
) -> tuple[list[Row], list[Row]]:
    """Rows of `old` that `new` has not, and the other way round, counting duplicates. None: an empty table.

    `by_version`: a version of a row that both have holds the same on both (`versions`)."""
    if by_version:
        had, has = _both(executor, lambda s: _versions(s, ranges) if s else {}, old, new)
        gone, come = changed_versions(had, has)
        if len(gone) + len(come) <= FEW:
            return _without_equal(*_fetch_both(executor, (old, gone), (new, come)))
    before, after = _both(executor, lambda s: _hashes(s, ranges) if s else {}, old, new)
    gone, come = differing(before, after)
    return _fetch_both(executor, (old, gone), (new, come))


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


def count_equal(source: Source, rows: Collection[Row], where: str = "true") -> Counter[Row]:
    """How often each of `rows` is in the whole table, `where` a row `t` is so. The source's transaction must be able to
    write."""
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
            where {text} in (select {text} from pg_temp._wye_rows t) and ({where})"""
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
    hashed = f"int8send(hashtextextended(row({names(source.columns, 't.')})::text, {source.seed}))"
    return {number: piece_of(places, hashes) for number, _, places, hashes in _by_piece(source, ranges, hashed)}


def _versions(source: Source, ranges: Ranges) -> dict[int, Versions]:
    marked = _by_piece(source, ranges, "xidsend(t.xmin)")
    return {number: versions_of(first, places, marks) for number, first, places, marks in marked}


def _by_piece(source: Source, ranges: Ranges, mark: str) -> list[tuple[int, int, bytes, bytes]]:
    """Of each piece that has rows: its number and first block, and its rows' addresses and marks. Raises Unavailable
    for what is no answer to that."""
    pieces = list(ranges.pieces(PIECE_BLOCKS))
    if not pieces:
        return []
    first, end = (",".join(f'"({piece[side]},0)"' for piece in pieces) for side in (0, 1))
    # The aggregates keep the subquery from being pulled up, so that r.first and r.finish are parameters of a scan of
    # just these blocks (a TID range scan).
    sql = f"""
        select r.number, q.places, q.marks
        from unnest('{{{first}}}'::tid[], '{{{end}}}'::tid[]) with ordinality r(first, finish, number), lateral (
            select string_agg(tidsend(t.ctid), ''::bytea) places, string_agg({mark}, ''::bytea) marks
            from {source.table} t where t.ctid >= r.first and t.ctid < r.finish) q
        where q.places is not null"""
    with source.connection.cursor().copy(f"copy ({sql}) to stdout (format binary)") as copy:
        copy.set_types(["int8", "bytea", "bytea"])
        begins = {number: first for number, (first, _) in enumerate(pieces, 1)}
        answers = list(copy.rows())
    if any(number not in begins for number, _, _ in answers):
        raise Unavailable("postgres answers about blocks that it was not asked for")
    return [(number, begins[number], places, marks) for number, places, marks in answers]


def _fetch_both(
    executor: Executor, old: tuple[Source | None, list[Address]], new: tuple[Source | None, list[Address]]
) -> tuple[list[Row], list[Row]]:
    jobs = [executor.submit(_fetch, source, tids) if source and tids else None for source, tids in (old, new)]
    removed, added = (job.result() if job else [] for job in jobs)
    return removed, added


def _without_equal(removed: list[Row], added: list[Row]) -> tuple[list[Row], list[Row]]:
    """Both without the rows that both have, as often as both have them."""
    equal = Counter(removed) & Counter(added)
    return (_less(removed, equal), _less(added, equal)) if equal else (removed, added)


def _less(rows: list[Row], equal: Counter[Row]) -> list[Row]:
    left = Counter(equal)
    kept = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
        else:
            kept.append(row)
    return kept


def _fetch(source: Source, addresses: list[Address]) -> list[Row]:
    rows: list[Row] = []
    for start in range(0, len(addresses), _FETCHED):
        chunk = ",".join(f'"({block},{offset})"' for block, offset in addresses[start : start + _FETCHED])
        cells = names(source.columns, "t.")
        rows += read_rows(
            source.connection, f"select {cells} from {source.table} t where t.ctid = any('{{{chunk}}}'::tid[])"
        )
    return rows
