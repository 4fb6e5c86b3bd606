"""Files merged into a real tree: against an oracle, applied and undone, hostile and cut short."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wye.errors import Conflict as InUse
from wye.host import Host, OperationFailed
from wye.kinds.files.journal import STAGING
from wye.kinds.files.undo import Recovered, recover
from wye.merge.conflict import Decisions, Resolution, Side
from wye.merge.refused import Refused
from wye.testing.faulty_host import FaultyHost

pytestmark = pytest.mark.host

HOST = Host()
Three = Any
"""`conftest.Three`."""

NAMES = ["a", "b", "c", "d/a", "d/b", "d/e/f", "g/h"]
TEXTS = [f"line {n}\n" for n in range(12)]


def text(rng: random.Random) -> bytes:
    return "".join(rng.sample(TEXTS, rng.randrange(3, 9))).encode()


def set_file(root: Path, name: str, content: bytes, mode: int = 0o644) -> None:
    """As a new file in the place of what was there: the old one still exists when the new one gets its inode, for
    ext4 gives a number out again that btrfs never would."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.chmod(mode)
    new.replace(path)


def mutate(root: Path, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 5)):
        path = root / rng.choice(NAMES)
        try:
            match rng.randrange(7):
                case 0 | 1:
                    set_file(root, str(path.relative_to(root)), text(rng))
                case 2:
                    lines = path.read_bytes().splitlines(keepends=True)
                    lines[rng.randrange(len(lines))] = b"edited %d\n" % rng.randrange(3)
                    path.write_bytes(b"".join(lines))
                case 3:
                    path.chmod(rng.choice([0o644, 0o755, 0o600]))
                case 4:
                    path.unlink()
                case 5:
                    path.unlink(missing_ok=True)
                    path.symlink_to(rng.choice(["a", "/etc/passwd", "../.."]))
                case 6:
                    set_file(root, str(path.relative_to(root)), b"\0" + rng.randbytes(4))
        except (OSError, IndexError):
            continue


def oracle(three: Three) -> dict[str, tuple[str, bytes, int]] | None:
    """The merged leaves, None for a conflict. One path at a time, by the plainest rules."""
    base, ours, theirs = (three.leaves(name) for name in ("base", "ours", "theirs"))
    result = dict(ours)
    for path in base.keys() | theirs.keys():
        b, o, t = base.get(path), ours.get(path), theirs.get(path)
        if t in (b, o):
            continue
        if b == o:
            merged = t
        elif b is None or o is None or t is None:
            return None
        else:
            content = three_ways(b[:2], o[:2], t[:2])
            mode = b[2] if b[2] == o[2] == t[2] else pick(b[2], o[2], t[2])
            if content is None or mode is None:
                return None
            merged = (*content, mode)
        if merged is None:
            del result[path]
        else:
            result[path] = merged
    if any(other.startswith(path + "/") for path in result for other in result):
        return None
    return result


def pick(b: Any, o: Any, t: Any) -> Any:
    if t in (b, o):
        return o
    return t if o == b else None


def three_ways(b: tuple[str, bytes], o: tuple[str, bytes], t: tuple[str, bytes]) -> tuple[str, bytes] | None:
    if (picked := pick(b, o, t)) is not None:
        return picked
    if not b[0] == o[0] == t[0] == "file" or any(b"\0" in side[1] for side in (b, o, t)):
        return None
    names = []
    for side in (o, b, t):
        descriptor = os.memfd_create("side")
        os.write(descriptor, side[1])
        names.append(f"/proc/{os.getpid()}/fd/{descriptor}")
    done = subprocess.run(["git", "merge-file", "-p", *names], capture_output=True, check=False)
    for name in names:
        os.close(int(name.rpartition("/")[2]))
    return ("file", done.stdout) if done.returncode == 0 else None


@pytest.mark.parametrize("seed", range(60))
def test_random_trees_merge_as_the_oracle_says(three: Three, seed: int) -> None:
    rng = random.Random(seed)
    for name in NAMES:
        if rng.random() < 0.7:
            set_file(three.data("base"), name, text(rng))
    three.copy()
    mutate(three.data("ours"), rng)
    mutate(three.data("theirs"), rng)
    expected, before = oracle(three), three.picture("ours")
    plan = three.plan()
    assert bool(plan.conflicts) == (expected is None), plan.conflicts
    if expected is None:
        assert three.picture("ours") == before
        return
    application = three.apply(plan)
    assert three.leaves("ours") == expected
    assert application.check() == []
    if seed % 2:
        assert application.undo() == []
        assert three.picture("ours") == before
    else:
        application.commit()
        assert not (three.side("ours") / STAGING).exists()
        again = three.plan()
        assert not again.conflicts or expected != three.leaves("theirs")


