"""What merge refuses before it looks at any bytes."""

from __future__ import annotations

import pytest
from tests.unit.engine.conftest import World

from wye.engine import fork, merge, records
from wye.errors import Unsupported
from wye.interfaces import silent
from wye.model import PRODUCTION

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
