"""Settings: by service, by field, by variable, by mount."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wye.merge.conflict import Decisions, Resolution, Side
from wye.merge.spec import merge_spec


def web(**fields: Any) -> dict[str, Any]:
    return {"services": {"web": fields}}


def merged(base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    result, conflicts = merge_spec(base, ours, theirs)
    assert conflicts == []
    return result


def test_variables_merge_one_by_one() -> None:
    assert merged(
        web(environment={"A": "1", "B": "1", "C": "1"}),
        web(environment={"A": "2", "B": "1", "C": "1"}),
        web(environment={"A": "1", "C": "2", "D": "1"}),
    ) == web(environment={"A": "2", "C": "2", "D": "1"})


def test_mounts_merge_by_target_and_ports_by_container_port() -> None:
    data, logs = {"target": "/data", "source": "d"}, {"target": "/logs", "source": "l"}
    assert merged(web(mounts=[data]), web(mounts=[{**data, "read_only": True}]), web(mounts=[data, logs])) == web(
        mounts=[{**data, "read_only": True}, logs]
    )
    http, https = {"container": 80, "protocol": "tcp", "host": 1}, {"container": 443, "protocol": "tcp", "host": 2}
    assert merged(web(ports=[http]), web(ports=[http, https]), web(ports=[])) == web(ports=[https])


def test_sets_merge_and_commands_do_not() -> None:
    assert merged(web(cap_add=["A"]), web(cap_add=["A", "B"]), web(cap_add=["A", "C"])) == web(cap_add=["A", "B", "C"])
    _, conflicts = merge_spec(web(command=["a"]), web(command=["a", "b"]), web(command=["a", "c"]))
    assert [(c.key, c.column, c.ours, c.theirs) for c in conflicts] == [
        (("services", "web"), "command", ["a", "b"], ["a", "c"])
    ]


def test_services_come_and_go() -> None:
    base = {"services": {"a": {"image": "1"}, "b": {"image": "1"}}}
    ours = {"services": {"a": {"image": "1"}, "b": {"image": "1"}, "c": {"image": "1"}}}
    theirs = {"services": {"b": {"image": "2"}, "d": {"image": "1"}}}
    assert merged(base, ours, theirs) == {"services": {"b": {"image": "2"}, "c": {"image": "1"}, "d": {"image": "1"}}}


def test_delete_against_change() -> None:
    base, ours, theirs = web(image="1"), web(image="2"), {"services": {}}
    _, (conflict,) = merge_spec(base, ours, theirs)
    assert (conflict.kind, conflict.theirs) == ("delete/update", None)
    resolved, _ = merge_spec(base, ours, theirs, Decisions({conflict.id: Resolution(side=Side.THEIRS)}))
    assert resolved == {"services": {}}


def test_null_is_not_absence() -> None:
    assert merged({"a": None}, {"a": None}, {}) == {}
    assert merged({}, {}, {"a": None}) == {"a": None}


VALUES = st.recursive(
    st.none() | st.sampled_from(["x", "y", 2, 3]),
    lambda inner: (
        st.lists(st.sampled_from(["x", "y"]), max_size=2)
        | st.dictionaries(st.sampled_from(["a", "b", "cap_add"]), inner, max_size=3)
    ),
    max_leaves=6,
)
SPECS = st.dictionaries(st.sampled_from(["a", "b", "cap_add"]), VALUES, max_size=3)


@given(SPECS, SPECS)
def test_an_unchanged_side_gives_the_other(base: dict[str, Any], other: dict[str, Any]) -> None:
    assert merged(base, base, other) == other
    assert merged(base, other, base) == other
    assert merged(base, other, other) == other


@given(SPECS, SPECS, SPECS)
def test_conflicts_are_symmetric_and_can_be_resolved(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    there, back = merge_spec(a, b, c)[1], merge_spec(a, c, b)[1]
    assert {(*x.key, x.column) for x in there} == {(*x.key, x.column) for x in back}
    for side in (Side.OURS, Side.THEIRS):
        decisions = Decisions({x.id: Resolution(side=side) for x in there})
        assert merge_spec(a, b, c, decisions)[1] == []
