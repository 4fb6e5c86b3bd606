"""Taking back merges that changed the schema, on a production that takes orders all the time: what the merge did goes,
every order that was confirmed stays, and what somebody has come to use since is asked about."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

import pytest

from tests.acceptance.test_merge import COMPOSE, Customers, Shop, shop
from wye.errors import WyeError

__all__ = ["shop"]

pytestmark = [pytest.mark.host, pytest.mark.timeout(180)]

COLUMNS = "select string_agg(attname, ' ' order by attnum) from pg_attribute where attnum > 0 and not attisdropped"


def change_everything(shop: Shop) -> None:
    """A fork that adds a column and fills it, makes a table, renames, and changes a key and a file."""
    shop.project.fork()
    shop.sql("f", "alter table orders add column note text; update orders set note = 'seen' where id <= 100")
    shop.sql(
        "f",
        "create table parts (id serial primary key, item int references items); insert into parts (item) values (1)",
    )
    shop.sql("f", "alter table items rename column name to title; alter table items alter title set default 'untitled'")
    shop.sql("f", "insert into orders (item, quantity, note) values (1, 2, 'of the fork')")
    shop.redis("f", "set", "greeting", "bye")
    shop.sh("f", "sed -i s/one/ONE/ /docs/guide", "docs")


def schema(shop: Shop) -> str:
    return shop.sh("production", "pg_dump -s -U shop shop | grep -v restrict", "db")


def orders(shop: Shop) -> list[int]:
    """Those of the customers."""
    return [
        int(number) for number in shop.sql("production", "select id from orders where quantity = 7 order by id").split()
    ]


def test_there_and_back_and_there_again_while_orders_come_in(shop: Shop) -> None:
    before = schema(shop)
    change_everything(shop)
    with Customers(shop) as customers:
        done = shop.merged()
        merged = schema(shop)
        customers.wait_for_more()
        back = shop.project.client.revert(done.entry)
        assert back.merged, back.conflicts
        customers.wait_for_more()
        assert schema(shop) == before
        assert shop.sql("production", "select count(*) from orders where quantity <> 7") == "200"
        assert shop.redis("production", "get", "greeting") == "hello"
        assert shop.sh("production", "cat /docs/guide", "docs").startswith("one\n")
        redone = shop.project.client.revert(back.entry)
        assert redone.merged, redone.conflicts
        customers.wait_for_more()
        assert schema(shop) == merged
        assert shop.sql("production", "select count(*) from orders where note = 'seen'") == "100"
        assert shop.sql("production", "select note, item from orders where quantity = 2; select * from parts") == (
            "of the fork|1\n1|1"
        )
        assert shop.redis("production", "get", "greeting") == "bye"
        assert shop.project.client.revert(redone.entry).merged
        customers.wait_for_more()
        assert schema(shop) == before
        assert shop.merged().entry
        customers.wait_for_more()
    assert not customers.failures
    assert orders(shop) == customers.orders, "every order that was confirmed, and no other"
    assert shop.sql("production", "select stock from items where id = 50") == str(100 - len(customers.orders))
    assert schema(shop) == merged
    assert shop.project.client.log("production", verify=True).verified


def test_a_fork_is_merged_twice_and_both_sides_hand_out_numbers(shop: Shop) -> None:
    change_everything(shop)
    with Customers(shop) as customers:
        for number in (1, 2):
            shop.sql(
                "f",
                f"insert into orders (item, quantity, note) values (2, 3, '{number}'); insert into parts (item) values (2)",
            )
            shop.merged()
            shop.sql("production", "insert into parts (item) values (3)")
            customers.wait_for_more()
    assert not customers.failures
    assert orders(shop) == customers.orders
    assert shop.sql("production", "select note from orders where quantity = 3 order by id") == "1\n2"
    assert shop.sql("production", "select item, count(*) from parts group by 1 order by 1") == "1|1\n2|2\n3|2"


def test_a_service_that_does_not_come_up_undoes_the_schema_too(shop: Shop) -> None:
    before = schema(shop)
    change_everything(shop)
    shop.sh("f", "echo 'grep -q \"no egress\" /etc/resolv.conf || exit 1' > /srv/app.sh", "web")  # breaks in production
    shop.up("f", COMPOSE.replace("COLOUR: green", "COLOUR: red"))
    log = shop.project.client.log("production")
    with Customers(shop) as customers:
        with pytest.raises(WyeError) as error:
            shop.merge()
        customers.wait_for_more()
    assert "undone" in error.value.message
    assert not customers.failures
    assert orders(shop) == customers.orders
    assert schema(shop) == before
    assert shop.sql("production", "select count(*) from orders where quantity <> 7") == "200"
    assert shop.sql("production", "select stock from items where id = 50") == str(100 - len(customers.orders))
    assert shop.redis("production", "get", "greeting") == "hello"
    assert shop.sh("production", "cat /docs/guide", "docs").startswith("one\n")
    assert shop.sh("production", "echo $COLOUR", "web") == "green\n"
    told = shop.project.client.log("production")
    assert [entry.verb for entry in told.entries[: len(told.entries) - len(log.entries)]] == ["snapshot"]


def test_what_somebody_has_come_to_use_is_asked_about(shop: Shop) -> None:
    change_everything(shop)
    done = shop.merged()
    shop.sql("production", "update orders set note = 'mine' where id = 150; insert into parts (item) values (4)")
    shop.redis("production", "set", "greeting", "later")
    before, log = shop.state(), shop.project.client.log("production")
    found = shop.project.client.revert(done.entry)
    assert not found.merged
    assert {(each.kind, each.place, each.choices) for each in found.conflicts} == {
        ("drop-vs-change", "postgres/shop/public.orders", ("ours", "theirs")),
        ("drop-vs-change", "postgres/shop/public.parts", ("ours", "theirs")),
        ("update/update", "redis cache db0", ("ours", "theirs")),
    }
    assert (shop.state(), shop.project.client.log("production")) == (before, log)
    mine = {each.id: "ours" if each.place.startswith("redis") else "theirs" for each in found.conflicts}
    assert shop.project.client.revert(done.entry, resolutions=mine).merged
    assert shop.sql("production", f"{COLUMNS} and attrelid = 'orders'::regclass") == "id item quantity"
    assert shop.sql("production", "select to_regclass('parts') is null") == "t"
    assert shop.redis("production", "get", "greeting") == "later"
    assert shop.sh("production", "cat /docs/guide", "docs").startswith("one\n")


def destroy(shop: Shop) -> None:
    """A fork that drops a table and a column and changes a type, beside other things."""
    shop.project.fork()
    shop.sql(
        "f",
        "drop table parcels cascade; alter table items drop column price; alter table items alter stock type bigint",
    )
    shop.sql("f", "alter table items add column note text; update items set note = 'seen', name = 'first' where id = 1")
    shop.redis("f", "set", "greeting", "bye")


PARCELS = """
create table parcels (id serial primary key, orders bigint references orders on delete cascade, weight numeric(6, 2) not null check (weight > 0));
insert into parcels (orders, weight) select id, id + 0.5 from orders where id <= 100;
create index heavy on parcels (weight) where weight > 50;
comment on table parcels is 'sent';
create view sent as select p.id, o.item from parcels p join orders o on o.id = p.orders
"""
ALL = "select to_jsonb(x) from {0} x order by id"


def test_what_a_merge_destroyed_comes_back_while_orders_come_in(shop: Shop) -> None:
    shop.sql("production", PARCELS)
    before = schema(shop)
    parcels, prices = (
        shop.sql("production", ALL.format("parcels")),
        shop.sql("production", "select id, price from items order by id"),
    )
    destroy(shop)
    with Customers(shop) as customers:
        done = shop.merged()
        merged = schema(shop)
        customers.wait_for_more()
        shop.sql(
            "production",
            "insert into items (id, name, stock) values (51, 'new', 3); delete from items where id = 49 and not exists"
            " (select from orders where item = 49); update items set name = 'second' where id = 2",
        )
        back = shop.project.client.revert(done.entry)
        assert back.merged, back.conflicts
        customers.wait_for_more()
        assert in_any_order(schema(shop)) == in_any_order(before)
        assert shop.sql("production", ALL.format("parcels")) == parcels
        assert shop.sql("production", "select id, price from items where id <= 50 order by id") == prices
        assert (
            shop.sql("production", "select name, price from items where id in (1, 2, 51) order by id")
            == "item 1|1\nsecond|2\nnew|1"
        )
        shop.sql("production", "delete from items where id = 51")
        redone = shop.project.client.revert(back.entry)
        assert redone.merged, redone.conflicts
        assert in_any_order(schema(shop)) == in_any_order(merged)
        customers.wait_for_more()
        assert shop.project.client.revert(redone.entry).merged
        assert shop.sql("production", ALL.format("parcels")) == parcels
        assert shop.merged().entry
        assert in_any_order(schema(shop)) == in_any_order(merged)
        customers.wait_for_more()
    assert not customers.failures
    assert orders(shop) == customers.orders, "every order that was confirmed, and no other"
    assert shop.sql("production", "select stock from items where id = 50") == str(100 - len(customers.orders))


def in_any_order(dump: str) -> list[str]:
    """A column that came back is the last one of its table."""
    return sorted(line.strip().rstrip(",") for line in dump.splitlines())


def test_a_service_that_does_not_come_up_undoes_what_was_destroyed_too(shop: Shop) -> None:
    shop.sql("production", PARCELS)
    before, parcels = schema(shop), shop.sql("production", ALL.format("parcels"))
    destroy(shop)
    shop.sh("f", "echo 'grep -q \"no egress\" /etc/resolv.conf || exit 1' > /srv/app.sh", "web")  # breaks in production
    with Customers(shop) as customers:
        with pytest.raises(WyeError) as error:
            shop.merge()
        customers.wait_for_more()
    assert "undone" in error.value.message
    assert orders(shop) == customers.orders
    assert in_any_order(schema(shop)) == in_any_order(before)
    assert shop.sql("production", ALL.format("parcels")) == parcels
    assert shop.sql("production", "select price from items where id = 3") == "3"


def test_what_a_merge_destroyed_for_good_only_a_restore_brings_back(shop: Shop) -> None:
    shop.project.fork()
    shop.sql("f", "alter table items alter price type bigint using price * 2")
    shop.redis("f", "set", "greeting", "bye")
    done = shop.merged()
    before = shop.state()
    found = shop.project.client.revert(done.entry)
    (conflict,) = found.conflicts
    assert (conflict.kind, conflict.key, conflict.choices) == (
        "irreversible",
        ("alter table items alter price type bigint using price * 2",),
        (),
    )
    assert "wye restore production" in conflict.detail
    assert shop.state() == before
    revision = conflict.detail.split("wye restore production ")[1].split("'")[0]
    shop.project.client.restore("production", revision)
    shop.sh("production", "until pg_isready -q -U shop; do sleep 0.05; done", "db")
    assert shop.sql("production", "select price from items where id = 3") == "3"
    assert shop.redis("production", "get", "greeting") == "hello"


def test_what_a_fork_s_ddl_would_take_unseen_is_asked_about_and_comes_back(shop: Shop) -> None:
    shop.project.fork()
    shop.sql("f", "alter table items alter name type varchar(7) using name::varchar(7); alter table items drop price")
    shop.sql("f", "select setval('orders_id_seq', 3)")
    shop.sql("production", "update items set name = 'a long name', price = 700 where id = 7")
    by_id, before = "select id, name, price from items order by id", shop.state()
    items = shop.sql("production", by_id)
    found = shop.merge()
    assert not found.merged
    assert {(each.kind, each.place, each.choices) for each in found.conflicts} == {
        ("drop-vs-change", "postgres/shop/public.items", ("theirs",)),
        ("type-vs-change", "postgres/shop/public.items", ("theirs",)),
        ("sequence-set-back", "postgres/shop/public.orders_id_seq", ("ours",)),
    }
    assert shop.state() == before
    resolutions = {each.id: each.choices[0] for each in found.conflicts}
    with Customers(shop) as customers:
        done = shop.merged(resolutions=resolutions)
        customers.wait_for_more()
        assert shop.sql("production", "select name from items where id = 7") == "a long"
        back = shop.project.client.revert(done.entry)
        assert back.merged, back.conflicts
        customers.wait_for_more()
    assert not customers.failures
    assert orders(shop) == customers.orders
    assert shop.sql("production", by_id) == items
    found = shop.project.client.update("f")
    assert {each.kind for each in found.conflicts} == {"drop-vs-change", "type-vs-change", "sequence-set-back"}
    done = shop.project.client.update("f", resolutions={each.id: each.choices[0] for each in found.conflicts})
    assert done.merged, done.conflicts
    assert shop.sql("f", "select name from items where id = 7") == "a long"
