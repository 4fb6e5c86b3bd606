"""What a fork's server says is data: none of it may become a statement in the target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from wye.kinds.postgres.changes import Content, DatabaseChanges, SequenceChange, TableChanges
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "postgres"
INJECTED = '"t"."sums"; drop table t.item cascade; --'
SETUP = [
    "create schema t",
    "create table t.item (id serial primary key, stock int, label text)",
    "insert into t.item (stock, label) select n, 'label ' || n from generate_series(1, 5) n",
    "create materialized view t.sums as select sum(stock) as stock from t.item",
]


@pytest.fixture
def target(rig: Any) -> Iterator[Any]:
    site = rig.create()
    site.run(APP, SETUP)
    yield site
    site.discard()
    rig.sweep()


ROW = ("1", "1", "label 1")
CHANGES = {
    "view": DatabaseChanges(database=APP, views=(INJECTED,)),
    "sequence": DatabaseChanges(database=APP, sequences=(SequenceChange(name=INJECTED, value=9, increment=1),)),
    "table": DatabaseChanges(
        database=APP, tables=(TableChanges(table=INJECTED, columns=("id", "stock", "label"), key=("id",)),)
    ),
    "column": DatabaseChanges(
        database=APP,
        tables=(TableChanges(table="t.item", columns=("id", "stock", INJECTED), key=("id",), deletes=(ROW,)),),
    ),
    "key": DatabaseChanges(
        database=APP,
        tables=(TableChanges(table="t.item", columns=("id", "stock", "label"), key=(INJECTED,), deletes=(ROW,)),),
    ),
    "content": DatabaseChanges(
        database=APP, contents=(Content(table=INJECTED, columns=(INJECTED,), rows=1, digest="", is_drop=True),)
    ),
    "cell": DatabaseChanges(
        database=APP,
        tables=(
            TableChanges(
                table="t.item", columns=("id", "stock", "label"), key=("id",),
                updates=((ROW, ("1", "1", f"\\.\n{INJECTED}\\N")),),
            ),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_names_and_values_are_never_statements(rig: Any, target: Any, changes: DatabaseChanges) -> None:
    for found in (changes, replace(changes, base={"table t.x": "r"}, theirs={f"table {INJECTED}": "r"})):
        try:
            rig.apply(target, found)
        except Refused:
            pass
        assert target.query(APP, "select count(*) from t.item") == [(5,)]


def test_a_view_is_refreshed_by_its_own_name(rig: Any, target: Any) -> None:
    target.run(APP, 'create materialized view t."odd ""name; --" as select 1 as n with no data')
    rig.apply(target, DatabaseChanges(database=APP, views=('t."odd ""name; --"', "t.sums")))
    assert target.query(APP, 'select n from t."odd ""name; --"') == [(1,)]
    with pytest.raises(Refused) as error:
        rig.apply(target, DatabaseChanges(database=APP, views=("t.gone",)))
    assert [conflict.kind for conflict in error.value.conflicts] == ["view-missing"]
