from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wye.model import ForkPolicy, Limits

if TYPE_CHECKING:
    from conftest import Project


def test_what_a_fork_may_do(project: Project) -> None:
    top = "x-wye:\n  fork: {egress: true, disk: 20g, limits: {cpus: 2, memory: 1g, pids: 500}}\n"
    assert project.load(project.text("user: a", top)).spec.fork == ForkPolicy(
        egress=True, disk_bytes=20 << 30, limits=Limits(cpus=2, memory_bytes=1 << 30, pids=500)
    )


@pytest.mark.parametrize("top", ["", "x-wye:\n", "x-wye: {}\n", "x-wye: {fork: {}}\n", "x-other: {fork: 5}\n"])
def test_without_it_a_fork_may_do_nothing_much(project: Project, top: str) -> None:
    spec = project.load(project.text("user: a", top)).spec
    assert (spec.fork, spec.settings) == (ForkPolicy(), {})


def test_settings_of_other_rooms_pass_through_as_canonical_json(project: Project) -> None:
    top = """
    x-wye:
      kinds: [{sql: "select 1", n: 1, f: 0.5, on: true, off: , hex: 0x1f, zip: "007"}]
      policy: {b: 1, a: {d: 1, c: é}}
      merge: {table: {b: row, a.b: table}, delta: [b.c]}
    """
    settings = project.load(project.text("x-wye: {kind: postgres, merge: {x: 1}, exec: false}", top)).spec.settings
    assert settings == {
        "kinds": '[{"f":0.5,"hex":31,"n":1,"off":null,"on":true,"sql":"select 1","zip":"007"}]',
        "policy": '{"a":{"c":"é","d":1},"b":1}',
        "merge": '{"delta":["b.c"],"table":{"a.b":"table","b":"row"}}',
        "services.web.kind": '"postgres"',
        "services.web.merge": '{"x":1}',
        "services.web.exec": "false",
    }
    assert all(json.loads(text) is not ... for text in settings.values())


def test_equal_settings_are_equal_whatever_their_order(project: Project) -> None:
    one = project.load(project.text("user: a", "x-wye: {policy: {a: 1, b: [2]}}"))
    two = project.load(project.text("user: a", "x-wye:\n  policy:\n    b:\n    - 2\n    a: 1\n"))
    assert one.spec == two.spec


@pytest.mark.parametrize(
    ("top", "message", "hint"),
    [
        ("x-wye: {forks: {}}", "x-wye.forks: unknown key (compose.yaml:5)", "did you mean fork?"),
        ("x-wye: {fork: {egres: true}}", "x-wye.fork.egres: unknown key (compose.yaml:5)", "did you mean egress?"),
        ("x-wye: {fork: {disk: big}}",
         'x-wye.fork.disk: "big" is not a size; write it like 512m or 1.5g (compose.yaml:5)', None),
        ("x-wye: {fork: {limits: {cpu: 1}}}", "x-wye.fork.limits.cpu: unknown key (compose.yaml:5)",
         "did you mean cpus?"),
        ("x-wye: {merge: {tabel: {}}}", "x-wye.merge.tabel: unknown key (compose.yaml:5)", "did you mean table?"),
        ("x-wye: {merge: {table: {orders: rows}}}",
         'x-wye.merge.table.orders: must be cell, row or table, not "rows" (compose.yaml:5)', "did you mean row?"),
        ("x-wye: {merge: {delta: [total]}}",
         'x-wye.merge.delta[0]: "total" names no column (compose.yaml:5)', "write it as table.column"),
        ("x-wye: {merge: {delta: orders.total}}",
         'x-wye.merge.delta: must be a list, not a string (compose.yaml:5)', None),
        ("x-wye: {checks: [{run: a, sql: b}]}",
         "x-wye.checks[0]: a check needs one of run, http, sql, and no two (compose.yaml:5)", None),
        ("x-wye: {checks: [{run: a, timout: 5}]}", "x-wye.checks[0].timout: unknown key (compose.yaml:5)",
         "did you mean timeout?"),
        ("x-wye: {checks: [{run: a, timeout: 0}]}",
         "x-wye.checks[0].timeout: must be more than 0 and at most 86400 seconds (compose.yaml:5)", None),
        ("x-wye: {checks: [{http: {path: health, service: web}}]}",
         'x-wye.checks[0].http: "health" is no path of a request: it begins with / and has no spaces (compose.yaml:5)',
         None),
        ("x-wye: {checks: [{http: /health}]}",
         "x-wye.checks[0].http: names no service to ask (compose.yaml:5)", "add service: NAME"),
        ("x-wye: 5", "x-wye: must be a mapping, not an integer (compose.yaml:5)", None),
        ("volumes: {a: {x-wye: {}}}", "volumes.a.x-wye: means nothing here (compose.yaml:5)",
         "x-wye stands at the top and in services"),
    ],
)  # fmt: skip
def test_what_is_not_a_setting(project: Project, top: str, message: str, hint: str | None) -> None:
    error = project.refusal("user: a", top=top)
    assert (str(error), error.hint) == (message, hint)
