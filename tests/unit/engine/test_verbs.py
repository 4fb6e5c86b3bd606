"""What each verb promises, on the engine that people run and drivers in memory."""

from __future__ import annotations

import os
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.engine.conftest import COMPOSE, World

from wye.engine import (
    collect,
    diff,
    discard,
    execute,
    fork,
    history,
    inspect,
    logs,
    plan,
    records,
    rename,
    restore,
    sleep,
    snapshot,
    start,
    uninstall,
)
from wye.engine.apply import ServiceFailed
from wye.errors import BadRequest, Conflict, Denied, NotFound, Unavailable, WyeError
from wye.interfaces import silent
from wye.model import PRODUCTION, SHELL, ImageConfig
from wye.testing.memory_runtime import Program


def fork_one(world: World, name: str = "f", *, asleep: bool = False, revision: str | None = None) -> str:
    made = fork.fork(world.engine, "production", name, asleep=asleep, revision=revision, actor="test", report=silent)
    return made.environments[0].name


def test_up_starts_services_after_those_they_need(world: World) -> None:
    result = world.up()
    assert result.changes == {"db": "created", "web": "created"}
    assert [plan.name for plan in world.runtime.plans] == ["db", "web"]
    assert {service.state for service in result.environment.services} == {"running"}
    assert len(result.environment.ports) == 2


def test_up_again_changes_nothing(world: World) -> None:
    world.up()
    before = history.log(world.engine, "production").entries
    result = world.up()
    assert set(result.changes.values()) == {"unchanged"}
    assert len(world.runtime.plans) == 2
    assert history.log(world.engine, "production").entries == before


def test_up_on_a_changed_file_restarts_only_what_changed(world: World) -> None:
    world.up()
    result = world.up(COMPOSE.replace('"http.server"', '"http.server", "8000"'))
    assert result.changes == {"db": "unchanged", "web": "changed"}
    assert [plan.name for plan in world.runtime.plans] == ["db", "web", "web"]


def test_up_tells_neighbours_of_a_new_service(world: World) -> None:
    world.up()
    world.up(COMPOSE.replace("volumes: {data: {}}", "  cache: {image: wye/redis}\nvolumes: {data: {}}"))
    web = next(container for container in world.runtime.containers() if container.name == "web")
    assert b"\tcache" in world.runtime.file(web.id, "/etc/hosts")


def test_what_is_left_out_is_told_with_its_key_and_place(world: World) -> None:
    misspelt = COMPOSE.replace("    image: wye/postgres\n", "    image: wye/postgres\n    pots: []\n")
    with pytest.raises(BadRequest, match=r"services\.db\.pots: unknown key \(compose\.yaml:\d+\)"):
        world.up(misspelt)
    (told,) = world.up(misspelt, lenient=True).notices
    assert re.fullmatch(r"services\.db\.pots: unknown key; left out \(compose\.yaml:\d+\)", told)


def test_up_fetches_nothing_where_that_is_the_policy(world: World) -> None:
    never = COMPOSE.replace("    image: wye/postgres\n", "    image: wye/postgres\n    pull_policy: never\n")
    with pytest.raises(NotFound, match="'wye/postgres' of service 'db' is not on this machine") as caught:
        world.up(never)
    assert "pull_policy: missing" in (caught.value.hint or "")
    assert "wye/postgres" not in world.images.resolved
    world.up()
    assert world.up(never).changes == {"db": "changed", "web": "unchanged"}


def test_up_removes_a_service_that_is_gone(world: World) -> None:
    world.up()
    lines = COMPOSE.split("  web:")[0] + "volumes: {data: {}}"
    assert world.up(lines).changes == {"db": "unchanged", "web": "removed"}
    assert world.alive() == {"db"}


def test_a_service_that_ends_at_once_is_told_with_its_last_words(world: World) -> None:
    world.runtime.programs = lambda plan: (
        Program(output=(("stderr", "no such table"),), exit_code=3) if plan.name == "web" else Program()
    )
    with pytest.raises(ServiceFailed, match=r"web.*status 3(.|\n)*no such table"):
        world.up(wait=True)