def test_a_merge_with_an_unchanged_target_gives_theirs(three: Three) -> None:
    data = three.data("base")
    set_file(data, "a", b"1\n")
    set_file(data, "deep/er/b", b"1\n")
    os.symlink("a", data / "link")
    three.copy()
    theirs = three.data("theirs")
    shutil.rmtree(theirs / "deep")
    set_file(theirs, "deep", b"a file now")
    (theirs / "link").unlink()
    (theirs / "link").mkdir()
    set_file(theirs, "link/in", b"side", 0o4755)
    os.chown(theirs / "a", 7, 8)
    os.setxattr(theirs / "a", "user.note", b"\xff\0")
    os.mkfifo(theirs / "pipe", 0o640)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(theirs / "sock"))
    theirs.chmod(0o711)
    three.apply(three.plan()).commit()
    mine, other = three.picture("ours"), three.picture("theirs")
    assert {path: state[:6] for path, state in mine.items()} == {path: state[:6] for path, state in other.items()}


def test_later_writes_survive_a_revert(three: Three) -> None:
    set_file(three.data("base"), "a", b"".join(b"%d\n" % n for n in range(20)))
    three.copy()
    set_file(three.data("theirs"), "a", (three.data("base") / "a").read_bytes().replace(b"3\n", b"three\n", 1))
    set_file(three.data("theirs"), "new", b"new\n")
    three.apply(three.plan()).commit()
    live = three.data("ours") / "a"
    live.write_bytes(live.read_bytes() + b"written later\n")
    three.side("base").rename(three.home / "was")
    three.side("theirs").rename(three.side("base"))
    (three.home / "was").rename(three.side("theirs"))
    three.apply(three.plan()).commit()
    assert live.read_bytes() == b"".join(b"%d\n" % n for n in range(20)) + b"written later\n"
    assert not (three.data("ours") / "new").exists()


def test_conflicting_lines_can_be_resolved(three: Three) -> None:
    set_file(three.data("base"), "a", b"one\ntwo\nthree\n")
    three.copy()
    set_file(three.data("ours"), "a", b"one\nours\nthree\n")
    set_file(three.data("theirs"), "a", b"one\ntheirs\nthree\n")
    (conflict,) = three.plan().conflicts
    assert (conflict.kind, conflict.place, conflict.base) == ("text", "volume data: a", "two\n")
    plan = three.plan(Decisions({conflict.id: Resolution(side=Side.VALUE, value="both\n")}))
    three.apply(plan).commit()
    assert (three.data("ours") / "a").read_bytes() == b"one\nboth\nthree\n"


def test_attributes_change_in_place_while_the_content_goes_on(three: Three) -> None:
    set_file(three.data("base"), "log", b"1\n")
    three.copy()
    (three.data("theirs") / "log").chmod(0o600)
    plan = three.plan()
    live = three.data("ours") / "log"
    with live.open("ab") as writer:
        writer.write(b"2\n")
        writer.flush()
        three.apply(plan).commit()
        writer.write(b"3\n")
    assert (live.read_bytes(), stat.S_IMODE(live.stat().st_mode)) == (b"1\n2\n3\n", 0o600)


# ---------------------------------------------------------------- layers


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    set_file(root, "app/main.py", b"a\nb\nc\nd\ne\n")
    set_file(root, "app/data/x", b"x")
    set_file(root, "app/data/y", b"y")
    root.chmod(0o755)
    return root


def upper(three: Three, name: str) -> Path:
    return three.side(name) / "layers/web/upper"


def test_two_edits_of_an_images_file_merge_by_lines(three: Three, image: Path) -> None:
    three.copy()
    set_file(upper(three, "ours"), "app/main.py", b"a\nb\nc\nd\nE\n")
    set_file(upper(three, "theirs"), "app/main.py", b"A\nb\nc\nd\ne\n")
    plan = three.plan(images={"web": image})
    three.apply(plan, images={"web": image}).commit()
    assert (upper(three, "ours") / "app/main.py").read_bytes() == b"A\nb\nc\nd\nE\n"


