"""Killed at any labelled operation, a store has the whole image or none, and the next attempt succeeds."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wye.drivers.images.store import ImageStore
from wye.errors import WyeError
from wye.host import Host
from wye.interfaces import silent
from wye.model import Build
from wye.testing.faulty_host import FaultyHost

pytestmark = [pytest.mark.host, pytest.mark.timeout(900)]

PROGRAM = str(Path(__file__).with_name("resolve_or_die.py"))


def attempt(root: Path, fault: str, what: str) -> int:
    """The exit status; minus the signal's number if it was killed."""
    return Host().run("test:attempt", [sys.executable, PROGRAM, str(root), fault, what], check=False).status


def labels_of(tmp_path: Path, root: Path, what: str) -> list[str]:
    """Every label that a whole run passes, with how often, as faults name them: "label:2"."""
    record = tmp_path / "labels"
    assert attempt(root, f"record:{record}", what) == 0
    counts: Counter[str] = Counter()
    numbered = []
    for label in record.read_text().split():
        counts[label] += 1
        numbered.append(f"{label}:{counts[label]}")
    return numbered


def opened(root: Path, host: Host | None = None) -> ImageStore:
    store = ImageStore(host or Host(), directory=root / "images", cache=root / "cache")
    store.open()
    return store


def pull_that_dies(root: Path, label: str, reference: str) -> int:
    """Like `attempt`, in a process that need not start first."""
    child = os.fork()
    if child == 0:
        try:
            opened(root, FaultyHost.from_text(f"kill:{label}")).resolve(reference, pull=False, report=silent)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def assert_whole_or_none(root: Path, digest: str) -> None:
    store = opened(root)
    assert store.digests() <= {digest}
    assert os.listdir(root / "images/.staging") == []
    if store.digests():
        assert (root / "images" / digest / "rootfs/two").read_text() == "2"


def test_a_pull_killed_anywhere(pusher: Any, tmp_path: Path) -> None:
    layers = [pusher.layer(pusher.member("one", b"1")), pusher.layer(pusher.member("two", b"2", mode=0o755))]
    reference = pusher.push("interrupted", layers)
    labels = labels_of(tmp_path, tmp_path / "first", reference)
    assert len(labels) > 20
    whole = opened(tmp_path / "first").resolve(reference, pull=False, report=silent)
    for number, label in enumerate(labels):
        root = tmp_path / f"kill-{number}"
        assert pull_that_dies(root, label, reference) == -signal.SIGKILL, label
        assert_whole_or_none(root, whole.digest)
        store = opened(root)
        assert store.resolve(reference, pull=False, report=silent) == whole, label
        assert_whole_or_none(root, whole.digest)


def test_a_pull_that_fails_anywhere_leaves_nothing(pusher: Any, tmp_path: Path) -> None:
    reference = pusher.push("failing", [pusher.layer(pusher.member("two", b"2"))])
    labels = labels_of(tmp_path, tmp_path / "first", reference)
    whole = opened(tmp_path / "first").resolve(reference, pull=False, report=silent)
    for number, label in enumerate(labels):
        root = tmp_path / f"fail-{number}"
        with pytest.raises(WyeError):
            opened(root, FaultyHost.from_text(f"fail:{label}")).resolve(reference, pull=False, report=silent)
        assert_whole_or_none(root, whole.digest)
        assert opened(root).resolve(reference, pull=False, report=silent) == whole, label


@pytest.fixture
def layered(catalogue: ImageStore, tmp_path: Path) -> tuple[Path, Path]:
    """A store that has wye/python (linked to the catalogue's files, not copied), and a directory to build."""
    image = catalogue.resolve("wye/python", pull=False, report=silent)
    source = catalogue.rootfs(image).parents[1]
    root = tmp_path / "store"
    opened(root)
    host = Host()
    for name in (image.digest, "references"):
        host.run("test:copy", ["cp", "-al", f"{source}/{name}", str(root / "images")])
    context = tmp_path / "app"
    context.mkdir()
    (context / "requirements.txt").write_text("")
    (context / "main.py").write_text("print('built')\n")
    return root, context


@pytest.mark.slow
def test_a_build_killed_anywhere(layered: tuple[Path, Path], tmp_path: Path, inside: Callable[..., Any]) -> None:
    root, context = layered
    base = opened(root).digests()
    whole = opened(root).build(Build(context=str(context)), report=silent)
    opened(root).delete(whole.digest)
    forget_dependencies(root)
    labels = labels_of(tmp_path, root, str(context))
    opened(root).delete(whole.digest)
    for label in dict.fromkeys(label.rpartition(":")[0] for label in labels):
        if label in ("images:build-dependencies", "images:layer"):
            forget_dependencies(root)
        assert attempt(root, f"kill:{label}", str(context)) == -signal.SIGKILL, label
        assert opened(root).digests() - base <= {whole.digest}, label
        assert opened(root).build(Build(context=str(context)), report=silent) == whole, label
        opened(root).delete(whole.digest)


def forget_dependencies(root: Path) -> None:
    Host().run("test:clear", ["find", str(root / "images/layers"), "-mindepth", "1", "-delete"])


def test_a_program_does_not_outlive_the_daemon_that_started_it(layered: tuple[Path, Path], tmp_path: Path) -> None:
    root, context = layered
    marker = f"marker-{os.getpid()}-{tmp_path.name}"
    (context / "requirements.txt").write_text(f"--find-links /{marker}\n./package\n")
    package = context / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
    )
    (package / "b.py").write_text(
        f"import subprocess\nsubprocess.run(['sh', '-c', 'while :; do sleep 1; done', '{marker}'])\n"
    )
    process = Host().spawn("test:attempt", [sys.executable, PROGRAM, str(root), "record:/dev/null", str(context)])
    try:
        while not running(marker):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    for _ in range(2000):
        if not running(marker):
            break
    assert not running(marker)
    opened(root)
    assert os.listdir(root / "images/.staging") == []


def running(marker: str) -> bool:
    return Host().run("test:ps", ["pgrep", "-f", f"sleep 1; done {marker}"], check=False).status == 0
