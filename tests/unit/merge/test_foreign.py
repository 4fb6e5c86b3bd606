"""Files in a database's directory that are none of the server's."""

from __future__ import annotations

import pytest

from wye.merge.foreign import SHOWN, is_passing, refusals


def test_each_file_is_told_and_no_directory_above_it() -> None:
    found = refusals("redis cache", ["conf.d", "conf.d/a", "conf.d/b", "users.acl", "empty"])
    assert [conflict.key[0] for conflict in found] == ["conf.d/a", "conf.d/b", "empty", "users.acl"]
    assert {(conflict.kind, conflict.place, conflict.choices) for conflict in found} == {
        ("foreign-file", "redis cache", frozenset())
    }


def test_very_many_are_not_told_one_by_one() -> None:
    assert len(refusals("postgres", map(str, range(10_000)))) == SHOWN


@pytest.mark.parametrize(
    ("path", "expected"), [(".psql_history", True), ("a/.bash_history", True), ("history", False), ("a.sql", False)]
)
def test_what_a_shell_leaves_says_nothing(path: str, expected: bool) -> None:
    assert is_passing(path) is expected
