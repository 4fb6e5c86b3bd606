"""kill -9 of the daemon while it makes a fork's databases ready: the fork is there, and begins anew. Until the snapshot
that ends this, its server syncs nothing, and what a power failure left of its bytes would not be trusted either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.inventory import inventory
from tests.crash.test_kill_everywhere import Stage, discard_if_there, same_as, staged
from wye.errors import WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(900)]

COMPOSE = """
name: crash
services:
  db:
    image: wye/postgres
    environment: {POSTGRES_PASSWORD: crash, POSTGRES_HOST_AUTH_METHOD: trust}
    command: ["postgres", "-c", "shared_buffers=16MB", "-c", "max_connections=20"]
    volumes: ["data:/var/lib/postgresql/data"]
    healthcheck: {test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, postgres], interval: 1s, retries: 60}
volumes: {data: {}}
"""
LABELS = ("fork:prepare", "postgres:unsynced:reload", "fork:base", "fork:synced")


@pytest.fixture
def stage(test_root: Path, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    with staged(test_root, tmp_path) as made:
        yield made


def test_a_fork_whose_databases_were_not_ready(stage: Stage) -> None:
    def query(name: str, sql: str) -> str:
        found = stage.running.client.exec(name, ["psql", "-U", "postgres", "-Atc", sql], service="db")
        assert found.exit_code == 0, found
        return found.text.strip()

    stage.running.client.up(stage.project, environment={})
    query("production", "create table t (n int primary key); insert into t values (1)")
    before = inventory(stage.running)
    for label in LABELS:
        client = stage.restart(f"kill:{label}")
        with stage.arm(), contextlib.suppress(WyeError):
            client.fork("production", "f")
        assert stage.running.wait_for_death(10) == -9, f"the daemon did not reach {label}"
        client = stage.start(f"record:{stage.labels}")
        assert not client.environment("f").awake
        assert query("f", "select n from t") == "1"
        assert query("f", "show fsync") == "on"
        root = stage.running.root / "pool/environments" / client.environment("f").id
        assert not (root / ".wye-unsynced").exists()
        assert b"fsync" not in (root / "volumes/data/postgresql.auto.conf").read_bytes()
        query("f", "insert into t values (2)")
        (store,) = client.diff("f").stores
        assert store.stat["databases"][0]["tables"], "what was done in it since it was ready"
        discard_if_there(client, "f")
        client.collect()
        same_as(stage, before, f"after dying at {label}")
