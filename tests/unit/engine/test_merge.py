"""What merge refuses before it looks at any bytes."""

from __future__ import annotations

import pytest
from tests.unit.engine.conftest import World

from wye.engine import fork, inspect, landing, merge, records, undoing
from wye.errors import Unsupported
from wye.interfaces import silent
from wye.model import PRODUCTION, State

COMPOSE = """
name: small
services:
  store: {image: wye/base, volumes: ["data:/data"]}
volumes: {data: {}}
"""


@pytest.mark.parametrize(
    ("image", "file", "name"),
    [("mysql:8.4", "data", "mysql"), ("mariadb", "data", "mariadb"), ("base", "ibdata1", "mysql")],
)
def test_a_database_that_nobody_can_merge_is_refused_by_name(world: World, image: str, file: str, name: str) -> None:
    world.up(COMPOSE.replace("base", image))
    fork.fork(world.engine, "production", "f", actor="test", report=silent)
    world.file("f", f"data/{file}").write_text("changed")
    before = records.require(world.engine, PRODUCTION)
    with pytest.raises(Unsupported, match=f"'store' runs {name}"):
        merge.merge(world.engine, "f", actor="test", report=silent)
    assert records.require(world.engine, PRODUCTION) == before
    assert not world.file("production", f"data/{file}").exists()


def test_a_bug_while_undoing_leaves_no_service_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are as they were and services run, though nothing could be recorded and not everything taken back."""

    def mistaken(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    world.up(COMPOSE)
    world.file("production", "data/kept").write_text("before")
    fork.fork(world.engine, "production", "f", actor="test", report=silent)
    world.file("f", "data/kept").write_text("after")
    monkeypatch.setattr(landing, "_record", mistaken)
    monkeypatch.setattr(undoing, "take_back", mistaken)
    with pytest.raises(landing.Unwound, match="could not be taken back wholly: RuntimeError: a mistake"):
        merge.merge(world.engine, "f", actor="test", report=silent)
    assert world.file("production", "data/kept").read_text() == "before"
    view = inspect.describe(world.engine, "production")
    assert {each.state for each in view.services} == {State.RUNNING}
