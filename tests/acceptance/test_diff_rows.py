"""Rows of environments that do not come of each other: each of them has written what is not yet in its files."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.conftest import Project

pytestmark = [pytest.mark.host, pytest.mark.timeout(180)]

COMPOSE = """
name: rows
services:
  db:
    image: wye/postgres
    environment: {POSTGRES_PASSWORD: x}
    volumes: ["db:/var/lib/postgresql/data"]
    healthcheck: {test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, postgres], interval: 1s, retries: 60}
volumes: {db: {}}
"""


def sql(project: Project, environment: str, statements: str) -> None:
    argv = ["psql", "-U", "postgres", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    done = project.client.exec(environment, argv, service="db", stdin=statements.encode())
    assert done.exit_code == 0, done.stderr.decode()


def updates(project: Project, environment: str, against: str) -> dict[str, Any]:
    """Changed cells by key."""
    (store,) = project.client.diff(environment, against=against).stores
    assert not store.refused
    (database,) = store.page["databases"]
    (table,) = database["tables"]
    assert {row["change"] for row in table["rows"]} == {"update"}
    return {row["key"]["id"]: row["cells"] for row in table["rows"]}


def test_what_each_side_changed(project: Project) -> None:
    directory = project.directory / "production"
    directory.mkdir(exist_ok=True)
    (directory / "compose.yaml").write_text(COMPOSE)
    project.client.up(directory, name="production", environment={})
    rows = "insert into item select n, 'old' from generate_series(1, 20000) n"
    sql(project, "production", f"create table item (id int primary key, v text); {rows}; vacuum item; checkpoint")
    project.fork("f")
    project.fork("g")
    sql(project, "production", "update item set v = 'production' where id = 10")
    sql(project, "f", "update item set v = 'f' where id = 10000")
    sql(project, "g", "update item set v = 'g' where id = 19000")
    f, g = {"10000": {"v": ["old", "f"]}}, {"19000": {"v": ["g", "old"]}}
    assert updates(project, "f", "g") == f | g
    assert updates(project, "f", "production") == {"10": {"v": ["production", "old"]}} | f