def test_a_fork_has_its_own_bytes(world: World) -> None:
    world.up()
    world.file("production", "data/file").write_text("one")
    fork_one(world)
    world.file("f", "data/file").write_text("changed in the fork")
    world.file("production", "data/other").write_text("later")
    assert world.file("production", "data/file").read_text() == "one"
    assert not world.file("f", "data/other").exists()


def test_a_fork_has_the_same_addresses_and_other_ports(world: World) -> None:
    world.up()
    fork_one(world)
    production, forked = (inspect.describe(world.engine, name) for name in ("production", "f"))
    assert [s.address for s in production.services] == [s.address for s in forked.services]
    assert {p.host_port for p in production.ports}.isdisjoint(p.host_port for p in forked.ports)


def test_a_fork_may_not_reach_out_and_production_may(world: World) -> None:
    world.up()
    fork_one(world)
    reach = {
        name: world.network.world.attached[inspect.describe(world.engine, name).id].egress
        for name in ("production", "f")
    }
    assert {"db", "web"} <= reach["production"]
    assert reach["f"] == frozenset()


def test_a_fork_forgets_its_source_s_pid_file(world: World) -> None:
    world.up()
    data = world.file("production", "data")
    for name in ("global", "base"):
        (data / name).mkdir()
    (data / "PG_VERSION").write_text("15")
    (data / "postmaster.pid").write_text("1\n")
    fork_one(world)
    assert not (world.file("f", "data") / "postmaster.pid").exists()
    assert (data / "postmaster.pid").exists(), "the source's own stays"


def test_an_asleep_fork_starts_nothing_until_it_is_used(world: World) -> None:
    world.up()
    fork_one(world, asleep=True)
    started = len(world.runtime.plans)
    assert not inspect.describe(world.engine, "f").awake
    with_shell = execute.open_exec(world.engine, "f", execute.Request(argv=("true",)), actor="test")
    with_shell.close()
    assert inspect.describe(world.engine, "f").awake
    assert len(world.runtime.plans) == started + 3, "two services and the shell"


def test_an_asleep_fork_has_no_bytes_of_its_own_until_it_is_used(world: World) -> None:
    world.up()
    fork_one(world, asleep=True)
    identity = inspect.describe(world.engine, "f").id
    assert world.volumes.lent() == {identity}
    taken = snapshot.snapshot(world.engine, "f", message="", actor="test")
    fork.fork(world.engine, "f", "g", asleep=True, actor="test", report=silent)
    discard.discard(world.engine, "f", actor="test", report=silent)
    again = fork.fork(
        world.engine, "production", "f", revision=taken.revision, asleep=True, actor="test", report=silent
    )
    assert len(world.volumes.lent()) == 2
    sleep.wake(world.engine, "f", actor="test")
    assert again.environments[0].id not in world.volumes.lent()
    assert world.file("f", "data").is_dir()


def test_many_forks_share_one_snapshot(world: World) -> None:
    world.up()
    before = len(world.volumes.snapshots())
    made = fork.fork(world.engine, "production", "f", count=5, asleep=True, actor="test", report=silent)
    assert [each.name for each in made.environments] == ["f-1", "f-2", "f-3", "f-4", "f-5"]
    assert len(world.volumes.snapshots()) == before + 1


def test_two_forks_of_one_name_at_once_one_wins(world: World) -> None:
    world.up()
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def attempt() -> None:
        barrier.wait()
        try:
            outcomes.append(fork_one(world))
        except fork.NameTaken as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["f", "there is an environment 'f' already"]


@pytest.mark.parametrize("name", ["a/b", "A", "", "a.b", "-a", "a" * 64, "../x", "a\nb"])
def test_a_bad_name_is_refused(world: World, name: str) -> None:
    world.up()
    with pytest.raises(BadRequest, match="cannot name"):
        fork_one(world, name)


def test_a_fork_of_what_is_not_there(world: World) -> None:
    with pytest.raises(NotFound, match="no environment 'production'"):
        fork_one(world)


def test_a_service_where_an_environment_is_wanted(world: World) -> None:
    world.up()
    with pytest.raises(NotFound, match="no environment 'web'") as caught:
        inspect.describe(world.engine, "web")
    assert caught.value.hint == "'web' is a service; an environment is named first: production web"
    with pytest.raises(NotFound, match="no environment 'wed'") as caught:
        inspect.describe(world.engine, "wed")
    assert caught.value.hint == "there are: production"


