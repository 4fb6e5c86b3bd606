"""Diff, merge, conflicts, revert and update, from the command line down to the files and back."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wye.api import wire
from wye.errors import BadRequest, NotFound

if TYPE_CHECKING:
    Served = Any

Run = Callable[..., tuple[int, str, str]]

COMPOSE = """\
name: shop
services:
  web:
    image: any
    command: ["sleep", "1000"]
    volumes: ["data:/data"]
volumes: {data: {}}
"""
LINES = [f"line {number}\n" for number in range(10)]


def text(**changes: str) -> str:
    """Ten lines, some of them changed: l1="x" changes the second."""
    return "".join(f"{changes[f'l{n}']}\n" if f"l{n}" in changes else line for n, line in enumerate(LINES))


def notes(served: Served, name: str) -> Path:
    environment = served.client.environment(name)
    found: Path = served.engine.volumes.environment_path(environment.id) / "volumes" / "data" / "notes"
    return found


@pytest.fixture
def forked(served: Served) -> Served:
    """Production with a file of ten lines, and a fork of it that has changed the second and the last."""
    served.up(COMPOSE)
    notes(served, "production").write_text(text())
    served.client.fork("production", "fix-1")
    notes(served, "fix-1").write_text(text(l1="fork", l9="fork"))
    return served


@pytest.fixture
def disputed(forked: Served) -> Served:
    """Production has changed the same two lines meanwhile, which are two conflicts, and another one."""
    notes(forked, "production").write_text(text(l1="production", l5="production", l9="production"))
    return forked


# ---------------------------------------------------------------- diff and patch


def test_diff_with_text(forked: Served, run: Run) -> None:
    (found,) = forked.client.diff("fix-1", text=True).files
    assert found.text is not None
    assert "-line 1\n+fork\n" in found.text
    assert forked.client.diff("fix-1").files[0].text is None
    code, out, _ = run("diff", "fix-1")
    assert code == 0
    assert out.splitlines()[1] == "M volume data /notes  (66 B, -4 B, 66 B changed)"
    assert "-line 9\n+fork\n" in out
    assert "fork" not in run("diff", "fix-1", "--stat")[1].splitlines()[1]
    assert run("diff", "fix-1", "--against", "production")[1].splitlines()[0] == "fix-1 against production"
    assert run("diff", "fix-1", "--service", "nobody")[0] == 4


def test_a_patch_is_what_git_applies(forked: Served, run: Run, tmp_path: Path) -> None:
    (tmp_path / "volumes/data").mkdir(parents=True)
    (tmp_path / "volumes/data/notes").write_text(text())
    code, out, err = run("diff", "fix-1", "--patch")
    assert (code, err, out.encode()) == (0, "", forked.client.patch("fix-1"))
    subprocess.run(["git", "apply", "-"], input=out.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / "volumes/data/notes").read_text() == text(l1="fork", l9="fork")
    assert run("diff", "fix-1", "--patch", "--json")[0] == 2


def test_names_and_texts_of_a_fork_neither_break_nor_command_anything(forked: Served, run: Run) -> None:
    directory = os.fsencode(notes(forked, "fix-1").parent)
    with open(os.path.join(directory, b"\xff\x1b[2J[red]"), "wb") as file:
        file.write(b"\x1b]0;owned\x07\n[bold]\xff\n")
    code, out, _ = run("diff", "fix-1")
    assert code == 0
    assert "\x1b" not in out
    assert "A volume data /\\xff\\x1b[2J[red]" in out
    assert "[bold]" in out
    assert json.loads(run("diff", "fix-1", "--json")[1])["files"][0]["path"] == "/notes"
    assert b"\\377\\033[2J[red]" in forked.client.patch("fix-1")


def on_terminal(served: Served, *arguments: str, **environment: str) -> str:
    """What appears on a terminal of 24 lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x18\0\x78\0\0\0\0\0")
    child = subprocess.Popen(
        [sys.executable, "-c", "from wye.cli.main import main; main()", *arguments],
        env={**os.environ, "WYE_ADDRESS": f"unix://{served.socket}", "TERM": "xterm", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:
        pass
    os.close(ours)
    assert child.wait(10) == 0
    return seen.decode()


def test_what_is_longer_than_the_terminal_goes_through_the_pager(forked: Served) -> None:
    pager = "sed s/^/paged:/"
    short = on_terminal(forked, "diff", "fix-1", "--stat", PAGER=pager)
    assert "paged:" not in short
    notes(forked, "fix-1").write_text("\x1b[2Jnew\n" * 100)
    long = on_terminal(forked, "diff", "fix-1", PAGER=pager, MANPAGER="false")
    assert long.count("paged:") > 100
    assert "\x1b[2J" not in long
    assert "\x1b[32m" in long
    assert "paged:" not in on_terminal(forked, "diff", "fix-1", PAGER="cat")
    patch = on_terminal(forked, "diff", "fix-1", "--patch", PAGER=pager)
    assert "\x1b[2J" not in patch
    assert patch.count("paged:") > 100


# ---------------------------------------------------------------- merge


def test_a_merge_and_its_revert(forked: Served, run: Run) -> None:
    notes(forked, "production").write_text(text(l5="production"))
    code, out, err = run("merge", "fix-1", "-m", "why")
    assert code == 0, err
    assert notes(forked, "production").read_text() == text(l1="fork", l5="production", l9="fork")
    entry = forked.client.log("production").entries[0]
    assert (entry.verb, entry.message) == ("merge", "why")
    assert "volume data   1" in out
    assert "restarted: web" in out
    assert out.splitlines()[-1].startswith(f"merge of fix-1 into production is done: entry {entry.id[:12]}, in ")
    assert f"wye revert {entry.id[:12]}" in err
    assert "evidence=" not in run("log")[1]
    notes(forked, "production").write_text(text(l1="fork", l5="later", l9="fork"))
    code, out, _ = run("revert", entry.id[:8])
    assert code == 0
    assert f"revert of {entry.id[:12]} in production is done" in out
    assert notes(forked, "production").read_text() == text(l5="later")


def test_a_rehearsal_touches_nothing(forked: Served, run: Run) -> None:
    before = forked.client.log("production").head
    code, out, _ = run("merge", "fix-1", "--rehearse-only")
    assert code == 0
    assert out.splitlines()[-1] == "merge of fix-1 into production was rehearsed: nothing is in conflict"
    assert notes(forked, "production").read_text() == text()
    assert forked.client.log("production").head == before


def test_there_may_be_nothing_to_merge(served: Served, run: Run) -> None:
    served.up(COMPOSE)
    served.client.fork("production", "fix-1")
    code, out, _ = run("merge", "fix-1")
    assert (code, out.splitlines()[-1]) == (0, "merge of fix-1 into production: there was nothing to do")


def test_a_check_that_fails_stops_it(forked: Served, run: Run) -> None:
    code, out, err = run("merge", "fix-1", "--check", "echo fine", "--check", "printf 'a\\033[2Jb\\n'; exit 3")
    assert code == 9, err
    assert "✓ echo fine" in out
    assert "    a\\x1b[2Jb" in out
    assert "\x1b" not in out
    assert out.splitlines()[-1] == ("merge of fix-1 into production: 1 of 3 checks failed; production is as it was")
    assert notes(forked, "production").read_text() == text()
    code, out, _ = run("merge", "fix-1", "--check", "true", "--json")
    assert code == 0
    assert all(check.passed for check in wire.MergeResult.model_validate_json(out).checks)


def test_show_has_the_evidence(forked: Served, run: Run) -> None:
    merged = forked.client.merge("fix-1", checks=["printf 'fine\\033[2J\\n'"])
    code, out, _ = run("show", merged.entry[:12])
    assert code == 0
    assert "✓ printf" in out
    assert "    fine\\x1b[2J" in out
    assert "read changes" in out
    assert "volume data   1" in out
    assert forked.client.show(merged.entry).evidence["checks"][-1]["passed"] is True
    assert forked.client.log("production").entries[0].evidence == {}


# ---------------------------------------------------------------- conflicts


def test_conflicts_are_listed_and_settled(disputed: Served, run: Run, tmp_path: Path) -> None:
    code, out, err = run("conflicts", "fix-1")
    assert code == 9
    found = disputed.client.conflicts("fix-1").conflicts
    assert len(found) == 2
    assert all(conflict.id in out for conflict in found)
    assert '"line 1\\n"' in out
    assert "wye merge fix-1 --resolve" in err
    assert run("merge", "fix-1")[0] == 9
    assert notes(disputed, "production").read_text() == text(l1="production", l5="production", l9="production")
    file = tmp_path / "resolve.yaml"
    assert run("conflicts", "fix-1", "--template", str(file))[0] == 9
    assert run("conflicts", "fix-1", "--template", str(file))[0] == 5
    code, _, err = run("merge", "fix-1", "--resolve", str(file))
    assert code == 2
    assert "resolve.yaml, line " in err
    filled = file.read_text().replace(f'"{found[0].id}":', f'"{found[0].id}": theirs')
    file.write_text(filled.replace(f'"{found[1].id}":', f'"{found[1].id}": {{value: "both\\n"}}'))
    code, out, _ = run("merge", "fix-1", "--resolve", str(file), "--json")
    assert code == 0
    assert wire.MergeResult.model_validate_json(out).merged
    assert notes(disputed, "production").read_text() == text(l1="fork", l5="production", l9="both")


def test_ids_may_be_cut_short_and_the_rest_left_to_a_default(disputed: Served, run: Run, tmp_path: Path) -> None:
    first, second = (conflict.id for conflict in disputed.client.conflicts("fix-1").conflicts)
    file = tmp_path / "resolve.json"
    file.write_text(json.dumps({first[:5]: "theirs", "default": "ours"}))
    code, out, _ = run("conflicts", "fix-1", "--resolve", str(file))
    assert (code, out.splitlines()[-1]) == (
        0,
        "merge of fix-1 into production was rehearsed: nothing is in conflict",
    )
    wrong = "0000" if not (first + second).startswith("0000") else "ffff"
    file.write_text(f'{{\n {json.dumps(wrong)}: "ours"}}')
    code, _, err = run("merge", "fix-1", "--resolve", str(file))
    assert code == 4
    assert f"line 2: there is no conflict {wrong}" in err
    file.write_text(json.dumps({first[:5]: "theirs", "default": "ours"}))
    assert run("merge", "fix-1", "--resolve", str(file))[0] == 0
    assert notes(disputed, "production").read_text() == text(l1="fork", l5="production", l9="production")


def test_update_brings_production_into_the_fork(disputed: Served, run: Run, tmp_path: Path) -> None:
    code, out, err = run("update", "fix-1")
    assert code == 9
    assert "fix-1 is as it was" in out
    assert "wye update fix-1 --resolve" in err
    file = tmp_path / "resolve.yaml"
    file.write_text("default: theirs\n")
    code, out, _ = run("update", "fix-1", "--resolve", str(file))
    assert code == 0
    assert "update of fix-1 from production is done" in out
    assert notes(disputed, "fix-1").read_text() == text(l1="fork", l5="production", l9="fork")
    assert notes(disputed, "production").read_text() == text(l1="production", l5="production", l9="production")


def test_mistakes_have_an_answer(forked: Served) -> None:
    client = forked.client
    with pytest.raises(BadRequest):
        client.merge("production")
    with pytest.raises(NotFound):
        client.merge("fix-1", into="nobody")
    with pytest.raises(NotFound):
        client.revert("0123456789ab")
    with pytest.raises(BadRequest, match="not a merge"):
        client.revert(client.log("production").entries[0].id)
    with pytest.raises(BadRequest):
        client.merge("fix-1", resolutions={"0123456789ab": "mine"})
    with pytest.raises(BadRequest):
        client.update("production")
    assert notes(forked, "production").read_text() == text()


def test_entries_and_services_complete(forked: Served) -> None:
    entry = forked.client.log("production").entries[0].id

    def complete(words: str, current: int) -> list[bytes]:
        environment = {"_WYE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(current)}
        done = subprocess.run(
            [sys.executable, "-c", "from wye.cli.main import main; main()"],
            env={**os.environ, "WYE_ADDRESS": f"unix://{forked.socket}", **environment},
            capture_output=True,
            check=False,
            timeout=30,
        )
        return done.stdout.split()

    assert complete("wye merge f", 2) == [b"fix-1"]
    assert complete(f"wye revert {entry[:3]}", 2) == [entry[:12].encode()]
    assert complete("wye diff fix-1 --service w", 4) == [b"web"]
