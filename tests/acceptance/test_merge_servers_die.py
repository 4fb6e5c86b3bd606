"""A database server that dies in the middle of a merge, the target's or the fork's: the merge is there wholly or not at
all, in every place, and says which; the next one finds nothing in its way."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest

from tests.acceptance.conftest import wait_until
from tests.acceptance.test_merge import COMPOSE, Shop, shop  # noqa: F401 - the fixture
from wye.api import wire
from wye.api.wire import MergeResult
from wye.errors import Unavailable, WyeError

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

RESTARTED = COMPOSE.replace("  db:\n", "  db:\n    restart: always\n").replace(
    "  cache:\n", "  cache:\n    restart: always\n"
)
STEPS = ("read", "rehearse", "apply", "stop", "start")


def look(shop: Shop, environment: str = "production") -> tuple[str, ...]:  # noqa: F811
    return (
        shop.sql(environment, "select string_agg(distinct price::text, ',') from items where id <= 20"),
        shop.redis(environment, "get", "greeting"),
        shop.sh(environment, "cat /docs/guide", "docs"),
    )


def change(shop: Shop, number: int) -> tuple[str, ...]:  # noqa: F811
    """What the fork looks like then."""
    shop.sql("f", f"update items set price = 1000 + {number} where id <= 20")
    shop.redis("f", "set", "greeting", f"hello {number}")
    shop.sh("f", f"echo {number} > /docs/guide", "docs")
    return look(shop, "f")


def merge(shop: Shop, environment: str, service: str, step: str) -> MergeResult | WyeError:  # noqa: F811
    """With the service killed when the merge says that it begins a step."""
    [pid] = [each.pid for each in shop.project.client.environment(environment).services if each.service == service]
    assert pid is not None
    killed = False

    def watch(progress: wire.Progress) -> None:
        nonlocal killed
        if progress.step == step and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True

    try:
        return shop.merge(progress=watch)
    except WyeError as error:
        return error
    finally:
        assert killed, f"no step {step}"


def up_again(shop: Shop, environment: str) -> None:  # noqa: F811
    def answers() -> bool:
        with suppress(WyeError, AssertionError):
            return look(shop, environment)[1] != "" and "LOADING" not in look(shop, environment)[1]
        return False

    wait_until(answers, patience_s=60)


def test_the_targets(shop: Shop) -> None:  # noqa: F811
    """Within the merge, wherever that has got to."""
    shop.up("production", RESTARTED)
    merged = 0
    for number, (service, step) in enumerate((each, step) for each in ("db", "cache") for step in STEPS):
        up_again(shop, "production")
        shop.project.fork()
        before, after = look(shop), change(shop, number)
        entries = len(shop.project.client.log("production").entries)
        found = merge(shop, "production", service, step)
        up_again(shop, "production")
        is_merged = isinstance(found, MergeResult) and found.merged
        assert look(shop) == (after if is_merged else before), (service, step, found)
        told = [entry.verb for entry in shop.project.client.log("production").entries]
        assert ("merge" in told[: len(told) - entries]) == is_merged, (service, step, found)
        if not is_merged:
            shop.merged()
            assert look(shop) == after
        merged += is_merged
        shop.project.client.discard("f")
    assert merged > 0, "a server that is started again is merged into"


def test_the_forks(shop: Shop) -> None:  # noqa: F811
    """Nobody starts it again while the merge has the fork, so it is not waited for."""
    shop.up("production", RESTARTED)
    shop.project.fork()
    before, after = look(shop), change(shop, 1)
    began = time.monotonic()
    found = merge(shop, "f", "db", "read")
    assert time.monotonic() - began < 30
    up_again(shop, "f")
    if isinstance(found, WyeError):  # it had begun to ask that server, and not a copy of it
        assert isinstance(found, Unavailable)
        assert look(shop) == before
        shop.merged()
    assert look(shop) == after
