from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wye.compose.imports import volume_name
from wye.compose.load import Loaded
from wye.compose.machine import why_not
from wye.model import Mount, MountKind, Volume

if TYPE_CHECKING:
    from conftest import Project

Messages = Callable[[Loaded], list[str]]
TOP = "volumes: {data: {}, other: }\n"


def volume(source: str, target: str, *, read_only: bool = False, subpath: str = "") -> Mount:
    return Mount(kind=MountKind.VOLUME, source=source, target=target, read_only=read_only, subpath=subpath)


@pytest.mark.parametrize(
    ("written", "mount"),
    [
        ("data:/d", volume("data", "/d")),
        ("data:/d:ro", volume("data", "/d", read_only=True)),
        ("data:/d:rw,z", volume("data", "/d")),
        ("data:/d:nocopy", volume("data", "/d")),
        ("data:/d/", volume("data", "/d")),
        ("data://d/../e", volume("data", "/e")),
        ("{type: volume, source: data, target: /d}", volume("data", "/d")),
        (
            "{type: volume, source: data, target: /d, read_only: true, volume: {subpath: a/b, nocopy: true}}",
            volume("data", "/d", read_only=True, subpath="a/b"),
        ),
    ],
)
def test_named_volumes(project: Project, written: str, mount: Mount) -> None:
    loaded = project.load(project.text(f"volumes:\n- {written}", TOP))
    assert loaded.spec.services["web"].mounts == (mount,)
    assert loaded.spec.volumes == {"data": Volume(name="data")}
    assert loaded.notices == ()


def test_volumes_that_nobody_mounts_are_not_made(project: Project) -> None:
    assert project.load(project.text("user: a", TOP)).spec.volumes == {}


def test_an_anonymous_volume_keeps_its_name(project: Project) -> None:
    first = project.service("volumes: [/var/lib/x]").mounts
    assert first == project.service("volumes: [{type: volume, target: /var/lib/x/}]").mounts
    assert first[0].source.startswith("anonymous-web-var-lib-x-")
    assert first != project.service("volumes: [/var/lib/y]").mounts


def test_two_keys_of_one_name_are_one_volume(project: Project) -> None:
    loaded = project.load(project.text("volumes: [a:/a, b:/b]", "volumes: {a: {name: x}, b: {name: x}}"))
    assert {mount.source for mount in loaded.spec.services["web"].mounts} == {"a"}


def test_what_has_no_effect_on_a_volume_is_said(project: Project, messages: Messages) -> None:
    top = """
    volumes:
      a: {external: true}
      b: {external: {name: x}}
      c: {driver: nfs, driver_opts: {o: bind}, labels: [x]}
      d: {driver: local, external: false, driver_opts: {}}
    """
    assert messages(project.load(project.text("user: a", top))) == [
        "volumes.a.external: is made by wye; nothing outside is used",
        "volumes.b.external: is made by wye; nothing outside is used",
        "volumes.c.driver: has no effect; every volume is in the pool",
        "volumes.c.driver_opts: has no effect; every volume is in the pool",
    ]


def test_a_directory_is_imported(project: Project, messages: Messages) -> None:
    path = project.directory / "Some Data"
    project.write("Some Data/x")
    loaded = project.load(project.text('volumes: ["./Some Data:/d:ro"]'))
    name = volume_name(str(path))
    assert name.startswith("bind-some-data-")
    assert loaded.spec.services["web"].mounts == (volume(name, "/d", read_only=True),)
    assert loaded.spec.volumes == {name: Volume(name=name, imported_from=str(path))}
    assert [(bind.volume, bind.path, bind.services) for bind in loaded.binds] == [(name, str(path), ("web",))]
    told = f"{path} is imported into the environment; later changes of it are taken in by the next 'up'"
    assert messages(loaded) == [f"services.web.volumes[0]: {told}"]
    assert loaded.notices[0].kind == "import"


def test_a_file_is_imported_alone(project: Project) -> None:
    path = project.write("app.conf")
    loaded = project.load(project.text("volumes: [{type: bind, source: ./app.conf, target: /etc/app.conf}]"))
    assert loaded.spec.volumes[volume_name(str(path))].single_file
    assert loaded.spec.services["web"].mounts[0].subpath == ""


