"""What a project and a person say of a merge, on a real daemon: policies by table, sums, resolutions of every kind of
conflict, and mistakes in any of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.test_merge import COMPOSE, Shop, shop, told  # noqa: F401 - the fixture
from wye.errors import BadRequest, NotFound, Unsupported, WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

TERMS = """
x-wye:
  merge:
    table: {orders: row, log.audit: table, notes: table}
    delta: [items.stock]
"""
NOTES = "/docs/app.db"
SQLITE = (
    "import sqlite3, sys; c = sqlite3.connect('/docs/app.db'); print(c.execute(sys.argv[1]).fetchall()); c.commit()"
)
WITH_PYTHON = COMPOSE.replace('image: wye/base\n    command: ["sleep"', 'image: wye/python\n    command: ["sleep"')


def notes(shop: Shop, environment: str, statement: str) -> str:  # noqa: F811
    return shop.sh(environment, f'python3 -c "{SQLITE}" "{statement}"', "docs").strip()


def ids(conflicts: Any, choice: Any) -> dict[str, Any]:
    return {each.id: choice for each in conflicts}


def test_policies_by_table_and_sums(shop: Shop) -> None:  # noqa: F811
    """With a second merge, a revert, a collect and a restore between: what was added once is not added twice."""
    shop.up("production", WITH_PYTHON + TERMS)
    shop.sql("production", "create schema log; create table log.audit (id int primary key, what text)")
    shop.sql("production", "insert into log.audit values (1, 'a'), (2, 'b')")
    notes(shop, "production", "create table notes (id integer primary key, t)")
    notes(shop, "production", "insert into notes values (1, 'a'), (2, 'b')")
    shop.project.fork()
    for environment, amount, key in (("f", 10, 1), ("production", -3, 2)):
        shop.sql(environment, f"update items set stock = stock + {amount} where id = 1")
        shop.sql(environment, f"update log.audit set what = '{environment}' where id = {key}")
        notes(shop, environment, f"update notes set t = '{environment}' where id = {key}")
    shop.sql("f", "update orders set quantity = 9 where id = 1")
    shop.sql("production", "update orders set item = 9 where id = 1")
    # A fork does not choose its own terms.
    shop.up("f", WITH_PYTHON)
    before = shop.state()
    found = shop.merge()
    assert found.notices == ("x-wye: merge: no database server has 'notes'; it counts for SQLite files only",)
    assert {(each.kind, each.place, each.key) for each in found.conflicts} == {
        ("table/table", "postgres/shop/log.audit", ()),
        ("table/table", "sqlite volume docs:/app.db notes", ()),
        ("update/update", "postgres/shop/public.orders", ("1",)),
    }
    assert shop.state() == before
    shop.up("f", WITH_PYTHON + TERMS)
    shop.merged(resolutions=ids(found.conflicts, "theirs"))
    stock = "select stock from items where id = 1"
    assert shop.sql("production", stock) == "107"
    assert shop.sql("production", "select what from log.audit order by id") == "f\nproduction"
    assert notes(shop, "production", "select t from notes order by id") == "[('f',), ('production',)]"
    assert shop.sql("production", "select quantity from orders where id = 1") == "9"

    shop.sql("f", "update items set stock = stock + 1 where id = 1")
    shop.sql("production", "update items set stock = stock - 7 where id = 1")
    shop.project.client.collect()
    again = shop.merged()
    assert shop.sql("production", stock) == "101"
    assert not shop.merge().merged, "there is nothing left to bring"
    assert shop.sql("production", stock) == "101"
    shop.sql("production", "update items set stock = stock - 1 where id = 1")
    assert shop.project.client.revert(again.entry).merged
    assert shop.sql("production", stock) == "99"
    last = shop.merged()
    assert shop.sql("production", stock) == "100", "a merge that was taken back is merged again"
    shop.sql("production", "update items set stock = 0 where id = 1")
    shop.project.client.restore("production", shop.project.client.show(last.entry).revision)
    shop.sh("production", "until pg_isready -q -U shop -d shop; do sleep 0.1; done", "db")
    assert shop.sql("production", stock) == "100"
    assert not shop.merge().merged, "that revision has all of it"


def test_sums_and_an_update_of_the_fork(shop: Shop) -> None:  # noqa: F811
    """After a merge, and with changes on both sides: the fork's own changes come over, once."""
    shop.up("production", COMPOSE + TERMS)
    shop.project.fork()
    stock = "select stock from items where id = 1"
    shop.sql("f", "update items set stock = stock + 10 where id = 1")
    shop.merged()
    shop.sql("f", "update items set stock = stock + 1000, price = 7 where id = 1")
    shop.sql("production", "update items set stock = stock - 50, name = 'theirs' where id = 1")
    assert shop.project.client.update("f").merged
    assert shop.sql("f", "select stock, price, name from items where id = 1") == "1060|7|theirs"
    shop.sql("production", "update items set stock = stock - 1 where id = 1")
    shop.merged()
    assert shop.sql("production", "select stock, price, name from items where id = 1") == "1059|7|theirs"
    assert not shop.merge().merged
    assert shop.sql("production", stock) == "1059"


