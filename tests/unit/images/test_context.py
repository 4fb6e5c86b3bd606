"""A build's context: what counts, what is left out, what is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wye.drivers.images.context import Context, Limits
from wye.errors import BadRequest, Conflict, NotFound
from wye.host import Host


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def paths(root: Path) -> set[str]:
    return {entry.path for entry in Context(Host(), root).entries}


def test_what_changes_by_itself_is_left_out(tmp_path: Path) -> None:
    write(
        tmp_path, {"a.py": "", ".git/HEAD": "", ".venv/x": "", "p/__pycache__/a.pyc": "", "p/b.pyc": "", "p/c.py": ""}
    )
    assert paths(tmp_path) == {"a.py", "p", "p/c.py"}


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("", {"a.txt", "b.md", "d", "d/a.txt", "d/e", "d/e/b.md"}),
        ("a.txt", {"b.md", "d", "d/a.txt", "d/e", "d/e/b.md"}),
        ("/a.txt", {"b.md", "d", "d/a.txt", "d/e", "d/e/b.md"}),
        ("*.md\n# comment\n\n", {"a.txt", "d", "d/a.txt", "d/e", "d/e/b.md"}),
        ("**/*.md", {"a.txt", "d", "d/a.txt", "d/e"}),
        ("d", {"a.txt", "b.md"}),
        ("d/", {"a.txt", "b.md"}),
        ("d\n!d/e/b.md", {"a.txt", "b.md", "d/e/b.md"}),
        ("*\n!a.txt", {"a.txt"}),
        ("d/*\n", {"a.txt", "b.md", "d"}),
        ("d/**\n", {"a.txt", "b.md", "d"}),
        ("?.txt", {"b.md", "d", "d/a.txt", "d/e", "d/e/b.md"}),
        ("[ab].*", {"d", "d/a.txt", "d/e", "d/e/b.md"}),
        ("[^a].*", {"a.txt", "d", "d/a.txt", "d/e", "d/e/b.md"}),
        ("./d/../a.txt", {"b.md", "d", "d/a.txt", "d/e", "d/e/b.md"}),
    ],
)
def test_dockerignore(tmp_path: Path, rules: str, left: set[str]) -> None:
    write(tmp_path, {"a.txt": "", "b.md": "", "d/a.txt": "", "d/e/b.md": "", ".dockerignore": rules})
    assert paths(tmp_path) - {".dockerignore"} == left


def test_git_can_be_taken_in_again(tmp_path: Path) -> None:
    write(tmp_path, {".git/HEAD": "", ".dockerignore": "!.git"})
    assert ".git/HEAD" in paths(tmp_path)


def test_the_digest_is_of_names_contents_and_executability(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.py": "one", "b.py": "two"})
    digests = [Context(Host(), root).digest()]

    os.utime(root / "a.py", (1, 1))
    (root / "a.py").chmod(0o600)
    assert Context(Host(), root).digest() == digests[0]

    for change in (
        lambda: (root / "a.py").write_text("eno"),
        lambda: (root / "a.py").chmod(0o755),
        lambda: (root / "b.py").rename(root / "c.py"),
        lambda: (root / "l").symlink_to("a.py"),
        lambda: (root / "d").mkdir(),
    ):
        change()
        digests.append(Context(Host(), root).digest())
    assert len(set(digests)) == len(digests)


def test_a_copy_has_the_digest_of_what_it_copied_and_follows_no_link(tmp_path: Path) -> None:
    secret = write(tmp_path, {"secret": "s"}) / "secret"
    root = write(tmp_path / "c", {"d/a.py": "x", "run.sh": "y"})
    (root / "run.sh").chmod(0o700)
    (root / "link").symlink_to(secret)
    (root / "up").symlink_to("..")
    context = Context(Host(), root)
    target = tmp_path / "copy"
    assert context.copy(target, os.getuid()) == context.digest()
    assert (target / "d/a.py").read_text() == "x"
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755
    assert os.readlink(target / "link") == str(secret)
    assert os.readlink(target / "up") == ".."
    assert not (target / "up" / "c").is_file()


def test_a_part_can_be_copied(tmp_path: Path) -> None:
    root = write(tmp_path / "c", {"r/a.txt": "x", "r/b.txt": "y", "z": ""})
    context = Context(Host(), root)
    assert context.copy(tmp_path / "copy", os.getuid(), frozenset({"r/a.txt"})) == context.digest(
        frozenset({"r/a.txt"})
    )
    assert sorted(str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")) == [
        "r",
        "r/a.txt",
    ]


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    root = write(tmp_path / "c", {"a": "mine"})
    context = Context(Host(), root)
    (root / "a").unlink()
    (root / "a").symlink_to(write(tmp_path, {"secret": "mine"}) / "secret")
    with pytest.raises(Conflict, match="changed while"):
        context.digest()


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": "short"})
    context = Context(Host(), root)
    (root / "a").write_text("much longer")
    with pytest.raises(Conflict):
        context.digest()


def test_sockets_and_pipes_are_refused_unless_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    with pytest.raises(BadRequest, match="neither"):
        Context(Host(), tmp_path)
    write(tmp_path, {".dockerignore": "pipe\nsocket\n.dockerignore\n"})
    assert Context(Host(), tmp_path).entries == []


def test_an_ignore_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").symlink_to("/etc/passwd")
    with pytest.raises(BadRequest):
        Context(Host(), tmp_path)


def test_limits_and_a_missing_directory(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x" * 100, "b": ""})
    with pytest.raises(BadRequest, match="too large"):
        Context(Host(), tmp_path, Limits(max_bytes=50))
    with pytest.raises(BadRequest, match="too large"):
        Context(Host(), tmp_path, Limits(max_entries=1))
    with pytest.raises(NotFound):
        Context(Host(), tmp_path / "absent")
