"""The catalogue's images hold what they promise, and nothing of the host's."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wye.drivers.images.store import ImageStore
from wye.errors import NotFound
from wye.interfaces import Progress, silent

pytestmark = [pytest.mark.host, pytest.mark.timeout(900)]

NAMES = ["wye/base", "wye/node", "wye/postgres", "wye/python", "wye/redis", "wye/shell"]
TOOLS = {
    "wye/base": "apt-get bash dpkg",
    "wye/node": "node npm npx",
    "wye/postgres": "postgres initdb psql pg_ctl pg_isready pg_dump",
    "wye/python": "python python3 pip",
    "wye/redis": "redis-server redis-cli",
    "wye/shell": "bash git curl psql redis-cli python3 sudo jq less ps",
}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_its_tools_and_is_clean(catalogue: ImageStore, inside: Callable[..., Any], name: str) -> None:
    image = catalogue.resolve(name, pull=False, report=silent)
    rootfs = catalogue.rootfs(image)
    container = inside(image)
    output = container.run(f"command -v {TOOLS[name]} && locale -a && dpkg --audit")
    assert len([line for line in output if line.startswith("/")]) == len(TOOLS[name].split())
    assert "C.utf8" in output
    for folder, mode in {"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "tmp": 0o1777}.items():
        assert (rootfs / folder).is_dir()
        assert stat.S_IMODE((rootfs / folder).stat().st_mode) in (mode, 0o755)
    assert stat.S_IMODE((rootfs / "tmp").stat().st_mode) == 0o1777
    for name_ in ("hosts", "hostname", "resolv.conf"):
        assert (rootfs / "etc" / name_).read_bytes() == b""
        assert not (rootfs / "etc" / name_).is_symlink()
    assert os.listdir(rootfs / "usr/share/doc") == []
    assert os.listdir(rootfs / "usr/share/man") == []


@pytest.mark.parametrize("name", NAMES)
def test_ownership_is_shifted_and_nothing_dangerous_is_left(catalogue: ImageStore, name: str) -> None:
    rootfs = catalogue.rootfs(catalogue.resolve(name, pull=False, report=silent))
    count = 0
    for folder, folders, files in os.walk(rootfs):
        for entry in (*folders, *files):
            status = os.lstat(Path(folder, entry))
            assert 200_000 <= status.st_uid < 265_536
            assert 200_000 <= status.st_gid < 265_536
            assert stat.S_IFMT(status.st_mode) in (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK)
            count += 1
    assert count > 1000
    assert stat.S_IMODE((rootfs / "usr/bin/su").stat().st_mode) == 0o4755


def test_apt_inside_knows_debian_and_only_debian(inside: Callable[..., Any]) -> None:
    release = Path("/etc/os-release").read_text()
    codename = release.partition("VERSION_CODENAME=")[2].partition("\n")[0]
    output = inside("wye/base").run(
        "apt-get check; grep -h Suites: /etc/apt/sources.list.d/*; cat /usr/sbin/policy-rc.d"
    )
    suites = {word for line in output if line.startswith("Suites: ") for word in line.split()[1:]}
    assert suites
    assert {suite.partition("-")[0] for suite in suites} == {codename}
    assert "exit 101" in output


def test_the_shell_has_a_user_that_may_become_root(inside: Callable[..., Any], catalogue: ImageStore) -> None:
    config = catalogue.resolve("wye/shell", pull=False, report=silent).config
    assert (config.user, config.working_dir) == ("user", "/home/user")
    output = inside("wye/shell").run("id user; stat -c '%U %a' /usr/bin/sudo; sudo -l -U user; visudo -c")
    assert output[0].startswith("uid=1000(user) gid=1000(user)")
    assert "root 4755" in output
    assert any("(ALL : ALL) NOPASSWD: ALL" in line for line in output)


def test_python_makes_virtual_environments_and_runs_as_python(inside: Callable[..., Any]) -> None:
    output = inside("wye/python").run("python -m venv /tmp/v && /tmp/v/bin/pip --version && python -c 'print(6*7)'")
    assert output[-1] == "42"


def test_node_runs(inside: Callable[..., Any]) -> None:
    assert inside("wye/node").run("node -e 'console.log(6*7)' && npm --version")[0] == "42"


def test_what_is_there_is_answered_without_a_report(catalogue: ImageStore) -> None:
    said: list[Progress] = []
    first = catalogue.resolve("wye/redis", pull=False, report=silent)
    assert catalogue.resolve("wye/redis", pull=False, report=said.append) == first
    assert said == []
    assert first.digest in catalogue.digests()
    assert first.reference == "wye/redis"


def test_a_tag_is_a_version_of_the_suite(catalogue: ImageStore) -> None:
    image = catalogue.resolve("wye/postgres", pull=False, report=silent)
    version = image.config.labels["wye.version"]
    major = version.partition(".")[0]
    for tag in ("latest", major, version):
        assert catalogue.resolve(f"wye/postgres:{tag}", pull=False, report=silent).digest == image.digest
    for tag in ("99", f"{major}.999", "1", "bookworm", f"{major}-alpine"):
        with pytest.raises(NotFound, match=f"in version {major}") as caught:
            catalogue.resolve(f"wye/postgres:{tag}", pull=False, report=silent)
        assert caught.value.hint


def test_a_version_that_another_release_has(catalogue: ImageStore) -> None:
    """Beside the host's own version, and on a base of its own."""
    own = catalogue.resolve("wye/postgres", pull=False, report=silent)
    image = catalogue.resolve("wye/postgres:17", pull=False, report=silent)
    assert image.config.labels["wye.version"].startswith("17.")
    assert image.config.command == own.config.command
    release = (catalogue.rootfs(image) / "etc/os-release").read_text()
    assert "VERSION_CODENAME=trixie" in release
    sources = (catalogue.rootfs(image) / "etc/apt/sources.list.d/debian.sources").read_text()
    assert "trixie" in sources
    assert "bookworm" not in sources
    assert catalogue.present("wye/postgres:17") == image
    assert catalogue.resolve("wye/postgres", pull=False, report=silent) == own


def test_an_unknown_name_says_what_there_is(catalogue: ImageStore) -> None:
    for name in ("wye/mysql", "wye/", "wye/../base", "wye/base/x"):
        with pytest.raises(NotFound) as caught:
            catalogue.resolve(name, pull=False, report=silent)
        assert "wye/postgres" in (caught.value.hint or "")


def test_a_version_that_is_not_there_is_refused_before_anything_is_made(new_store: Callable[..., ImageStore]) -> None:
    store = new_store()
    with pytest.raises(NotFound, match="not 9"):
        store.resolve("wye/postgres:9", pull=False, report=silent)
    assert store.digests() == frozenset()