def test_what_only_both_together_break(shop: Shop) -> None:  # noqa: F811
    """Told at once with everything else, and settled in one go."""
    shop.sql("production", "alter table items add unique (name)")
    shop.project.fork()
    shop.sql("f", "insert into items values (51, 'same', 1, 1); delete from orders where item = 3 or id in (9, 10)")
    shop.sql("f", "delete from items where id = 3; insert into orders values (501, 4, 1), (502, 5, 1)")
    shop.redis("f", "set", "greeting", "theirs")
    shop.sql("production", "insert into items values (61, 'same', 2, 2); insert into orders values (601, 3, 1)")
    shop.sql("production", "delete from orders where item = 4; delete from items where id = 4")
    shop.redis("production", "set", "greeting", "ours")
    before = shop.state()
    found = shop.merge()
    by = {each.kind: each for each in found.conflicts}
    assert by.keys() == {"unique", "fk-parent-missing", "fk-child-exists", "update/update"}
    assert {kind: each.choices for kind, each in by.items() if kind != "update/update"} == {
        "unique": ("ours", "value"),
        "fk-parent-missing": ("ours", "value"),
        "fk-child-exists": ("ours",),
    }
    decided = {
        by["unique"].id: {"value": "another"},
        by["fk-parent-missing"].id: {"value": 5},
        by["fk-child-exists"].id: "ours",
        by["update/update"].id: {"value": "both"},
    }
    refusals: list[tuple[type[WyeError], dict[str, Any], str]] = [
        (BadRequest, {**decided, by["unique"].id: "theirs"}, by["unique"].id),
        (BadRequest, {**decided, by["fk-parent-missing"].id: {"value": "five"}}, by["fk-parent-missing"].id),
        (BadRequest, {**decided, by["unique"].id: {"valu": 1}}, by["unique"].id),
        (BadRequest, {**decided, "default": "mine"}, "mine"),
        (NotFound, {**decided, "0123456789ab": "ours"}, "0123456789ab"),
    ]
    for error, wrong, name in refusals:
        with pytest.raises(error, match=name):
            shop.merge(resolutions=wrong)
    left = shop.merge(resolutions={"default": "theirs"})
    assert {each.kind for each in left.conflicts} == by.keys() - {"update/update"}, "theirs is not for all of them"
    assert shop.state() == before
    shop.merged(resolutions=decided)
    assert shop.sql("production", "select id, name from items where id in (3, 51, 61) order by id") == (
        "3|item 3\n51|another\n61|same"
    )
    assert shop.sql("production", "select id, item from orders where id > 500 order by id") == "501|5\n502|5\n601|3"
    assert shop.redis("production", "get", "greeting") == "both"
    shop.sql("f", "update items set price = 5 where id = 20")
    with pytest.raises(NotFound, match=by["unique"].id):
        shop.merge(resolutions={by["unique"].id: "ours"})


def test_a_default_reaches_what_comes_to_light_late(shop: Shop) -> None:  # noqa: F811
    """Orders of an item that is left out are asked about only then."""
    shop.sql("production", "alter table items add unique (name)")
    shop.project.fork()
    shop.sql("f", "insert into items values (51, 'same', 1, 1); insert into orders values (501, 51, 1), (502, 5, 1)")
    shop.sql("production", "insert into items values (61, 'same', 2, 2)")
    assert [each.kind for each in shop.merge().conflicts] == ["unique"]
    shop.merged(resolutions={"default": "ours"})
    assert shop.sql("production", "select id from orders where id > 500") == "502"


FILES = {
    "mysql": ("auto.cnf ibdata1 ib_logfile0 mysql.ibd undo_001 mysql/general_log.CSM shop/orders.ibd", "mysql"),
    "mariadb": ("aria_log_control aria_log.00000001 ibdata1 ib_logfile0 mysql/db.frm shop/orders.ibd", "m[ay][rs]"),
}


@pytest.mark.parametrize(("files", "name"), FILES.values(), ids=FILES)
def test_mysql_is_refused_by_name_and_nothing_is_touched(shop: Shop, files: str, name: str) -> None:  # noqa: F811
    """By its files, whatever the image is called; also where only other things changed."""
    made = f"cd /docs; for f in {files}; do mkdir -p $(dirname $f); head -c 20000 /dev/urandom > $f; done"
    shop.sh("production", made, "docs")
    shop.project.fork()
    shop.sql("f", "update items set price = 5 where id = 1")
    shop.sh("f", "head -c 20000 /dev/urandom > /docs/shop/orders.ibd", "docs")
    before, log = shop.state(), shop.project.client.log("production")
    for attempt in (shop.merge, lambda: shop.merge(rehearse_only=True), lambda: shop.project.client.update("f")):
        with pytest.raises(Unsupported, match=f"'docs'.*{name}") as caught:
            attempt()
        assert caught.value.hint
    assert (shop.state(), shop.project.client.log("production")) == (before, log)