def test_a_fork_that_cannot_start_leaves_nothing(world: World) -> None:
    world.up()
    ports = len(inspect.describe(world.engine, "production").ports)
    before = (world.volumes.environments(), world.network.environments())
    world.runtime.refusals["db"] = Unavailable("no more containers today")
    with pytest.raises(Unavailable, match="no more containers"):
        fork_one(world)
    assert (world.volumes.environments(), world.network.environments()) == before
    assert [each.name for each in inspect.listing(world.engine)] == ["production"]
    world.runtime.refusals.clear()
    assert len(inspect.describe(world.engine, fork_one(world)).ports) == ports


def test_restore_brings_bytes_and_spec_back_and_loses_nothing(world: World) -> None:
    world.up()
    world.file("production", "data/file").write_text("one")
    taken = snapshot.snapshot(world.engine, "production", message="one", actor="test")
    world.file("production", "data/file").write_text("two")
    world.up(COMPOSE.replace('"http.server"', '"http.server", "9"'))
    restore.restore(world.engine, "production", taken.revision, actor="test", report=silent)
    assert world.file("production", "data/file").read_text() == "one"
    assert world.runtime.plans[-1].argv == ("python3", "-m", "http.server")
    kept = history.log(world.engine, "production").entries[1]
    assert kept.message == "before restore"
    restore.restore(world.engine, "production", kept.revision, actor="test", report=silent)
    assert world.file("production", "data/file").read_text() == "two"


def test_restore_that_fails_leaves_the_environment_running(world: World) -> None:
    world.up()
    taken = snapshot.snapshot(world.engine, "production", actor="test")
    world.volumes.delete_snapshot(taken.snapshot)  # type: ignore[arg-type]
    with pytest.raises(WyeError):
        restore.restore(world.engine, "production", taken.revision, actor="test", report=silent)
    assert world.alive() == {"db", "web"}


def test_discard_needs_a_word_for_production(world: World) -> None:
    world.up()
    with pytest.raises(Denied, match="not a fork"):
        discard.discard(world.engine, "production", actor="test", report=silent)
    assert world.alive() == {"db", "web"}
    fork_one(world)
    discard.discard(world.engine, "production", confirm_production=True, actor="test", report=silent)
    assert [each.name for each in inspect.listing(world.engine)] == ["f"], "its forks live on"
    assert world.file("f", "data").exists()


def test_uninstall_asks_first_and_leaves_nothing(world: World) -> None:
    world.up()
    fork_one(world)
    with pytest.raises(Denied, match="there are environments: f, production"):
        uninstall.uninstall(world.engine, discard_everything=False, actor="test", report=silent)
    assert len([each for each in world.runtime.containers() if each.pid is not None]) == 4
    uninstall.uninstall(world.engine, discard_everything=True, actor="test", report=silent)
    assert (inspect.listing(world.engine), world.runtime.containers(), world.network.environments()) == ([], [], set())
    assert world.volumes.environments() == set()


def test_the_shell_runs_as_the_user_of_its_image(world: World) -> None:
    world.up()
    execute.open_exec(world.engine, "production", execute.Request(argv=("id",)), actor="test").close()
    assert world.runtime.plans[-1].user == ""
    spec = records.spec_of(world.engine, records.require(world.engine, PRODUCTION).environment)
    image = replace(world.images.image("wye/shell"), config=ImageConfig(user="user", working_dir="/home/user"))
    planned = plan.shell_plan(records.require(world.engine, PRODUCTION).environment, spec, image, resolver="")
    assert (planned.user, planned.working_dir, planned.no_new_privileges) == ("user", "/home/user", False)


def test_discard_leaves_a_ledger_that_can_be_read(world: World) -> None:
    world.up()
    fork_one(world)
    discard.discard(world.engine, "f", actor="test", report=silent)
    assert [entry.verb for entry in history.log(world.engine, "f").entries] == ["discard", "fork"]
    assert world.volumes.environments() == {inspect.describe(world.engine, "production").id}


