"""Layers that try to reach beyond the directory they are unpacked in. Nothing outside may ever change."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wye.errors import WyeError
from wye.host import Host
from wye.interfaces import silent

pytestmark = pytest.mark.host

LINK, HARD, CHARACTER, BLOCK, PIPE = (
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
)  # fmt: skip


def fingerprint(root: Path) -> str:
    """Of everything below `root`: names, kinds, owners, modes, times, contents."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files, "."]):
            path = Path(folder, name)
            status = os.lstat(path)
            seen = (str(path), status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns)
            digest.update(repr(seen).encode())
            if stat.S_ISREG(status.st_mode):
                digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that no image may touch; checked at the end, with /etc/passwd and the like."""
    canary = tmp_path / "outside"
    (canary / "etc").mkdir(parents=True)
    (canary / "victim").write_text("untouched")
    (canary / "etc/victim").write_text("untouched")
    watched = [Path(path) for path in ("/etc/passwd", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")]
    before = fingerprint(canary), [os.stat(path) for path in watched]
    yield canary
    after = [os.stat(path) for path in watched]
    assert fingerprint(canary) == before[0]
    for old, new in zip(before[1], after, strict=True):
        assert (old.st_ino, old.st_mode, old.st_uid, old.st_mtime_ns) == (
            new.st_ino,
            new.st_mode,
            new.st_uid,
            new.st_mtime_ns,
        )


def attacks(outside: Path) -> dict[str, list[list[tuple[str, dict[str, Any], bytes]]]]:
    """Name -> layers -> members (name, attributes, content)."""
    up = "../" * 24
    o = str(outside)

    def link(name: str, target: str, kind: bytes = LINK) -> tuple[str, dict[str, Any], bytes]:
        return name, {"type": kind, "linkname": target}, b""

    def file(name: str) -> tuple[str, dict[str, Any], bytes]:
        return name, {"mode": 0o644}, b"pwned"

    return {
        "dots in a name": [[file(f"{up}{o[1:]}/victim"), file(f"a/{up}{o[1:]}/new")]],
        "an absolute name": [[file(f"{o}/victim"), file("/etc/passwd")]],
        "through a link in an earlier layer": [[link("escape", o)], [file("escape/victim"), file("escape/new")]],
        "through a link in the same layer": [[link("escape", o), file("escape/victim")]],
        "through a relative link": [[link("escape", f"{up}{o[1:]}")], [file("escape/victim")]],
        "through a chain of links": [[link("a", o), link("b", "a"), link("c", "/b")], [file("c/victim")]],
        "a file over a link": [[link("victim", f"{o}/victim")], [file("victim")]],
        "a directory over a link": [[link("d", o)], [("d", {"type": tarfile.DIRTYPE, "mode": 0o777, "uid": 5}, b"")]],
        "a hard link outside": [[link("hard", f"{o}/victim", HARD), file("hard")]],
        "a hard link by dots": [[link("hard", f"{up}{o[1:]}/victim", HARD), file("hard")]],
        "a hard link through a link": [[link("s", o), link("hard", "s/victim", HARD)], [file("hard")]],
        "a hard link to a link": [[link("s", f"{o}/victim"), link("hard", "s", HARD)], [file("hard")]],
        "the root is a link": [[link(".", o)], [file("victim")]],
        "the root is a link, spelled otherwise": [[link("./", o)], [file("victim")]],
        "the root is a link, absolute": [[link("/", o)], [file("victim")]],
        "the root is a file": [[file(".")], [file("victim")]],
        "a whiteout of dots": [[file("a")], [file(".wh..."), file("x/.wh..."), file(".wh..")]],
        "a whiteout through a link": [[link("escape", o)], [file("escape/.wh.victim"), file("escape/etc/.wh.victim")]],
        "an opaque whiteout through a link": [[link("escape", o)], [file("escape/.wh..wh..opq")]],
        "a whiteout by dots": [[file("a")], [file(f"{up}{o[1:]}/.wh.victim")]],
        "etc is a link": [[link("etc", f"{o}/etc")]],
        "tmp and run are links": [[link("tmp", o), link("run", o), link("dev", "/dev")]],
        "etc/hosts is a link": [[link("etc/hosts", f"{o}/victim"), link("etc/resolv.conf", "/etc/resolv.conf")]],
        "metadata of a link": [[("l", {"type": LINK, "linkname": f"{o}/victim", "uid": 5, "mtime": 1}, b"")]],
        "nodes": [
            [
                ("dev/null", {"type": CHARACTER, "devmajor": 1, "devminor": 3, "mode": 0o666}, b""),
                ("disk", {"type": BLOCK, "devmajor": 8, "devminor": 0, "mode": 0o666}, b""),
                ("pipe", {"type": PIPE}, b""),
            ]
        ],
        "names that lie": [[file("a\nb"), file("\x1b[2J"), file("a" * 255), file(" "), file("-rf")]],
        "a very deep tree": [[file("d/" * 1500 + "f")]],
        "a tree too deep for a path": [[file("d/" * 2500 + "f")], [file("e/" * 2500 + "f")]],
    }  # fmt: skip


@pytest.mark.parametrize("name", attacks(Path("/x")))
def test_nothing_outside_is_touched(
    name: str, outside: Path, pusher: Any, new_store: Callable[..., Any], tmp_path: Path
) -> None:
    layers = [pusher.layer(*members) for members in attacks(outside)[name]]
    reference = pusher.push(f"hostile/{hashlib.sha256(name.encode()).hexdigest()[:8]}", layers)
    store = new_store()
    refused = None
    try:
        image = store.resolve(reference, pull=False, report=silent)
    except WyeError as error:
        # As good as harmless, if it is said clearly and nothing is left.
        refused = error
    if refused is not None:
        assert refused.message
    else:
        rootfs = store.rootfs(image)
        assert rootfs.is_dir()
        assert not rootfs.is_symlink()
        odd = Host().run(
            "test:find", ["find", str(rootfs), "-not", "-type", "d", "-not", "-type", "f", "-not", "-type", "l"]
        )
        assert odd.stdout == b""
        store.delete(image.digest)
    assert store.digests() == frozenset()
    assert os.listdir(tmp_path / "store/images/.staging") == []
