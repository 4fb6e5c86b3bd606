"""What a fork's DDL takes from values that it has not seen: somebody decides, and what went can come back."""

# ruff: noqa: E501 - SQL reads better on long lines than cut into pieces
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from wye.kinds.postgres.apply import Options
from wye.kinds.postgres.changes import stat
from wye.merge.conflict import Resolution, Side
from wye.merge.refused import Refused

pytestmark = pytest.mark.host

APP = "postgres"
SETUP = [
    "create schema t",
    "create table t.price (id serial primary key, amount numeric(10,2), code text)",
    "insert into t.price (amount, code) select n, 'code ' || n from generate_series(1, 20) n",
    "create table t.old (id int primary key, note text)",
    "insert into t.old values (1, 'a')",
]
ROWS = "select id, amount::text, code from t.price order by id"


@pytest.fixture
def production(rig: Any) -> Iterator[Any]:
    site = rig.create()
    site.run(APP, SETUP)
    yield site
    site.discard()
    rig.sweep()


def changes_of(rig: Any, production: Any, statements: list[str], since: list[str]) -> Any:
    """Of a fork that ran `statements`, while production ran those of `since`."""
    fork = rig.fork(production)
    fork.run(APP, statements)
    (changes,) = rig.diff(fork)
    fork.discard()
    production.run(APP, since)
    return changes


def conflict_of(rig: Any, production: Any, changes: Any, resolutions: Any = None) -> Any:
    """The only one; the target is then as it was."""
    before = rig.servers.dump(production.server, APP)
    with pytest.raises(Refused) as error:
        rig.apply(production, changes, None, resolutions)
    assert rig.servers.dump(production.server, APP) == before
    (conflict,) = error.value.conflicts
    return conflict


TAKEN = {
    "rounded": (["alter table price alter amount type int"], "update price set amount = 7.5 where id = 7",
                "type-vs-change", ("amount",), "select amount from t.price where id = 7", 8),
    "renamed and rounded": (["alter table price rename to cost", "alter table cost rename amount to sum", "alter table cost alter sum type int"],
                            "update price set amount = 7.5 where id = 7", "type-vs-change", ("sum",), "select sum from t.cost where id = 7", 8),
    "made by an expression": (["alter table price alter amount type int using amount * 100"], "update price set amount = 7.5 where id = 7",
                              "type-vs-change", ("amount",), "select amount from t.price where id = 7", 750),
    "made of each other": (["alter table price alter amount type int using length(code), alter code type text using amount::text"],
                           "update price set amount = 7.5 where id = 7", "type-vs-change", ("amount",), "select code from t.price where id = 7", "7.50"),
    "a column dropped": (["alter table price drop column code"], "update price set code = 'new' where id = 7",
                         "drop-vs-change", ("code",), "select count(*) from t.price", 20),
    "a table dropped": (["drop table old"], "insert into old values (2, 'b')",
                        "drop-vs-change", ("id", "note"), "select to_regclass('t.old') is null", True),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "since", "kind", "key", "query", "value"), TAKEN.values(), ids=TAKEN)
def test_somebody_decides_that_it_goes(
    rig: Any,
    production: Any,
    statements: list[str],
    since: str,
    kind: str,
    key: tuple[str, ...],
    query: str,
    value: Any,
) -> None:
    changes = changes_of(rig, production, statements, [since])
    conflict = conflict_of(rig, production, changes)
    assert (conflict.kind, conflict.key, conflict.choices) == (kind, key, frozenset({Side.THEIRS}))
    assert conflict_of(rig, production, changes, {conflict.id: Resolution(side=Side.OURS)}).id == conflict.id
    theirs = {conflict.id: Resolution(side=Side.THEIRS)}
    assert rig.apply(production, changes, Options(dry_run=True), theirs).settled == {conflict.id}
    rig.apply(production, changes, None, theirs)
    assert production.query(APP, query) == [(value,)]


@pytest.mark.parametrize("name", ["rounded", "renamed and rounded", "a column dropped", "a table dropped"])
def test_what_somebody_gave_up_comes_back(rig: Any, production: Any, name: str) -> None:
    """Unless it was written after the snapshot that it would come from."""
    statements, since, *_ = TAKEN[name]
    changes = changes_of(rig, production, statements, [since])
    conflict = conflict_of(rig, production, changes)
    theirs = {conflict.id: Resolution(side=Side.THEIRS)}
    before = rig.snapshot(production)
    rows = production.query(APP, ROWS), production.query(APP, "select * from t.old order by 1")
    undo = rig.apply(production, changes, None, theirs).undo
    rig.apply(production, rig.with_lost(undo, before))
    assert (production.query(APP, ROWS), production.query(APP, "select * from t.old order by 1")) == rows

    before = rig.snapshot(production)
    production.run(
        APP, ["update price set amount = 3.5, code = 'late' where id = 3", "insert into old values (3, 'late')"]
    )
    undo = rig.with_lost(rig.apply(production, changes, None, theirs).undo, before)
    assert conflict_of(rig, production, undo).kind == "irreversible"


