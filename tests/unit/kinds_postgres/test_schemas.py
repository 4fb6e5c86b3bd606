"""Three-way merge of schemas as dictionaries, and changes as stored values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wye.errors import BadRequest, NotFound
from wye.kinds.postgres.catalog import difference, digest, merge_schemas
from wye.kinds.postgres.changes import DatabaseChanges, SequenceChange, TableChanges, from_json, stat, to_json
from wye.kinds.postgres.ddl import Statement
from wye.kinds.postgres.refuse import refusal
from wye.merge.refused import Refused

SCHEMAS = st.dictionaries(st.sampled_from(["table a", "table b", "column a.x"]), st.sampled_from(["1", "2", "3"]))


def test_both_change_one_object() -> None:
    expected, conflicts = merge_schemas({"t": "1", "v": "1"}, {"t": "2", "v": "1"}, {"t": "3", "v": "2", "w": "1"})
    assert (expected, conflicts) == ({"v": "2", "w": "1"}, ["t"])


def test_dropped_and_changed() -> None:
    assert merge_schemas({"t": "1"}, {"t": "2"}, {})[1] == ["t"]
    assert merge_schemas({"t": "1"}, {}, {"t": "2"})[1] == ["t"]
    assert merge_schemas({"t": "1"}, {}, {}) == ({}, [])


@given(SCHEMAS, SCHEMAS)
def test_an_unchanged_side_gives_the_other(base: dict[str, str], other: dict[str, str]) -> None:
    for ours, theirs in ((base, other), (other, base), (other, other)):
        assert merge_schemas(base, ours, theirs) == (other, [])


@given(SCHEMAS, SCHEMAS)
def test_digest_and_difference_agree(a: dict[str, str], b: dict[str, str]) -> None:
    assert (digest(a) == digest(b)) == (a == b) == (difference(a, b) == [])


CHANGES = DatabaseChanges(
    database="app",
    ddl=(Statement(sql="create table t ()", stage="before", role="app", path=""),),
    tables=(
        TableChanges(
            table="public.t",
            columns=("id", "a", "b"),
            key=("id",),
            deletes=(("1", None, "ü"),),
            updates=((("2", "x", "y"), ("2", "x", "z")),),
        ),
        TableChanges(table="public.k", columns=("a",), key=(), deletes=(("1",),), counts=((("1",), 3),)),
    ),
    sequences=(SequenceChange(name="public.s", value=2**62, increment=1),),
    base={"table t": "1"},
)


def test_changes_survive_storage() -> None:
    again = from_json(to_json(CHANGES))
    assert again == CHANGES
    assert again.id == CHANGES.id
    assert again
    assert not DatabaseChanges(database="app")


def test_changes_that_an_older_version_stored() -> None:
    statement = b'{"sql": "drop table t", "stage": "before", "role": "app", "path": ""}'
    table = b'{"table": "t.a", "columns": ["id"], "key": ["id"]}'
    changes = from_json(b'{"database": "app", "ddl": [' + statement + b'], "tables": [' + table + b"]}")
    assert (changes.ddl[0].dialect, changes.tables[0].was, changes.tables[0].renamed) == ((), "", ())


def test_what_is_no_change() -> None:
    for data in (b"{}", b"[]", b"not json", b'{"database": 3}'):
        with pytest.raises(BadRequest):
            from_json(data)


def test_stat() -> None:
    first = stat(CHANGES)["tables"][0]
    assert (first["table"], first["deleted"], first["updated"], first["columns"]) == ("public.t", 1, 1, ["b"])
    with pytest.raises(NotFound):
        CHANGES.table("public.x")


def test_a_refusal_names_the_first_and_counts_the_rest() -> None:
    error = Refused([refusal("roles", "postgres", "changed", key=(name,)) for name in "abcde"])
    assert error.message.startswith("5 conflicts: roles postgres(a): changed; ")
    assert error.message.endswith("; and 2 more")
    assert error.hint is None
