"""Layers of a real overlay: after a merge a service sees what it would see had both sides done their work there."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wye.host import Host

pytestmark = pytest.mark.host

HOST = Host()
Three = Any
"""`conftest.Three`."""

Change = Callable[[Path], None]


@contextmanager
def mounted(three: Three, name: str, image: Path) -> Iterator[Path]:
    layer = three.side(name) / "layers/web"
    (layer / "work").mkdir(exist_ok=True)
    view = three.home / f"view-{name}"
    view.mkdir(exist_ok=True)
    options = f"lowerdir={image},upperdir={layer / 'upper'},workdir={layer / 'work'}"
    HOST.mount("test:overlay", "overlay", view, "overlay", options=options)
    try:
        yield view
    finally:
        HOST.unmount("test:overlay", view)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, content)
    return found


def edit(name: str, content: str) -> Change:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)

    return change


def remove(name: str) -> Change:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def empty(name: str) -> Change:
    def change(root: Path) -> None:
        shutil.rmtree(root / name)
        (root / name).mkdir()
        (root / name / "new").write_text("new")

    return change


def link(name: str) -> Change:
    def change(root: Path) -> None:
        (root / name).unlink()
        (root / name).symlink_to("elsewhere")

    return change


def mode(name: str) -> Change:
    return lambda root: (root / name).chmod(0o700)


def of_part(part: int, rng: random.Random) -> list[Change]:
    """Changes within one part of the image, so that two sides with different parts do not conflict."""
    top = f"part{part}"
    possible = [
        edit(f"{top}/a", "edited\n"), edit(f"{top}/deep/er/new", "new\n"), edit(f"{top}/other/file", "new\n"),
        remove(f"{top}/b"), remove(f"{top}/deep"), empty(f"{top}/deep"), empty(f"{top}/wide"), link(f"{top}/c"),
        mode(f"{top}/wide"), mode(f"{top}/a"), remove(f"{top}/wide/x"), edit(f"{top}/wide/y", "edited\n"),
    ]  # fmt: skip
    return rng.sample(possible, rng.randrange(1, 7))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    for part in range(4):
        for name in ("a", "b", "c", "deep/er/x", "deep/y", "wide/x", "wide/y"):
            edit(f"part{part}/{name}", f"{part} {name}\n")(root)
    root.chmod(0o755)
    return root


@pytest.mark.parametrize("seed", range(24))
def test_both_sides_changes_of_an_image_come_together(three: Three, image: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    expected = tmp_path / "expected"
    HOST.run("test:copy", ["cp", "-a", str(image), str(expected)])

    def change(name: str, parts: tuple[int, ...]) -> None:
        with mounted(three, name, image) as view:
            for part in parts:
                for act in of_part(part, rng):
                    attempt(act, view, expected)

    change("base", (0, 1, 2))
    three.copy()
    change("ours", (0, 3))
    change("theirs", (1, 2))
    images = {"web": image}
    before = three.picture("ours")
    plan = three.plan(images=images)
    assert not plan.conflicts
    application = three.apply(plan, images=images)
    with mounted(three, "ours", image) as view:
        assert tree(view) == tree(expected)
    if seed % 2:
        application.commit()
    else:
        application.undo()
        after = three.picture("ours")
        ours = [name for name in before if not name.startswith("layers/web/work")]
        assert {name: after[name][:5] for name in ours} == {name: before[name][:5] for name in ours}


def attempt(act: Change, *roots: Path) -> None:
    """An earlier change may have taken away what this one is about: then on both."""
    failed = []
    for root in roots:
        try:
            act(root)
        except OSError:
            failed.append(root)
    assert len(failed) in (0, len(roots))