def test_show_finds_an_entry_by_the_revision_it_led_to(world: World) -> None:
    world.up()
    taken = snapshot.snapshot(world.engine, "production", actor="test")
    fork_one(world, revision=taken.revision)
    shown = history.show(world.engine, taken.revision[:12])
    assert (shown.verb, shown.environment, shown.revision) == ("snapshot", "production", taken.revision)
    assert history.show(world.engine, shown.id[:12]).id == shown.id
    with pytest.raises(NotFound, match="no entry and no revision begins with 'abcdef'"):
        history.show(world.engine, "abcdef")


def test_a_port_that_is_not_published_is_said_in_so_many_words(world: World) -> None:
    world.up(COMPOSE.replace('    ports: ["127.0.0.1::8000"]\n', ""))
    for service, port, told in (
        ("web", None, "'production' publishes no port of service 'web'"),
        ("web", 80, "'production' does not publish port 80 of service 'web'"),
        (None, 80, "'production' does not publish port 80"),
        ("wed", None, "environment 'production' has no service 'wed'"),
    ):
        with pytest.raises(NotFound) as caught:
            inspect.ports(world.engine, "production", service, port)
        assert caught.value.message == told
    assert caught.value.hint == "there are: db, web"


def test_sleep_and_wake(world: World) -> None:
    world.up()
    fork_one(world)
    ports = inspect.describe(world.engine, "f").ports
    assert not sleep.sleep(world.engine, "f", actor="test").awake
    assert len(world.alive()) == 2
    assert sleep.wake(world.engine, "f", actor="test").awake
    assert inspect.describe(world.engine, "f").ports == ports


def test_down_gives_ports_back_and_start_takes_them_again(world: World) -> None:
    world.up()
    assert not sleep.down(world.engine, "production", actor="test").awake
    assert world.alive() == set()
    assert start.start(world.engine, "production", (), actor="test").awake
    assert world.alive() == {"db", "web"}


def test_a_stopped_service_stays_stopped_through_sleep(world: World) -> None:
    world.up()
    start.stop(world.engine, "production", ("web",), actor="test")
    sleep.sleep(world.engine, "production", actor="test")
    sleep.wake(world.engine, "production", actor="test")
    assert world.alive() == {"db"}
    start.start(world.engine, "production", ("web",), actor="test")
    assert world.alive() == {"db", "web"}


def test_rename_moves_the_name_and_nothing_else(world: World) -> None:
    world.up()
    fork_one(world)
    identity = inspect.describe(world.engine, "f").id
    rename.rename(world.engine, "f", "g", actor="test")
    assert inspect.describe(world.engine, "g").id == identity
    with pytest.raises(NotFound):
        inspect.describe(world.engine, "f")
    with pytest.raises(Conflict, match="already"):
        rename.rename(world.engine, "g", "production", actor="test")


def test_exec_in_a_dead_service_says_so(world: World) -> None:
    world.up()
    start.stop(world.engine, "production", ("web",), actor="test")
    with pytest.raises(Conflict, match="does not run"):
        execute.open_exec(world.engine, "production", execute.Request(argv=("ls",), service="web"), actor="test")
    with pytest.raises(NotFound, match="no service"):
        execute.open_exec(world.engine, "production", execute.Request(argv=("ls",), service="nope"), actor="test")


def test_logs_of_several_services_are_in_order(world: World) -> None:
    world.up()
    ids = {container.name: container.id for container in world.runtime.containers()}
    for number in range(4):
        world.runtime.say(ids["web" if number % 2 else "db"], str(number))
    found = [(replica, line.text) for replica, line in logs.logs(world.engine, "production")]
    assert found == [("db", "0"), ("web", "1"), ("db", "2"), ("web", "3")]


def test_diff_tells_files_of_volumes_and_the_spec(world: World) -> None:
    world.up()
    world.file("production", "data/kept").write_text("same")
    world.file("production", "data/gone").write_text("x")
    fork_one(world)
    world.file("f", "data/new").write_text("hello")
    world.file("f", "data/gone").unlink()
    found = diff.diff(world.engine, "f")
    assert {(change.change, change.place, change.path) for change in found.files} == {
        ("added", "volume data", "/new"),
        ("removed", "volume data", "/gone"),
    }
    assert found.spec == ()
    world.up(COMPOSE.replace("[db]", "[db]\n    environment: {DEBUG: '1'}"), name="f")
    assert [(change.path, change.after) for change in diff.diff(world.engine, "f").spec] == [
        ("services.web.environment.DEBUG", '"1"')
    ]