def test_types_that_keep_all_values_cost_the_target_nothing(rig: Any, production: Any) -> None:
    """What writes no file anew is not looked for in production."""
    widen = ["alter table price alter code type varchar, alter amount type numeric(12,2)"]
    changes = changes_of(rig, production, widen, ["update price set code = 'new', amount = 7.5 where id = 7"])
    assert [statement.losses for statement in changes.ddl] == [()]
    rig.apply(production, changes)
    assert production.query(APP, "select code, amount::text from t.price where id = 7") == [("new", "7.50")]


def test_values_mended_before_their_type_is_changed(rig: Any, production: Any) -> None:
    """Only their own merge makes the statement run on what the target has."""
    fork = rig.fork(production)
    fork.run(APP, ["update price set code = id", "alter table price alter code type int using code::int"])
    with pytest.raises(Refused) as error:
        rig.diff(fork)
    fork.discard()
    (conflict,) = error.value.conflicts
    assert conflict.kind == "ddl-not-replayable"
    assert "merge their change first" in conflict.detail


def test_types_given_by_an_older_version(rig: Any, production: Any) -> None:
    """Changes that were read before losses were measured are merged as they were then."""
    changes = changes_of(rig, production, TAKEN["rounded"][0], [TAKEN["rounded"][1]])
    rig.apply(production, replace(changes, ddl=tuple(replace(each, losses=()) for each in changes.ddl)))
    assert production.query(APP, "select amount from t.price where id = 7") == [(8,)]


def test_a_sequence_set_back_stays_where_it_is(rig: Any, production: Any) -> None:
    changes = changes_of(rig, production, ["delete from price", "select setval('price_id_seq', 1, false)"], [])
    assert stat(changes)["sequences"] == {"t.price_id_seq": 0}
    assert stat(changes)["sequences_set_back"]["t.price_id_seq"] > 100_000
    conflict = conflict_of(rig, production, changes)
    assert (conflict.kind, conflict.place, conflict.ours, conflict.theirs, conflict.choices) == (
        "sequence-set-back", "postgres/postgres/t.price_id_seq", 20, 0, frozenset({Side.OURS})
    )  # fmt: skip
    rig.apply(production, changes, None, {conflict.id: Resolution(side=Side.OURS)})
    assert production.query(APP, "select nextval('t.price_id_seq'), count(*) from t.price") == [(21, 0)]


def test_a_sequence_made_again_goes_on_where_it_was(rig: Any, production: Any) -> None:
    statements = ["alter table price alter id drop default", "drop sequence price_id_seq",
                  "create sequence price_id_seq owned by price.id", "alter table price alter id set default nextval('price_id_seq')"]  # fmt: skip
    changes = changes_of(rig, production, [*statements, "alter table price add note text"], [])
    conflict = conflict_of(rig, production, changes)
    assert (conflict.kind, conflict.ours, conflict.theirs) == ("sequence-set-back", 20, 0)
    rig.apply(production, changes, None, {conflict.id: Resolution(side=Side.OURS)})
    assert production.query(APP, "select nextval('t.price_id_seq')") == [(21,)]


def test_a_sequence_that_recovery_moved_on_was_not_set_back(rig: Any, production: Any) -> None:
    """A fork that is merged again is compared with its own bytes, of a moment when it was running."""
    fork = rig.fork(production)
    fork.run(APP, "insert into price (code) values ('one')")
    fork.base = rig.snapshot(fork)
    fork.run(APP, "insert into price (code) values ('two')")
    (changes,) = rig.diff(fork)
    assert stat(changes)["sequences_set_back"] == {}
    rig.apply(production, changes)
    fork.run(APP, "select setval('price_id_seq', 5)")
    (changes,) = rig.diff(fork)
    fork.discard()
    assert stat(changes)["sequences"] == {"t.price_id_seq": 5}
    assert conflict_of(rig, production, changes).kind == "sequence-set-back"
