"""A table in several segments, and a database of a thousand tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.host

APP = "postgres"
SEGMENT_BYTES = 1 << 30
TABLES = 1000


@pytest.fixture
def production(rig: Any) -> Iterator[Any]:
    site = rig.create()
    site.run(APP, ["create schema t", "create table t.big (id int primary key, v text)"])
    site.run(APP, "insert into t.big select n, 'old' from generate_series(1, 100) n")
    yield site
    site.discard()
    rig.sweep()


@pytest.fixture
def segmented(rig: Any, production: Any) -> Any:
    """Rows 1 to 100 lie at the beginning of the first segment, 101 to 500 at its end and in the second. What is between
    them are blocks that nothing was ever written to, which cost nothing on the disk."""
    (path,) = production.query(APP, "select pg_relation_filepath('t.big')")[0]
    production.server.stop(cleanly=True)
    data = rig.pool.environment_path(production.id) / "volumes/db/data"
    with (data / path).open("r+b") as file:
        file.truncate(SEGMENT_BYTES)
    production.server = rig.servers.start(data)
    production.run(APP, "insert into t.big select n, repeat('x', 100) from generate_series(101, 500) n")
    assert (data / f"{path}.1").stat().st_size > 0
    return production


def blocks(site: Any, condition: str) -> set[int]:
    rows = site.query(APP, f"select (ctid::text::point)[0]::int8 from t.big where {condition}")
    return {block for (block,) in rows}


def test_rows_of_every_segment(rig: Any, segmented: Any) -> None:
    border = SEGMENT_BYTES // 8192
    assert min(blocks(segmented, "id > 100")) == border - 1
    assert max(blocks(segmented, "id > 100")) >= border
    fork = rig.fork(segmented)
    fork.run(APP, ["update big set v = 'F' where id in (1, 101, 500)", "delete from big where id in (2, 102, 499)",
                   "insert into big values (1000, 'F')"])  # fmt: skip
    segmented.run(APP, "update big set v = 'L' where id in (3, 103, 498)")
    (changes,) = rig.diff(fork)
    fork.discard()
    (table,) = changes.tables
    assert [len(rows) for rows in (table.updates, table.deletes, table.inserts)] == [3, 3, 1]
    rig.apply(segmented, changes)
    found = segmented.query(
        APP, "select v, array_agg(id order by id) from t.big where v in ('F', 'L') group by 1 order by 1"
    )
    assert found == [("F", [1, 101, 500, 1000]), ("L", [3, 103, 498])]
    assert segmented.query(APP, "select count(*) from t.big") == [(498,)]


def test_a_segment_that_vacuum_cut_off(rig: Any, segmented: Any) -> None:
    fork = rig.fork(segmented)
    fork.run(APP, ["delete from big where id > 300", "vacuum big", "update big set v = 'F' where id = 5"])
    assert blocks(fork, "true") != blocks(segmented, "true")
    segmented.run(APP, "insert into big values (1000, 'L')")
    (changes,) = rig.diff(fork)
    fork.discard()
    rig.apply(segmented, changes)
    assert segmented.query(APP, "select count(*), max(id) from t.big") == [(301, 1000)]
    assert segmented.query(APP, "select v from t.big where id = 5") == [("F",)]


def test_a_thousand_tables(rig: Any, production: Any, record_property: Any) -> None:
    production.run(
        APP,
        f"""do $$begin for n in 1..{TABLES} loop
            execute format('create table t.many_%s (id serial primary key, v text, up int references t.big)', n);
            execute format('insert into t.many_%s (v) values (1), (2)', n);
            if n % 200 = 0 then commit; end if;
        end loop; end$$""",
    )
    fork = rig.fork(production)
    fork.run(APP, [f"update many_{n} set v = 'F' where id = 1" for n in (1, 500, 1000)])
    fork.run(APP, "alter table many_2 add column w int default 5")
    production.run(APP, "update many_1 set v = 'L' where id = 2")
    base = rig.start_base(fork)
    began = rig.host.monotonic()
    (changes,) = rig.diff(fork, base=base)
    record_property("diff_s", round(rig.host.monotonic() - began, 2))
    base.discard()
    fork.discard()
    assert [table.table for table in changes.tables] == ["t.many_1", "t.many_1000", "t.many_500"]
    rig.apply(production, changes)
    assert production.query(APP, "select v from t.many_1 order by id") == [("F",), ("L",)]
    assert production.query(APP, "select w from t.many_2") == [(5,), (5,)]
