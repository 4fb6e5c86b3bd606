"""Which DDL sets something that a revert has to set back."""

from __future__ import annotations

import pytest

from wye.kinds.postgres.ddl import AFTER, Statement
from wye.kinds.postgres.settings import sets_something


@pytest.mark.parametrize(
    ("sql", "sets"),
    [
        ("create table t.a (i int)", False),
        ("alter table t.a add column j int", False),
        ("comment on table t.a is 'x'", True),
        ("alter table t.a owner to shop", True),
        ("no statement at all", True),
    ],
)
def test_what_sets_something(sql: str, sets: bool) -> None:
    assert sets_something([Statement(sql=sql, stage=AFTER, role="shop", path="public")]) is sets
