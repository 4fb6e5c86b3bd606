"""Real values in, the text that people see out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wye.api import wire
from wye.cli import collect, differences, doctor, environments, events, logs, progress, tables, words

NOW = 1_000_000.0


def service(replica: str, **changes: object) -> wire.ServiceView:
    fields: dict[str, object] = {
        "replica": replica, "service": replica, "state": "running", "health": "none", "image": f"{replica}:1",
        "address": "10.89.0.2", "pid": 7, "exit_code": None, "started_at": NOW - 90, "restarts": 0, "reason": "",
    }  # fmt: skip
    return wire.ServiceView.model_validate({**fields, **changes})


def environment(name: str = "production", **changes: object) -> wire.EnvironmentView:
    web = wire.PortView(
        key="web/8000/tcp", service="web", container=8000, protocol="tcp", host_ip="0.0.0.0", host_port=20001
    )
    fields: dict[str, object] = {
        "name": name, "id": "a" * 12, "project": "shop", "awake": True, "source": None, "origin": None,
        "revision": "f" * 64, "created_at": NOW - 7200, "services": (service("db", health="healthy"), service("web")),
        "ports": (web,),
    }  # fmt: skip
    return wire.EnvironmentView.model_validate({**fields, **changes})


def text_of(what: Table | Text) -> str:
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def test_listing() -> None:
    fork = environment("fix-1", source="production", origin="e" * 64, awake=False, created_at=NOW - 30)
    assert text_of(environments.listing([environment(), fork], NOW)).splitlines() == [
        "NAME         SERVICES               PORTS            AGE    FORK OF",
        "production   1 healthy, 1 running   web 20001→8000   2 h",
        "fix-1        asleep                 web 20001→8000   30 s   production",
    ]


def test_the_project_is_named_only_if_there_are_several() -> None:
    assert "PROJECT" in text_of(environments.listing([environment(), environment("x", project="blog")], NOW))


def test_services_in_trouble_are_named() -> None:
    broken = service("worker", state="exited", exit_code=137, pid=None, reason="out of memory")
    done = service("migrate", state="exited", exit_code=0, pid=None)
    found = environment(services=(broken, done, service("web", health="unhealthy")))
    assert environments.summary(found).plain == "1 completed, worker exited (137), web unhealthy"
    assert "out of memory" in text_of(environments.services(found, NOW))


def test_describe() -> None:
    fork = environment(
        "fix-1", source="production", origin="e" * 64, usage=wire.Usage(exclusive_bytes=3 << 20, limit_bytes=1 << 30)
    )
    assert text_of(environments.heading(fork, NOW)) == (
        "fix-1  project shop, fork of production at eeeeeeeeeeee, 2 h old, 3.0 MiB of 1.0 GiB of its own, awake"
    )
    assert text_of(environments.services(fork, NOW)).splitlines() == [
        "SERVICE   STATE     UP    PORTS                  ADDRESS     IMAGE",
        "db        healthy   1 m                          10.89.0.2   db:1",
        "web       running   1 m   127.0.0.1:20001→8000   10.89.0.2   web:1",
    ]


def test_ports() -> None:
    assert text_of(environments.ports_of([environment()])).splitlines()[1] == "web       8000/tcp   127.0.0.1:20001"
    both = text_of(environments.ports_of([environment("fix-1"), environment("fix-2")]))
    assert both.splitlines()[0].startswith("ENVIRONMENT")
    six = environment().ports[0].model_copy(update={"host_ip": "::1"})
    assert environments.address_of(six) == "[::1]:20001"


# ---------------------------------------------------------------- diff

FILE = wire.FileView(kind="file", size_bytes=2048, mode=0o644, uid=0, gid=0)


def changed(path: str, change: str, before: wire.FileView | None, after: wire.FileView | None, **more: object) -> str:
    fields = {"place": "volume data", "path": path, "change": change, "before": before, "after": after, **more}
    return differences.file_line(wire.FileChange.model_validate(fields)).plain


def test_files() -> None:
    link = FILE.model_copy(update={"kind": "link", "target": "/etc/passwd"})
    larger = FILE.model_copy(update={"size_bytes": 4096})
    assert changed("/a", "added", None, FILE) == "A volume data /a  (2.0 KiB)"
    assert changed("/a", "removed", FILE, None) == "D volume data /a  (2.0 KiB)"
    assert changed("/l", "added", None, link) == "A volume data /l  (link → /etc/passwd)"
    assert changed("/a", "modified", FILE, larger, changed_bytes=4096) == (
        "M volume data /a  (4.0 KiB, +2.0 KiB, 4.0 KiB changed)"
    )
    assert changed("/a", "modified", FILE, link) == "M volume data /a  (file became link → /etc/passwd)"
    other = FILE.model_copy(update={"mode": 0o755, "uid": 5})
    assert changed("/a", "modified", FILE, other, metadata_only=True) == (
        "M volume data /a  (mode 0644 → 0755, owner 0:0 → 5:0)"
    )


def result(**changes: object) -> wire.DiffResult:
    fields: dict[str, object] = {
        "environment": "fix-1", "against": "production", "base": "c" * 64, "spec": (), "places": (), "files": (),
        "total_files": 0,
    }  # fmt: skip
    return wire.DiffResult.model_validate({**fields, **changes})


def test_a_whole_diff() -> None:
    found = result(
        spec=(
            wire.SpecChange(path="services.web.environment.DEBUG", before='"0"', after='"1"'),
            wire.SpecChange(path="services.cache", before=None, after='{"image":"x"}'),
            wire.SpecChange(path="services.old", before="1", after=None),
        ),
        places=(
            wire.PlaceChange(
                place="volume db", kind="postgres", added=2, removed=0, modified=12, changed_bytes=1 << 20
            ),
        ),
        files=(wire.FileChange(place="layer web", path="/x", change="added", before=None, after=FILE),),
        total_files=41,
        file_counts={"layer web": {"added": 30, "removed": 10}, "volume docs": {"modified": 1}},
    )
    assert [line.plain for line in differences.lines(found, 1)] == [
        "fix-1 against production",
        "M setting services.web.environment.DEBUG: 0 → 1",
        'A setting services.cache = {"image":"x"}',
        "D setting services.old = 1",
        "M volume db (postgres): 1.0 MiB changed; 12 modified, 2 added files",
        "A layer web /x  (2.0 KiB)",
        "... and 40 files more: --offset 1",
    ]
    assert [line.plain for line in differences.stat_lines(found)][1:] == [
        "3 settings",
        "M volume db (postgres): 1.0 MiB changed; 12 modified, 2 added files",
        "layer web: 30 added, 10 removed",
        "volume docs: 1 modified",
    ]


def test_nothing_differs() -> None:
    assert [line.plain for line in differences.lines(result(), 1000)][1:] == ["nothing differs"]


# ---------------------------------------------------------------- the rest


def test_log_lines_have_names_times_and_colours() -> None:
    line = wire.LogLine(replica="web", at=0.5, stream="stdout", text="a\tb\x1b[2J")
    assert logs.render(line, timestamps=False, named=False, colour=False) == "a\tb\x1b[2J"
    assert logs.render(line, timestamps=True, named=True, colour=False).startswith("1970-01-01T00:00:00.500Z web | a")
    on_terminal = logs.render(line, timestamps=False, named=True, colour=True)
    assert "\x1b[2J" not in on_terminal
    assert "\\x1b[2J" in on_terminal


def test_events() -> None:
    event = wire.Event(at=0.0, kind="service-exited", environment="fix-1", service="web", detail={"code": "1"})
    assert events.render(event).endswith("service-exited fix-1/web code=1")


def test_findings() -> None:
    found = wire.Finding(subject="quota", level="warning", text="not there", fix="a newer kernel")
    assert [line.plain for line in doctor.lines(found)] == [
        "warning  quota: not there",
        "         fix: a newer kernel",
    ]


def test_collected() -> None:
    nothing = wire.CollectResult(snapshots=0, environments=0, images=0, objects=0, freed_bytes=0)
    assert collect.sentence(nothing) == "there was nothing to delete"
    some = nothing.model_copy(update={"snapshots": 1, "objects": 1200, "freed_bytes": 3 << 20})
    assert collect.sentence(some) == "deleted 1 snapshot, 1,200 objects, 3.0 MiB freed"
    later = some.model_copy(update={"freed_bytes": None})
    assert collect.sentence(later) == "deleted 1 snapshot, 1,200 objects; their room is freed in the background"
    assert collect.sentence(some.model_copy(update={"freed_bytes": 0})) == "deleted 1 snapshot, 1,200 objects"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (wire.Progress(step="start", subject="web"), "start web"),
        (wire.Progress(step="pull", done=1 << 20, total=3 << 20, unit="bytes"), "pull (1.0 MiB of 3.0 MiB)"),
        (wire.Progress(step="extracting archives", subject="wye/base"), "wye/base: extracting archives"),
        (wire.Progress(step="unpack", subject="x", done=1200, unit="files"), "unpack x (1,200 files)"),
    ],
)
def test_progress(given: wire.Progress, text: str) -> None:
    assert progress.describe(given) == text


@given(st.text())
def test_nothing_that_a_fork_writes_controls_the_terminal(text: str) -> None:
    shown = words.harmless(text)
    assert all(each.isprintable() for each in shown)
    assert words.harmless(shown) == shown
    table = tables.table(("A",), ((text,),)) if text else None
    assert table is None or "\x1b" not in text_of(table)
