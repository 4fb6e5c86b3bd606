"""The three layouts, on directories that look like them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from wye.drivers.crun.cgroup import Cgroups, Layout, remount
from wye.errors import Unsupported
from wye.host import MS_NODEV, MS_NOEXEC, MS_NOSUID, Host, OperationFailed


class Recording(Host):
    def __init__(self, *, refuses: bool = False) -> None:
        self.mounts: list[tuple[str, str]] = []
        self.refuses = refuses

    def mount(
        self, label: str, source: str | Path, target: str | Path, kind: str, *, flags: int = 0, options: str = ""
    ) -> None:
        self.mounts.append((str(target), options))
        if self.refuses:
            raise OperationFailed(label, f"mount {target}", 16)


def unified(root: Path, controllers: str = "cpu memory pids io") -> Path:
    (root / "cgroup.controllers").write_text(controllers + "\n")
    return root


def legacy(root: Path) -> Path:
    for name in ("cpu", "memory", "pids"):
        (root / name).mkdir()
        (root / name / "cgroup.procs").touch()
    return root


def hybrid(root: Path, controllers: str = "") -> Path:
    legacy(root)
    (root / "unified").mkdir()
    (root / "unified" / "cgroup.controllers").write_text(controllers + "\n")
    return root


def test_layouts(tmp_path: Path) -> None:
    for make, expected in ((unified, Layout.UNIFIED), (legacy, Layout.LEGACY), (hybrid, Layout.HYBRID)):
        root = tmp_path / expected
        root.mkdir()
        groups = Cgroups(Host(), "/wye", make(root))
        assert groups.layout is expected
        groups.prepare()
        assert [finding.level for finding in groups.diagnose()] == ["ok"]


def test_a_hybrid_machines_v1_trees_take_the_controllers(tmp_path: Path) -> None:
    host = Recording()
    groups = Cgroups(host, "/wye", hybrid(tmp_path, "hugetlb misc"))
    (finding,) = groups.diagnose()
    assert (finding.level, "hugetlb, misc" in finding.text) == ("warning", True)
    groups.prepare()
    assert host.mounts == [(str(tmp_path / name), name) for name in ("hugetlb", "misc")]


@pytest.mark.parametrize(("set_before", "raised"), [("1024\n", True), ("512\n", False)])
def test_all_containers_together_weigh_more_than_one_process(tmp_path: Path, set_before: str, raised: bool) -> None:
    shares = legacy(tmp_path) / "cpu" / "wye" / "cpu.shares"
    shares.parent.mkdir()
    shares.write_text(set_before)
    Cgroups(Host(), "/wye/one", tmp_path).prepare()
    assert shares.read_text().startswith(str(2048 * (os.cpu_count() or 1))) == raised


def test_a_hybrid_machine_that_refuses_says_what_to_do(tmp_path: Path) -> None:
    groups = Cgroups(Recording(refuses=True), "/wye", hybrid(tmp_path, "hugetlb"))
    with pytest.raises(Unsupported, match="hugetlb") as caught:
        groups.prepare()
    assert "mount -t cgroup -o hugetlb" in (caught.value.hint or "")


def test_a_controller_that_is_not_there(tmp_path: Path) -> None:
    groups = Cgroups(Host(), "/wye", unified(tmp_path, "cpu io"))
    with pytest.raises(Unsupported, match="memory, pids"):
        groups.prepare()
    assert [finding.level for finding in groups.diagnose()] == ["failure"]


def test_a_remount_keeps_what_was_mounted_with() -> None:
    mountinfo = (
        "24 1 8:1 / / rw,noatime shared:1 - ext4 /dev/vda rw\n"
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:4 - cgroup2 cgroup2"
        " rw,nsdelegate,memory_recursiveprot\n"
    )
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    assert remount(mountinfo, Path("/sys/fs/cgroup")) == (flags, ["nsdelegate", "memory_recursiveprot"])
    assert remount(mountinfo, Path("/")) is None
    assert remount("", Path("/sys/fs/cgroup")) is None


@pytest.mark.parametrize("layout", [Layout.UNIFIED, Layout.LEGACY])
def test_memory_of_a_group(tmp_path: Path, layout: Layout) -> None:
    groups = Cgroups(Host(), "/wye", unified(tmp_path) if layout is Layout.UNIFIED else legacy(tmp_path))
    group = tmp_path / ("" if layout is Layout.UNIFIED else "memory") / "wye" / "c"
    group.mkdir(parents=True)
    current, events, counted = (
        ("memory.current", "memory.events", "low 0\noom 3\noom_kill 2\n")
        if layout is Layout.UNIFIED
        else ("memory.usage_in_bytes", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    )
    (group / current).write_text("4096\n")
    (group / events).write_text(counted)
    path = groups.path("c")
    assert (groups.memory_bytes(path), groups.out_of_memory(path)) == (4096, True)
    (group / events).write_text("oom 3\noom_kill 0\n")
    assert not groups.out_of_memory(path)
    assert (groups.memory_bytes("/wye/none"), groups.out_of_memory("/wye/none")) == (None, False)


def test_killing_without_cgroup_kill(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "100"])
    group = tmp_path / "pids" / "wye" / "c"

    class Emptying(Host):
        def sleep(self, seconds: float) -> None:
            sleeper.wait()
            (group / "cgroup.procs").write_text("")

    groups = Cgroups(Emptying(), "/wye", legacy(tmp_path))
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text(f"{sleeper.pid}\n")
    groups.kill(groups.path("c"))
    assert sleeper.returncode == -9
    assert not (group / "cgroup.kill").exists()
