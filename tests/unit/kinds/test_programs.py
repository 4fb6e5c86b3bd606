"""Whose server an image has: found along its own PATH, inside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wye.host import Host
from wye.kinds.postgres.volume import PostgresVolume
from wye.kinds.redis.volume import RedisVolume

PATH = "/usr/local/bin:/usr/bin"


def put(rootfs: Path, *names: str) -> Path:
    for name in names:
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / name).touch(0o755)
    return rootfs


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["usr/bin/redis-server"], "redis-server"),
        (["usr/local/bin/valkey-server"], "valkey-server"),
        (["usr/local/bin/valkey-server", "usr/local/bin/redis-server"], "valkey-server"),
        (["opt/redis-server"], None),
        ([], None),
    ],
)
def test_redis_or_valkey(tmp_path: Path, names: list[str], found: str | None) -> None:
    assert RedisVolume(Host()).program(put(tmp_path, *names), PATH) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [("usr/local/bin/postgres", "postgres"), ("usr/lib/postgresql/17/bin/postgres", "postgres"), ("postgres", None)],
)
def test_postgres(tmp_path: Path, name: str, found: str | None) -> None:
    assert PostgresVolume(Host()).program(put(tmp_path, name), PATH) == found


def test_a_link_leads_to_a_place_in_the_image(tmp_path: Path) -> None:
    rootfs = put(tmp_path / "rootfs", "opt/redis-server")
    put(tmp_path, "outside")
    (rootfs / "usr/bin").mkdir(parents=True)
    (rootfs / "usr/bin/redis-server").symlink_to("/opt/redis-server")
    (rootfs / "usr/bin/valkey-server").symlink_to("../../../outside")
    assert RedisVolume(Host()).program(rootfs, PATH) == "redis-server"
