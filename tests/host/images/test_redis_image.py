"""wye/redis behaves as the official image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.host, pytest.mark.timeout(900)]

SERVE = """
docker-entrypoint.sh $COMMAND > /tmp/log 2>&1 &
server=$!
for _ in $(seq 200); do redis-cli ${AUTH-} ping 2>/dev/null | grep -q PONG && break; sleep 0.02; done
bash -c "$1"
kill -TERM $server; wait $server; echo "ended: $?"
"""


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("redis-server", {"protected-mode": "no", "appendonly": "no", "dir": "/data"}),
        ("redis-server --appendonly yes", {"protected-mode": "no", "appendonly": "yes"}),
        ("--appendonly yes --maxmemory 10mb", {"appendonly": "yes", "maxmemory": "10485760"}),
        ("redis-server --protected-mode yes", {"protected-mode": "yes"}),
        ("/etc/mine.conf", {"protected-mode": "no", "maxmemory": "1048576"}),
        ("redis-server /etc/mine.conf --appendonly yes", {"protected-mode": "no", "appendonly": "yes"}),
        ("redis-server /etc/strict.conf", {"protected-mode": "yes"}),
    ],
)
def test_commands(inside: Callable[..., Any], command: str, settings: dict[str, str]) -> None:
    files = {"/etc/mine.conf": "maxmemory 1mb\n", "/etc/strict.conf": "# c\n\nprotected-mode yes"}
    container = inside("wye/redis", env={"COMMAND": command}, files=files)
    output = container.run(SERVE, "; ".join(f"redis-cli config get {name}" for name in settings))
    for name, value in settings.items():
        assert output[output.index(name) + 1] == value
    assert output[-1] == "ended: 0"


def test_data_is_kept_and_belongs_to_redis(inside: Callable[..., Any]) -> None:
    container = inside("wye/redis", env={"COMMAND": "redis-server --appendonly yes"})
    output = container.run(SERVE, "redis-cli set a 1; grep ^Uid /proc/$(pidof redis-server)/status; stat -c %u /data")
    assert output[:3] == ["OK", "Uid:\t999\t999\t999\t999", "999"]
    assert container.run(SERVE, "redis-cli get a; stat -c '%u %a' /data/appendonlydir")[:2] == ["1", "999 700"]


def test_a_volume_that_root_owns_is_taken_over(inside: Callable[..., Any]) -> None:
    container = inside("wye/redis", env={"COMMAND": "redis-server --appendonly yes"})
    container.run("mkdir /data/old; chown -R root:root /data; chmod 700 /data")
    assert container.run(SERVE, "redis-cli set a 1; stat -c %u /data /data/old")[:3] == ["OK", "999", "999"]


def test_other_commands_run_as_they_are(inside: Callable[..., Any]) -> None:
    assert inside("wye/redis").run("docker-entrypoint.sh redis-cli --version")[0].startswith("redis-cli 7")
