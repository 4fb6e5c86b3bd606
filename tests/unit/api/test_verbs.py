"""Every verb, from the SDK through the socket into the engine and back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from wye.api import wire
from wye.errors import BadRequest, Conflict, Denied, NotFound

if TYPE_CHECKING:
    Served = Any


def test_version(served: Served) -> None:
    assert served.client.version() == wire.Version(version="0.1.0", api=1)


def test_a_fork_from_up_to_discard(shop: Served) -> None:
    client = shop.client
    made = client.fork("production", "fix-1")
    assert [each.name for each in made.environments] == ["fix-1"]
    assert [each.name for each in client.environments()] == ["production", "fix-1"]
    fork = client.environment("fix-1")
    assert (fork.source, fork.origin, fork.services[0].state) == ("production", made.revision, "running")
    assert client.ports("fix-1", "web", 8000)[0].host_port != client.ports("production", "web", 8000)[0].host_port
    assert client.discard("fix-1").verb == "discard"
    with pytest.raises(NotFound):
        client.environment("fix-1")
    assert [each.verb for each in client.log("fix-1").entries] == ["discard", "fork"]


def test_several_forks_at_once(shop: Served) -> None:
    made = shop.client.fork("production", "fix", count=3, asleep=True)
    assert [each.name for each in made.environments] == ["fix-1", "fix-2", "fix-3"]
    assert not any(each.awake for each in made.environments)


def test_services_stop_and_start(shop: Served) -> None:
    client = shop.client
    seen: list[wire.Progress] = []
    assert client.stop("production", ["web"], progress=seen.append).services[0].state == "stopped"
    assert [(each.step, each.subject) for each in seen] == [("stop", "web (up to 10 s)")]
    assert client.start("production", ["web"]).services[0].state == "running"
    assert client.restart("production").services[0].state == "running"
    assert client.sleep("production").awake is False
    assert client.wake("production").awake is True
    assert client.down("production").awake is False


def test_history(shop: Served) -> None:
    client = shop.client
    taken = client.snapshot("production", "before the sale")
    log = client.log("production", verify=True)
    assert log.verified is True
    assert [(each.verb, each.message) for each in log.entries][:1] == [("snapshot", "before the sale")]
    assert client.show(log.entries[0].id).revision == taken.revision
    assert client.restore("production", taken.revision).name == "production"
    assert client.rename("production", "main").name == "main"
    difference = client.diff("main", against=taken.revision)
    assert (difference.spec, difference.files) == ((), ())


def test_diff_names_a_changed_file(shop: Served) -> None:
    client = shop.client
    fork = client.fork("production", "fix-1").environments[0]
    layer = shop.engine.volumes.environment_path(fork.id) / "layers" / "web" / "upper"
    layer.mkdir(parents=True, exist_ok=True)
    (layer / "x.txt").write_text("hello")
    found = client.diff("fix-1")
    assert [(each.change, each.path) for each in found.files if each.path.endswith("x.txt")] == [("added", "/x.txt")]


def test_up_tells_its_progress_before_it_returns(served: Served) -> None:
    seen: list[wire.Progress] = []
    served.up("name: shop\nservices: {web: {image: any, command: [sleep, '9']}}", progress=seen.append)
    assert ("start", "web") in [(each.step, each.subject) for each in seen]


def test_config(shop: Served) -> None:
    found = shop.client.config(shop.directory)
    assert found.spec["project"] == "shop"
    assert found.spec["services"]["web"]["image"] == "any"


def test_doctor_and_collect(shop: Served) -> None:
    assert shop.client.doctor() == (wire.Finding(subject="kernel", level="ok", text="new enough", fix=""),)
    shop.client.fork("production", "fix-1", asleep=True)
    shop.client.discard("fix-1")
    assert shop.client.collect().snapshots >= 1


def test_two_forks_to_one_name_at_one_instant(shop: Served) -> None:
    barrier, results = threading.Barrier(4), []

    def fork() -> None:
        barrier.wait()
        try:
            results.append(shop.client.fork("production", "same", asleep=True).environments[0].name)
        except Conflict as error:
            results.append(error.code)

    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["name_taken", "name_taken", "name_taken", "same"]


@pytest.mark.parametrize("name", ["a/b", "", "..", "Fix", "x" * 64, "a b", "a%2fb", "é"])
def test_a_bad_name_is_refused_with_a_hint(shop: Served, name: str) -> None:
    with pytest.raises(BadRequest, match="cannot name an environment") as caught:
        shop.client.fork("production", name)
    assert caught.value.hint
    with pytest.raises(BadRequest):
        shop.client.environment(name)


def test_errors_come_back_as_they_were_raised(shop: Served) -> None:
    with pytest.raises(NotFound, match="nobody") as missing:
        shop.client.fork("nobody", "x")
    assert (missing.value.exit_code, missing.value.http_status) == (4, 404)
    with pytest.raises(Denied) as denied:
        shop.client.discard("production")
    assert "--yes-i-mean-production" in (denied.value.hint or "")
    assert [each.name for each in shop.client.environments()] == ["production"]


def test_an_unknown_image_fails_before_anything_is_made(served: Served) -> None:
    with pytest.raises(NotFound, match="no image 'missing'") as caught:
        served.up("name: shop\nservices: {web: {image: missing}}")
    assert caught.value.hint == "name another one"
    assert served.client.environments() == ()


def test_a_bug_is_told_with_its_number_and_logged_once(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Exception, match=r"wye made a mistake \(ZeroDivisionError\): mishap [0-9a-f]{8}") as caught:
        served.up("name: shop\nservices: {web: {image: broken}}")
    assert getattr(caught.value, "code", "") == "internal"
    records = [record for record in caplog.records if record.exc_info]
    assert len(records) == 1
    assert str(caught.value).rsplit(" ", 1)[1] in records[0].getMessage()