def layer_of(world: World, name: str, replica: str) -> Path:
    return world.file(name, "../layers") / replica / "upper"


def test_a_diff_says_what_a_fork_is_compared_with(world: World) -> None:
    world.up()
    fork_one(world)
    assert diff.diff(world.engine, "f", against=None).against == "production when it was forked"
    origin = inspect.describe(world.engine, "production").revision
    assert diff.diff(world.engine, "production", against=None).against == f"production at {origin[:12]}"


def test_a_diff_leaves_out_what_the_runtime_and_the_overlay_made(world: World) -> None:
    world.up(COMPOSE.replace('ports: ["127.0.0.1::8000"]', "deploy: {replicas: 2}"))
    head = world.engine.ledger.head(PRODUCTION)
    assert head is not None
    image = world.images.rootfs(head[1].environment.images["web"])
    (image / "app").mkdir()
    (image / "app" / "main.py").write_text("1")
    fork_one(world)
    for replica in ("db", "web-2", SHELL):
        layer = layer_of(world, "f", replica)
        (layer / "etc").mkdir(parents=True)
        (layer / "etc" / "hosts").touch()
    mounted = layer_of(world, "f", "db") / "var" / "lib" / "data"
    mounted.mkdir(parents=True)
    (mounted / "hidden").touch()
    (layer_of(world, "f", SHELL) / "volumes" / "data").mkdir(parents=True)
    # An overlay copies a directory up before it writes into it.
    shutil.copytree(image / "app", layer_of(world, "f", "web-2") / "app")
    (layer_of(world, "f", "web-2") / "app" / "main.py").write_text("22")
    found = diff.diff(world.engine, "f")
    assert [(change.change, change.place, change.path) for change in found.files] == [
        ("added", "layer db", "/var/lib/data/hidden"),
        ("modified", "layer web-2", "/app/main.py"),
    ]
    assert found.total_files == 2


def test_the_pages_of_a_diff_add_up(world: World) -> None:
    world.up()
    for n in range(6):
        world.file("production", f"data/kept{n}").write_text("same")
    fork_one(world)
    for n in range(6):
        os.utime(world.file("f", f"data/kept{n}"), (1, 1))
    for n in range(25):
        world.file("f", f"data/l{n}").touch()
    whole = diff.diff(world.engine, "f")
    assert whole.total_files == len(whole.files) == 25
    pages = [diff.diff(world.engine, "f", offset=offset, limit=10) for offset in (0, 10, 20, 30)]
    assert [file for page in pages for file in page.files] == list(whole.files)
    assert [len(page.files) for page in pages] == [10, 10, 5, 0]
    assert {page.total_files for page in pages} == {25}
    assert all(page.file_counts == whole.file_counts for page in pages)
    assert sum(sum(each.values()) for each in whole.file_counts.values()) == 25


def test_collect_frees_what_was_discarded_and_nothing_else(world: World) -> None:
    world.up()
    fork_one(world)
    kept = snapshot.snapshot(world.engine, "production", actor="test")
    discard.discard(world.engine, "f", actor="test", report=silent)
    assert collect.collect(world.engine, report=silent).snapshots == 1
    assert kept.snapshot in world.volumes.snapshots()
    restore.restore(world.engine, "production", kept.revision, actor="test", report=silent)


def test_a_relative_bind_mount_is_imported(world: World, tmp_path: Path) -> None:
    (world.project / "code").mkdir()
    (world.project / "code" / "main.py").write_text("print(1)")
    compose = COMPOSE.replace("    depends_on", '    volumes: ["./code:/app"]\n    depends_on')
    notices = world.up(compose).notices
    assert any("imported" in notice for notice in notices)
    imported = next(path for path in world.file("production", "").iterdir() if path.name.startswith("bind-"))
    assert (imported / "main.py").read_text() == "print(1)"
    (world.project / "code" / "main.py").write_text("print(2)")
    assert world.up(compose).changes["web"] == "changed", "a changed source is taken in again"
    assert (imported / "main.py").read_text() == "print(2)"