def test_services_that_bind_one_place_share_it(project: Project) -> None:
    project.write("data/x")
    os.symlink("data", project.directory / "link")
    loaded = project.load(
        project.text("volumes: [./data:/a]", "  db: {image: x, volumes: ['./link/../link:/b', '~/shop/data:/c']}\n"),
        environment={"HOME": str(project.directory.parent)},
    )
    assert len(loaded.spec.volumes) == 1
    assert loaded.binds[0].services == ("web", "db")
    assert len(loaded.notices) == 1


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("./none:/d", "the bind mount's source {directory}/none is not there"),
        ("~/x:/d", '"~/x" needs HOME, which is not set'),
        ("/:/host", "/ belongs to the machine itself and cannot be imported"),
        ("/proc/1:/p", "/proc/1 belongs to the machine itself and cannot be imported"),
        ("/sys:/sys:ro", "/sys belongs to the machine itself and cannot be imported"),
        ("/dev/null:/n", "/dev/null belongs to the machine itself and cannot be imported"),
        ("/etc/../etc/shadow:/s", "/etc/shadow belongs to the machine itself and cannot be imported"),
        ("/var/run/docker.sock:/s", "/var/run/docker.sock is the socket of a container engine and cannot be imported"),
        ("./docker.sock:/s", "{directory}/docker.sock is the socket of a container engine and cannot be imported"),
        ("./to-proc:/p", "/proc belongs to the machine itself and cannot be imported"),
        ("./socket:/p", "{directory}/socket is neither a file nor a directory and cannot be imported"),
        ("./loop:/p", "the bind mount's source cannot be looked at"),
        ("dat:/d", "there is no volume dat"),
        ("a/b:/d", "there is no volume a/b"),
        ("data:d", 'the target "d" is not an absolute path'),
        ("data:/", "nothing can be mounted at /"),
        ("data:/d:rx", 'unknown mode "rx"'),
        ("data:/d:ro,rw", "is both ro and rw"),
        ("data:/d:ro:x", '"data:/d:ro:x" is not [SOURCE:]TARGET[:MODE]'),
        (":/d", '":/d" has no source before the first colon'),
        ("C:\\x:/d", "Windows paths are not supported"),
        ("{type: bind, target: /d}", "a bind mount needs a source"),
        ("{source: data, target: /d}", '"type" is missing'),
        ("{type: volume, source: data}", '"target" is missing'),
        ("{type: npipe, source: x, target: /d}", 'mounts of type "npipe" are not supported'),
        ("{type: volume, source: data, target: /d, volume: {subpath: ../x}}", "must stay inside of the volume"),
        ("{type: tmpfs, target: /d, tmpfs: {size: x}}", '"x" is not a size; write it like 512m or 1.5g'),
        ("5", "must be a mapping, not an integer"),
    ],
)
def test_what_cannot_be_mounted(project: Project, written: str, message: str) -> None:
    os.symlink("/proc", project.directory / "to-proc")
    os.symlink("loop", project.directory / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(project.directory / "socket"))
    error = project.refusal(f"volumes:\n- {written}", top=TOP)
    assert message.format(directory=project.directory) in str(error)
    assert error.key.startswith("services.web.volumes[0]")
    assert error.line == 5


def test_hints_for_mounts(project: Project) -> None:
    assert project.refusal("volumes: [./none:/d]").hint == f"make it first: mkdir -p {project.directory / 'none'}"
    assert project.refusal("volumes: [dat:/d]", top=TOP).hint == "did you mean data?"
    assert project.refusal("volumes: [a/b:/d]").hint == "a path starts with ./ : ./a/b"


def test_one_target_has_one_mount(project: Project) -> None:
    assert "a second mount at /d" in str(project.refusal("volumes: [data:/d]\ntmpfs: /d/", top=TOP))


@pytest.mark.parametrize(
    ("body", "size", "mode", "read_only"),
    [
        ("tmpfs: /t", None, None, False),
        ("tmpfs: [/t]", None, None, False),
        ("tmpfs: /t:size=64m,mode=1777,noexec", 64 << 20, 0o1777, False),
        ("tmpfs: [/t:ro]", None, None, True),
        ("volumes: [{type: tmpfs, target: /t}]", None, None, False),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1k, mode: 0700}}]", 1024, 0o700, False),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1000, mode: 448}}]", 1000, 0o700, False),
        ('volumes: [{type: tmpfs, target: /t, tmpfs: {mode: "700"}}]', None, 0o700, False),
    ],
)
def test_tmpfs(project: Project, body: str, size: int | None, mode: int | None, read_only: bool) -> None:
    expected = Mount(kind=MountKind.TMPFS, source="", target="/t", size_bytes=size, mode=mode, read_only=read_only)
    assert project.service(body).mounts == (expected,)


def test_what_is_no_tmpfs(project: Project) -> None:
    assert 'unknown option "sise=1"' in str(project.refusal("tmpfs: /t:sise=1"))
    assert '"x" is not a size' in str(project.refusal("tmpfs: /t:size=x"))
    assert '"99999" is not a file mode' in str(
        project.refusal("volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 99999}}]")
    )


def test_dangerous_binds_are_left_out_when_lenient(project: Project, messages: Messages) -> None:
    loaded = project.load(project.text("volumes: [/var/run/docker.sock:/s, data:/d]", TOP), lenient=True)
    assert [mount.source for mount in loaded.spec.services["web"].mounts] == ["data"]
    told = "/var/run/docker.sock is the socket of a container engine and cannot be imported; left out"
    assert messages(loaded) == [f"services.web.volumes[0]: {told}"]


@pytest.mark.parametrize(
    "path", ["/", "/run/x", "/etc", "/root/.ssh/id", "/var/lib/docker/volumes", "/tmp/podman.sock"]
)
def test_paths_of_the_machine(path: str) -> None:
    assert why_not(path)


@pytest.mark.parametrize(
    "path", ["/etc/localtime", "/etc/ssl/certs", "/srv/app", "/runner", "/home/u/app", "/root/app"]
)
def test_paths_of_people(path: str) -> None:
    assert why_not(path) is None


def test_names_of_imports_are_short_and_different() -> None:
    names = {volume_name(path) for path in ("/a/b", "/c/b", "/", "/" + "x" * 200, "/ü", str(Path("/a/B")))}
    assert len(names) == 6
    assert all(len(name) <= 46 for name in names)
