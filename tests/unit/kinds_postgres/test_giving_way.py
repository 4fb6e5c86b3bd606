"""Who begins again, how often, and what is said in the end."""

from __future__ import annotations

import psycopg
import pytest

from wye.errors import Unavailable
from wye.kinds.postgres.giving_way import GivingWay, told
from wye.kinds.postgres.write import Overtaken
from wye.merge.refused import Refused

QUICKER = [Overtaken("1 row"), psycopg.errors.SerializationFailure("moved to another partition\nmore")]


@pytest.mark.parametrize("error", QUICKER)
def test_rows_are_locked_after_somebody_was_quicker(error: Exception) -> None:
    way = GivingWay()
    assert not way.lock
    assert [way.begins_again(error) for _ in range(5)] == [True, True, True, False, False]
    assert way.lock


def test_a_deadlock_locks_no_more_than_before() -> None:
    way = GivingWay()
    assert way.begins_again(psycopg.errors.DeadlockDetected("x"))
    assert not way.lock


@pytest.mark.parametrize("error", [psycopg.errors.LockNotAvailable("x"), psycopg.errors.UniqueViolation("x")])
def test_who_does_not_begin_again(error: Exception) -> None:
    assert not GivingWay().begins_again(error)


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (QUICKER[0], "lock-timeout", "others keep writing the same rows, 4 times in a row: 1 row; merge again"),
        (psycopg.errors.LockNotAvailable("no lock\nwhere"), "lock-timeout", "no lock; merge again"),
        (psycopg.errors.DeadlockDetected("deadlock"), "lock-timeout", "deadlock; merge again"),
        (psycopg.errors.UniqueViolation("twice"), "not-applicable", "twice"),
    ],
)
def test_what_is_said(error: Exception, kind: str, detail: str) -> None:
    said = told(error, "postgres/shop", is_kept=False)
    assert isinstance(said, Refused)
    assert [(each.kind, each.place, each.detail) for each in said.conflicts] == [(kind, "postgres/shop", detail)]
    assert isinstance(told(error, "postgres/shop", is_kept=True), Unavailable)


def test_a_server_that_is_gone() -> None:
    assert isinstance(told(psycopg.OperationalError("gone"), "postgres/shop", is_kept=False), Unavailable)
