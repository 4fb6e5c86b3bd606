"""Many statements of DDL in one fork: the net that looks for what no dictionary shows finds nothing in them, and finds
what was hidden from the log among them.

The statements are those of `test_alone`, in one database and in several orders, so that they meet each other: what one
makes, another renames, moves, gives away or drops. Some cannot run any more then, which is no matter.
"""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.host.kinds_postgres.test_alone import CASES, world

from wye.kinds.postgres.session import LOG_SCHEMA
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

ORDERS = [pytest.param(seed, marks=[pytest.mark.slow] if seed > 2 else []) for seed in range(12)]
RAN = 100
"""So many statements at least have to have had an effect."""


@pytest.fixture(scope="module")
def production(rig: Any) -> Iterator[Any]:
    site = world(rig)
    yield site
    site.discard()


@pytest.fixture
def base(rig: Any, production: Any) -> Any:
    return rig.base(production)


@pytest.fixture
def fork(rig: Any, base: Any) -> Iterator[Any]:
    site = rig.start(base)
    yield site
    site.discard()


def schema_of(rig: Any, site: Any) -> list[str]:
    """As pg_dump prints it, in no order."""
    blocks = rig.servers.dump(site.server, "world", "--schema-only").split("\n--\n-- Name: ")
    return sorted(each for each in blocks if LOG_SCHEMA not in each.partition("\n")[0])


@pytest.mark.parametrize("seed", ORDERS)
def test_mixed(rig: Any, base: Any, fork: Any, seed: int) -> None:
    cases = [each for each in CASES if not each.refused and each.since <= rig.version]
    # A table's rows are not merged past a trigger that fires for replicas.
    cases = [each for each in cases if not re.search("enable (always|replica) trigger", each.statement)]
    random.Random(seed).shuffle(cases)
    ran = 0
    for case in cases:
        with contextlib.suppress(psycopg.Error):
            fork.run("world", [case.before, case.statement])
            ran += 1
    assert ran >= RAN, ran
    (changes,) = rig.diff(fork)
    target = rig.start(base)
    try:
        rig.apply(target, changes)
        assert schema_of(rig, target) == schema_of(rig, fork)
    finally:
        target.discard()


HIDDEN = "set session_replication_role = replica"
ORDINARY = ["create materialized view sums as select sum(stock) from item", "alter table item add column note text", "create table fresh (id serial primary key, at date default now())",
            "drop view v", "create index on item (label)", "alter type size add value 'l'"]  # fmt: skip
SHOWN_NOWHERE = {
    "a function's cost": ("alter function public.hstore(text, text) cost 100", "public.hstore(pg_catalog.text,pg_catalog.text)"),
    "the server's function": ("alter function pg_catalog.pg_sleep(double precision) volatile cost 9", "pg_catalog.pg_sleep(double precision)"),
    "a comment": ("comment on function pg_catalog.now() is 'said'", "pg_catalog.now()"),
    "an owner": ("alter operator public.-> (public.hstore, text) owner to clerk", "public.->(public.hstore,pg_catalog.text)"),
}  # fmt: skip


@pytest.mark.parametrize(("statement", "name"), SHOWN_NOWHERE.values(), ids=SHOWN_NOWHERE)
@pytest.mark.parametrize("rows", [False, True], ids=["", "DDL that has to wait for rows"])
def test_hidden_among_other_ddl(rig: Any, fork: Any, statement: str, name: str, rows: bool) -> None:
    fork.run("world", ORDINARY)
    if rows:
        fork.run("world", ["update item set note = label", "alter table item alter note set not null"])
    (changes,) = rig.diff(fork)
    assert changes.ddl_first is not rows
    fork.run("world", [HIDDEN, statement])
    with pytest.raises(Refused) as error:
        rig.diff(fork)
    assert [(each.kind, each.key, each.choices) for each in error.value.conflicts] == [
        ("unshown-ddl", (name,), frozenset())
    ]


def test_hidden_from_a_log_that_was_switched_off(rig: Any, fork: Any) -> None:
    fork.run("world", [*ORDINARY, "alter event trigger _wye_end disable",
                       "alter function public.hstore(text, text) cost 100", "alter event trigger _wye_end enable"])  # fmt: skip
    with pytest.raises(Refused) as error:
        rig.diff(fork)
    assert {each.kind for each in error.value.conflicts} == {"unshown-ddl"}


def test_hidden_and_waiting_for_rows(rig: Any, fork: Any) -> None:
    """What the dictionary does show is missed too where the replay is cut in two."""
    fork.run("world", ["update item set label = null", "update item set label = 'x'", "update item set stock = id",
                       "alter table item add column a int", "update item set a = 1", "alter table item alter a set not null",
                       HIDDEN, "comment on trigger noting on item is 'said'"])  # fmt: skip
    with pytest.raises(Refused) as error:
        rig.diff(fork)
    assert {each.kind for each in error.value.conflicts} == {"schema-log-incomplete"}


VALUES = {
    "an owner": ["alter type size add value 'l'", "alter type size owner to clerk"],
    "another name": ["alter type size add value 'l' before 'm'", "alter type size rename value 's' to 'small'"],
    "none": ["alter type size add value 'l'", "drop type size"],
}


@pytest.mark.parametrize("statements", VALUES.values(), ids=VALUES)
def test_a_type_with_a_new_value_and_more(rig: Any, base: Any, fork: Any, statements: list[str]) -> None:
    """The value is committed ahead of the rest, and is no change of the target's own then; not even if a merge that was
    refused has left it behind."""
    fork.run("world", [*statements, "alter table item alter label set not null"])
    (changes,) = rig.diff(fork)
    target = rig.start(base)
    try:
        target.run("world", "insert into item (label) values (null)")
        with pytest.raises(Refused):
            rig.apply(target, changes)
        target.run("world", "delete from item where label is null")
        rig.apply(target, changes)
        assert schema_of(rig, target) == schema_of(rig, fork)
    finally:
        target.discard()