def test_a_deleted_image_file_becomes_a_whiteout(three: Three, image: Path) -> None:
    three.copy()
    (upper(three, "theirs") / "app/data").mkdir(parents=True)
    os.mknod(upper(three, "theirs") / "app/data/x", stat.S_IFCHR, 0)
    os.setxattr(upper(three, "theirs") / "app", "trusted.overlay.origin", b"elsewhere")
    before = three.picture("ours")
    application = three.apply(three.plan(images={"web": image}), images={"web": image})
    made = upper(three, "ours") / "app/data/x"
    assert stat.S_ISCHR(made.lstat().st_mode)
    assert made.lstat().st_rdev == 0
    assert os.listxattr(upper(three, "ours") / "app") == []
    application.undo()
    assert three.picture("ours") == before


def test_an_emptied_image_directory_against_a_change_in_it_is_a_conflict(three: Three, image: Path) -> None:
    three.copy()
    theirs = upper(three, "theirs") / "app/data"
    theirs.mkdir(parents=True)
    os.setxattr(theirs, "trusted.overlay.opaque", b"y")
    set_file(theirs, "z", b"z")
    plan = three.plan(images={"web": image})
    assert not plan.conflicts
    application = three.apply(plan, images={"web": image})
    assert os.getxattr(upper(three, "ours") / "app/data", "trusted.overlay.opaque") == b"y"
    application.undo()
    set_file(upper(three, "ours"), "app/data/y", b"changed")
    (conflict,) = three.plan(images={"web": image}).conflicts
    assert (conflict.kind, conflict.key) == ("delete/update", ("app/data/y",))


def test_a_write_below_a_directory_of_the_image_stores_the_directory(three: Three, image: Path) -> None:
    (image / "app").chmod(0o750)
    three.copy()
    set_file(upper(three, "theirs"), "app/new.py", b"new")
    (upper(three, "theirs") / "app").chmod(0o750)
    three.apply(three.plan(images={"web": image}), images={"web": image}).commit()
    assert (upper(three, "ours") / "app/new.py").read_bytes() == b"new"
    assert stat.S_IMODE((upper(three, "ours") / "app").stat().st_mode) == 0o750


