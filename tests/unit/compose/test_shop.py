"""A realistic project, whole: what a user's file becomes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from wye.compose.load import Loaded, Source, load
from wye.compose.nodes import ComposeError
from wye.model import Condition, ForkPolicy, Limits, Port, Restart, RestartPolicy

SHOP = Path(__file__).parent / "data/shop"


@pytest.fixture(scope="module")
def shop() -> Loaded:
    return load(Source(directory=SHOP))


def test_its_parts(shop: Loaded) -> None:
    assert shop.spec.project == "shop"
    assert set(shop.spec.services) == {"db", "cache", "web", "migrate", "worker"}
    assert {name for name, volume in shop.spec.volumes.items() if volume.imported_from is None} == {"orders", "cache"}
    assert [bind.path for bind in shop.binds] == [str(SHOP / "db")]
    assert shop.spec.fork == ForkPolicy(disk_bytes=20 << 30, limits=Limits(memory_bytes=2 << 30, pids=1000))
    assert shop.spec.settings == {
        "checks": '[{"http":{"path":"/health","port":8000,"service":"web","status":200}}]',
        "services.db.kind": '"postgres"',
    }


def test_its_database(shop: Loaded) -> None:
    db = shop.spec.services["db"]
    assert db.image == "postgres:16"
    assert db.environment["POSTGRES_PASSWORD"] == "pa$$word"
    assert db.healthcheck is not None
    assert db.healthcheck.test == ("/bin/sh", "-c", "pg_isready -U $POSTGRES_USER -d $POSTGRES_DB")
    assert db.limits.shm_bytes == 128 << 20
    assert db.restart == Restart(policy=RestartPolicy.UNLESS_STOPPED)
    assert [mount.target for mount in db.mounts] == ["/var/lib/postgresql/data", "/docker-entrypoint-initdb.d"]


def test_its_web_service(shop: Loaded) -> None:
    web = shop.spec.services["web"]
    assert web.build is not None
    assert (web.image, web.build.context, web.build.args) == (None, str(SHOP / "web"), {"REVISION": "dev"})
    assert web.environment == {
        "LOG_LEVEL": "info",
        "GREETING": "Hello from Wye Street",
        "DATABASE_URL": "postgres://shop:pa$$word@db:5432/shop",
        "REDIS_URL": "redis://cache:6379/0",
        "WORKERS": "4",
        "DEBUG": "",
    }
    assert web.ports == (Port(container=8000, host=8000),)
    assert {name: each.condition for name, each in web.depends_on.items()} == {
        "db": Condition.HEALTHY,
        "cache": Condition.HEALTHY,
        "migrate": Condition.COMPLETED,
    }
    assert [(file.target, file.mode) for file in web.files] == [
        ("/run/secrets/session_key", 0o440),
        ("/app/banner.txt", 0o444),
    ]
    assert base64.b64decode(web.files[1].content) == b"Welcome to Wye Street\n"
    assert (web.replicas, web.limits) == (2, Limits(cpus=1.5, memory_bytes=512 << 20, pids=200))


def test_its_workers(shop: Loaded) -> None:
    worker, migrate = shop.spec.services["worker"], shop.spec.services["migrate"]
    assert (worker.aliases, worker.egress) == (("jobs",), False)
    assert (migrate.command, migrate.restart, set(migrate.depends_on)) == (("python", "migrate.py"), Restart(), {"db"})
    assert migrate.build == worker.build


def test_what_the_user_is_told(shop: Loaded) -> None:
    assert [(notice.kind, notice.key) for notice in shop.notices] == [("import", "services.db.volumes[1]")]


def test_its_tools_are_a_profile() -> None:
    tools = load(Source(directory=SHOP, profiles=frozenset({"tools"})))
    assert tools.spec.services["adminer"].ports == (Port(container=8080, host=8080, host_ip="127.0.0.1"),)


def test_it_needs_its_password() -> None:
    with pytest.raises(ComposeError, match="is empty: put it in"):
        load(Source(directory=SHOP, environment={"POSTGRES_PASSWORD": ""}))


def test_it_loads_the_same_every_time(shop: Loaded) -> None:
    assert load(Source(directory=SHOP)) == shop
