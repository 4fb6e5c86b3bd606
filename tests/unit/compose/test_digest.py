from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wye.compose.digest import tree_digest
from wye.errors import BadRequest, NotFound, Unavailable


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "a/b").mkdir(parents=True)
    (root / "a/one").write_text("one")
    (root / "a/b/two").write_text("two")
    (root / "link").symlink_to("a/one")
    return root


def test_times_and_place_do_not_count(tree: Path) -> None:
    before = tree_digest(tree)
    os.utime(tree / "a/one", (1, 1))
    moved = tree.rename(tree.parent / "moved")
    assert tree_digest(moved) == before
    assert len(before) == 64


def test_everything_else_counts(tree: Path) -> None:
    seen = {tree_digest(tree)}

    def changed() -> None:
        digest = tree_digest(tree)
        assert digest not in seen
        seen.add(digest)

    (tree / "a/one").write_text("ONE")
    changed()
    (tree / "a/one").chmod(0o600)
    changed()
    (tree / "a/one").rename(tree / "a/uno")
    changed()
    (tree / "link").unlink()
    changed()
    (tree / "link").symlink_to("elsewhere")
    changed()
    (tree / "link").unlink()
    (tree / "link").write_text("elsewhere")
    changed()
    (tree / "empty").mkdir()
    changed()
    (tree / "empty").rename(tree / "a/empty")
    changed()
    tree.chmod(0o700)
    changed()


def test_content_cannot_pose_as_names(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        root.mkdir()
    (one / "ab").write_text("c")
    (two / "a").write_text("bc")
    assert tree_digest(one) != tree_digest(two)


def test_links_are_not_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "out").symlink_to(outside)
    before = tree_digest(tree)
    (outside / "x").write_text("x")
    assert tree_digest(tree) == before


def test_the_source_itself_may_be_a_link_or_a_file(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "to-tree").symlink_to(tree)
    assert tree_digest(tmp_path / "to-tree") == tree_digest(tree)
    assert tree_digest(tree / "link") == tree_digest(tree / "a/one")


def test_sockets_and_pipes_are_left_out(tree: Path) -> None:
    before = tree_digest(tree)
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
    assert tree_digest(tree) == before


def test_the_limit(tree: Path) -> None:
    assert tree_digest(tree, limit_bytes=6) == tree_digest(tree)
    with pytest.raises(BadRequest, match="more than 5 bytes") as caught:
        tree_digest(tree, limit_bytes=5)
    assert caught.value.hint


def test_what_cannot_be_digested(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFound, match="is not there"):
        tree_digest(tmp_path / "none")
    with pytest.raises(BadRequest, match="neither a file nor a directory"):
        tree_digest(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Unavailable, match="cannot be read"):
        tree_digest(tmp_path / "loop")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff", "wb") as stream:
        stream.write(b"x")
    assert tree_digest(tmp_path)