def test_special_files_are_refused(three: Three) -> None:
    set_file(three.data("base"), "twice", b"1")
    three.copy()
    os.mknod(three.data("theirs") / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    set_file(three.data("theirs"), "moved", b"")
    os.setxattr(three.data("theirs") / "moved", "trusted.overlay.redirect", b"/x")
    os.link(three.data("ours") / "twice", three.data("ours") / "again")
    set_file(three.data("theirs"), "twice", b"2")
    assert [(c.kind, c.key) for c in three.plan().conflicts] == [
        ("special-file", ("disk",)),
        ("special-file", ("moved",)),
        ("hard-link", ("twice",)),
    ]


# ---------------------------------------------------------------- a target that moves, hostile or not


def stale(three: Three) -> Iterator[Any]:
    for name in ("edited", "gone", "moded", "linked"):
        set_file(three.data("base"), name, b"1\n")
    three.copy()
    for name in ("edited", "gone", "moded", "linked"):
        set_file(three.data("theirs"), name, b"2\n")
    set_file(three.data("theirs"), "taken", b"2\n")
    yield three.plan()


def test_everything_that_moved_since_the_plan_is_named(three: Three, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1\n")
    (plan,) = stale(three)
    live = three.data("ours")
    (live / "edited").write_bytes(b"3\n")
    (live / "gone").unlink()
    (live / "moded").chmod(0o600)
    (live / "linked").unlink()
    os.symlink(secret, live / "linked")
    set_file(live, "taken", b"")
    before = three.picture("ours")
    with pytest.raises(Refused) as refused:
        three.apply(plan)
    assert sorted(c.key[0] for c in refused.value.conflicts) == ["edited", "gone", "linked", "moded", "taken"]
    assert three.picture("ours") == before
    assert secret.read_bytes() == b"1\n"


class Meddler(Host):
    """Acts once, just before a label."""

    def __init__(self, label: str, act: Any, nth: int = 1) -> None:
        self.label, self.act, self.left = label, act, nth

    def at(self, label: str) -> None:
        if label == self.label:
            self.left -= 1
            if self.left == 0:
                self.act()


def replace_directory_by_link(live: Path, elsewhere: Path) -> None:
    (live / "d").rename(live / "was")
    os.symlink(elsewhere, live / "d")


def write_in_place(live: Path) -> None:
    (live / "d/f").write_bytes(b"3\n")


def save_anew(live: Path) -> None:
    set_file(live, "d/f", b"3\n")


def fill(live: Path) -> None:
    set_file(live, "empty/just", b"now")


@pytest.mark.parametrize("what", ["link", "write", "save", "fill", "occupy"])
def test_a_change_at_the_last_moment_undoes_everything(three: Three, tmp_path: Path, what: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    set_file(elsewhere, "f", b"1\n")
    data = three.data("base")
    set_file(data, "a", b"1\n")
    set_file(data, "d/f", b"1\n")
    (data / "empty").mkdir()
    three.copy()
    for name in ("a", "d/f", "z"):
        set_file(three.data("theirs"), name, b"2\n")
    (three.data("theirs") / "empty").rmdir()
    plan, live = three.plan(), three.data("ours")
    acts = {
        "link": (lambda: replace_directory_by_link(live, elsewhere), 2),
        "write": (lambda: write_in_place(live), 1),
        "save": (lambda: save_anew(live), 1),
        "fill": (lambda: fill(live), 1),
        "occupy": (lambda: set_file(live, "z", b"3\n"), 1),
    }
    act, nth = acts[what]
    copied = tmp_path / "expected"
    with pytest.raises(Refused):
        three.apply(plan, Meddler("files:swap", act, nth))
    shutil.copytree(three.data("ours"), copied, symlinks=True)
    assert (live / "a").read_bytes() == b"1\n"
    assert (elsewhere / "f").read_bytes() == b"1\n"
    assert (live / "empty").is_dir()
    expected = {"write": b"3\n", "save": b"3\n"}.get(what, b"1\n")
    assert (live / ("was/f" if what == "link" else "d/f")).read_bytes() == expected
    assert (live / "z").exists() == (what == "occupy")
    assert (live / "empty/just").exists() == (what == "fill")
    assert not (three.side("ours") / STAGING).exists()


def test_a_write_to_a_replaced_file_is_found(three: Three) -> None:
    set_file(three.data("base"), "a", b"1\n")
    three.copy()
    set_file(three.data("theirs"), "a", b"2\n")
    plan = three.plan()
    with (three.data("ours") / "a").open("ab") as writer:
        application = three.apply(plan)
        assert application.check() == []
        writer.write(b"late\n")
        writer.flush()
        (conflict,) = application.check()
        assert conflict.key == ("a",)
        application.undo()
    assert (three.data("ours") / "a").read_bytes() == b"1\nlate\n"


def test_what_others_put_there_after_the_merge_is_told_by_undo(three: Three) -> None:
    set_file(three.data("base"), "a", b"1\n")
    three.copy()
    set_file(three.data("theirs"), "a", b"2\n")
    set_file(three.data("theirs"), "new/b", b"2\n")
    application = three.apply(three.plan())
    set_file(three.data("ours"), "a", b"3\n")
    set_file(three.data("ours"), "new/c", b"3\n")
    assert sorted(application.undo()) == ["volumes/data/a", "volumes/data/new"]
    assert (three.data("ours") / "a").read_bytes() == b"1\n"
    assert (three.data("ours") / "new/c").read_bytes() == b"3\n"
    assert not (three.data("ours") / "new/b").exists()


def test_hostile_names_and_a_large_file(three: Three) -> None:
    names = [b'new\nline "quoted" \\ \xff', b"--output=x", b" ", b"\xe2\x80\xae", b"x" * 255, b"$(id)"]
    three.copy()
    root = os.fsencode(three.data("theirs"))
    for name in names:
        with open(os.path.join(root, name), "wb") as file:
            file.write(name)
    with open(os.path.join(root, b"large"), "wb") as file:
        file.writelines(bytes([n]) * (1 << 20) for n in range(200))
    three.apply(three.plan()).commit()
    for name in [*names, b"large"]:
        mine, other = (os.path.join(os.fsencode(three.data(side)), name) for side in ("ours", "theirs"))
        with open(mine, "rb") as left, open(other, "rb") as right:
            assert left.read() == right.read()


def test_paths_longer_than_the_kernel_takes(three: Three) -> None:
    names = ["x" * 200] * 30

    def descend(name: str) -> int:
        directory = os.open(three.data(name), os.O_RDONLY)
        for part in names:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=directory)
            below = os.open(part, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        return directory

    def put(name: str, content: bytes) -> None:
        directory = descend(name)
        file = os.open("f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=directory)
        os.write(file, content)
        os.close(file)
        os.close(directory)

    three.copy()
    put("theirs", b"new\n")
    before = three.picture("ours")
    application = three.apply(three.plan())
    directory = descend("ours")
    file = os.open("f", os.O_RDONLY, dir_fd=directory)
    assert os.read(file, 100) == b"new\n"
    os.close(file)
    os.close(directory)
    assert application.undo() == []
    assert three.picture("ours") == before


# ---------------------------------------------------------------- cut short


def various(three: Three) -> None:
    data = three.data("base")
    for name in ("edit", "remove", "mode", "dir/x", "dir/y", "type"):
        set_file(data, name, b"1\n")
    three.copy()
    theirs = three.data("theirs")
    set_file(theirs, "edit", b"2\n")
    (theirs / "remove").unlink()
    (theirs / "mode").chmod(0o600)
    shutil.rmtree(theirs / "dir")
    (theirs / "type").unlink()
    set_file(theirs, "type/now/dir", b"2\n")
    set_file(theirs, "added/deep/file", b"2\n")
    theirs.chmod(0o700)


SCRIPT = """
import sys
from pathlib import Path
from wye.kinds.files.apply import apply
from wye.kinds.files.plan import plan
from wye.kinds.files.tree import Side
from wye.kinds.files.undo import recover
from wye.testing.faulty_host import FaultyHost
from wye.interfaces import PathChange
import json
home, fault, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
host = FaultyHost.from_text(fault)
changes = [PathChange(path=p, kind=k, metadata_only=m) for p, k, m in json.load(sys.stdin)]
base, ours, theirs = (Side(host, home / name) for name in ("base", "ours", "theirs"))
if what == "recover":
    recover(host, home / "ours")
else:
    application = apply(host, plan(host, base, ours, theirs, changes).writes, theirs=theirs, live=ours)
    application.undo() if what == "undo" else application.commit()
"""


def run(three: Three, fault: str, what: str) -> int:
    changes = json.dumps([(c.path, c.kind, c.metadata_only) for c in three.changes()])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(three.home), fault, what], input=changes.encode(), capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1, -9), done.stderr.decode()
    return done.returncode


def test_a_kill_at_any_point_can_be_undone_or_finished(three: Three, tmp_path: Path) -> None:
    various(three)
    before = three.picture("ours")
    trace = tmp_path / "labels"
    kept = three.home / "kept"
    HOST.run("test:keep", ["cp", "-a", str(three.side("ours")), str(kept)])
    assert run(three, f"record:{trace}", "commit") == 0
    after = {path: state[:6] for path, state in three.picture("ours").items()}
    points = []
    seen: dict[str, int] = {}
    for label in trace.read_text().split():
        seen[label] = seen.get(label, 0) + 1
        points.append((label, seen[label]))
    applied = [label for label, _ in points].index("files:close-journal")
    for index, (label, nth) in enumerate(points):
        for finish in (False, True):
            shutil.rmtree(three.side("ours"))
            HOST.run("test:keep", ["cp", "-a", str(kept), str(three.side("ours"))])
            assert run(three, f"kill:{label}:{nth}", "commit") == -9
            outcome = recover(HOST, three.side("ours"), finish=finish)
            got = three.picture("ours")
            if {path: state[:6] for path, state in got.items()} == after:
                assert index > applied or (finish and outcome is Recovered.FINISHED), label
            else:
                assert got == before, label
                assert index <= applied, label
            assert recover(HOST, three.side("ours")) is Recovered.NOTHING


def test_a_kill_during_undo_and_recovery_loses_nothing(three: Three, tmp_path: Path) -> None:
    various(three)
    before = three.picture("ours")
    for nth in range(1, 8):
        assert run(three, f"kill:files:unswap:{nth}", "undo") in (-9, 0)
        run(three, f"kill:files:unswap:{1 + nth % 3}", "recover")
        recover(HOST, three.side("ours"))
        assert three.picture("ours") == before


@pytest.mark.parametrize("label", ["files:stage", "files:swap", "files:set-attributes", "files:sync-applied"])
def test_a_failure_undoes_everything(three: Three, label: str) -> None:
    various(three)
    before = three.picture("ours")
    with pytest.raises(OperationFailed):
        three.apply(three.plan(), FaultyHost(fail_at=label))
    assert three.picture("ours") == before
    three.apply(three.plan()).commit()


def test_one_application_at_a_time(three: Three) -> None:
    various(three)
    plan = three.plan()
    application = three.apply(plan)
    with pytest.raises(InUse):
        three.apply(plan)
    application.undo()
