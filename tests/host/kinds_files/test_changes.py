"""What changed in files, and the patch of it, judged by git."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from wye.host import Host
from wye.kinds.files.changes import FileChange, changes
from wye.kinds.files.patch import git_patch
from wye.merge.files import FileType

pytestmark = pytest.mark.host

HOST = Host()
Three = Any
"""`conftest.Three`."""

NAMES = [
    b"plain.txt", b'quo"ted\n\t', b"\xff\xfe", b"a b/c d", b" lead", b"-n", b"d/\\", "grüße".encode(), b"d/e", b"t ",
    b".gitignore",
]  # fmt: skip
LINES = [
    b"one\n", b"two\n", b"-- a/plain.txt\n", b"+++ b/x\n", b"diff --git a/00000000 b/00000000\n", b"\r\n", b"\xe4\n",
    b"\\ No newline at end of file\n", b"no end",
]  # fmt: skip


def found(three: Three, images: dict[str, Path] | None = None) -> list[FileChange]:
    with three.sides(images) as (base, _, theirs):
        return changes(HOST, base, theirs, three.changes())


def write(root: Path, name: bytes, content: bytes) -> None:
    path = os.path.join(os.fsencode(root), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def git_leaves(root: Path) -> dict[bytes, tuple[object, ...]]:
    """As git keeps them: content, and whether a file may be executed."""
    leaves: dict[bytes, tuple[object, ...]] = {}
    top = os.fsencode(root)
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                leaves[os.path.relpath(path, top)] = ("link", os.readlink(path))
            else:
                with open(path, "rb") as file:
                    leaves[os.path.relpath(path, top)] = (bool(os.stat(path).st_mode & stat.S_IXUSR), file.read())
    return leaves


def git_apply(directory: Path, patch: bytes) -> None:
    environment = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(directory.parent)}
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"], input=patch, cwd=directory, capture_output=True, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, (done.stderr.decode(errors="replace"), patch)


@pytest.mark.parametrize("seed", range(40))
def test_git_turns_base_into_theirs_with_the_patch(three: Three, seed: int) -> None:
    rng = random.Random(seed)
    for name in NAMES:
        if rng.random() < 0.6:
            write(three.data("base"), name, b"".join(rng.choices(LINES[:-1], k=rng.randrange(12))))
    three.copy()
    theirs = os.fsencode(three.data("theirs"))
    for name in rng.sample(NAMES, 6):
        path = os.path.join(theirs, name)
        choice = rng.randrange(6)
        if choice == 0 and os.path.lexists(path):
            os.unlink(path)
        elif choice == 1 and os.path.lexists(path):
            os.chmod(path, 0o755)
        elif choice == 2:
            if os.path.lexists(path):
                os.unlink(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(rng.choice([b"x", b"two\nlines\n", b"\xff"]), path)
        else:
            write(three.data("theirs"), name, b"".join(rng.choices(LINES, k=rng.randrange(12))))
    patch = git_patch(found(three), place="volume data")
    assert patch == git_patch(found(three), place="volume data")
    if patch:
        git_apply(three.data("base"), patch)
    assert git_leaves(three.data("base")) == git_leaves(three.data("theirs"))


def test_what_a_patch_cannot_carry_is_named_in_it(three: Three) -> None:
    three.copy()
    data = three.data("theirs")
    write(data, b"binary", b"\0\1")
    write(data, b".git/hooks/post-checkout\ndiff --git a/x b/x", b"evil")
    write(data, b"GIT~1/config", b"evil")
    os.mkfifo(data / "pipe")
    write(data, b"fine", b"fine\n")
    patch = git_patch(found(three))
    assert patch.count(b"# left out: ") == 4
    assert patch.count(b"\ndiff --git ") == 1
    git_apply(three.side("base"), patch)
    assert (three.data("base") / "fine").read_bytes() == b"fine\n"


def test_states_before_and_after(three: Three, tmp_path: Path) -> None:
    image = tmp_path / "image"
    write(image, b"app/main.py", b"old\n")
    write(image, b"app/gone", b"old\n")
    write(three.data("base"), b"mode", b"x")
    write(three.data("base"), b"touched", b"x")
    three.copy()
    upper = three.side("theirs") / "layers/web/upper"
    write(upper, b"app/main.py", b"new\n")
    os.mknod(upper / "app/gone", stat.S_IFCHR, 0)
    (three.data("theirs") / "mode").chmod(0o4755)
    os.utime(three.data("theirs") / "touched", (1, 1))
    write(three.data("theirs"), b"binary", b"\0" * 5)
    got = {(change.place, change.path): change for change in found(three, {"web": image})}
    assert set(got) == {
        ("layer web", "app/main.py"), ("layer web", "app/gone"), ("volume data", "mode"), ("volume data", "binary"),
    }  # fmt: skip
    main = got["layer web", "app/main.py"]
    assert (main.change, main.diff) == ("modified", b"@@ -1 +1 @@\n-old\n+new\n")
    assert got["layer web", "app/gone"].change == "removed"
    mode = got["volume data", "mode"]
    assert mode.before
    assert mode.after
    assert (mode.before.mode, mode.after.mode, mode.diff) == (0o644, 0o4755, None)
    binary = got["volume data", "binary"].after
    assert binary
    assert (binary.type, binary.size, len(binary.digest)) == (FileType.FILE, 5, 64)


def test_a_link_swapped_in_is_not_followed(three: Three, tmp_path: Path) -> None:
    write(tmp_path, b"secret/f", b"secret\n")
    write(three.data("base"), b"d/f", b"1\n")
    three.copy()
    write(three.data("theirs"), b"d/f", b"2\n")
    listed = three.changes()
    (three.data("theirs") / "d").rename(three.data("theirs") / "was")
    os.symlink(tmp_path / "secret", three.data("theirs") / "d")
    with three.sides() as (base, _, theirs):
        (change,) = changes(HOST, base, theirs, [c for c in listed if c.path.endswith("/f")])
    assert change.after is None
    assert b"secret" not in (change.diff or b"")


def test_texts_that_make_a_plain_diff_quadratic_take_no_time(three: Three) -> None:
    lines = [b"%d\n" % (n % 99) for n in range(20_000)]
    write(three.data("base"), b"slow", b"".join(lines))
    three.copy()
    random.Random(1).shuffle(lines)
    write(three.data("theirs"), b"slow", b"".join(lines))
    began = time.monotonic()
    (change,) = found(three)
    assert change.diff
    assert time.monotonic() - began < 20
