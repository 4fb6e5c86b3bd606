"""A directory of Python code becomes an image; unchanged it costs nothing, and what it brings reaches nothing."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wye.drivers.images.store import ImageStore
from wye.errors import BadRequest, NotFound, Unsupported
from wye.host import Host
from wye.interfaces import Progress, silent
from wye.model import Build, Image

pytestmark = [pytest.mark.host, pytest.mark.timeout(900)]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the only place where pip may look."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def wheel(directory: Path, name: str, version: str, code: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, content)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


Make = Callable[..., tuple[Image, list[str]]]


@pytest.fixture
def make(catalogue: ImageStore) -> Iterator[Make]:
    """Builds, and deletes at the end. Returns the image and the steps that were reported."""
    made: set[str] = set()
    layers = layers_of(catalogue)
    before = set(layers.iterdir())

    def build(context: Path, **options: Any) -> tuple[Image, list[str]]:
        said: list[Progress] = []
        image = catalogue.build(Build(context=str(context), **options), report=said.append)
        made.add(image.digest)
        return image, [progress.step for progress in said]

    yield build
    for digest in made:
        catalogue.delete(digest)
    for layer in set(layers.iterdir()) - before:
        Host().run("test:clear", ["rm", "-rf", str(layer)])


def layers_of(catalogue: ImageStore) -> Path:
    """Where a store keeps dependencies."""
    return catalogue.rootfs(catalogue.resolve("wye/python", pull=False, report=silent)).parents[1] / "layers"


def test_requirements(make: Make, wheels: Path, tmp_path: Path, inside: Callable[..., Any]) -> None:
    wheel(wheels, "answer", "1.0", "VALUE = 42\n")
    context = write(
        tmp_path / "app",
        {"requirements.txt": f"answer==1.0  # {tmp_path}\n", "main.py": "import answer\nprint(answer.VALUE)\n"},
    )
    (context / "link").symlink_to("main.py")
    image, steps = make(context)
    assert "install dependencies" in steps
    assert image.config.working_dir == "/app"
    assert image.config.environment["PATH"].startswith("/opt/venv/bin:")
    container = inside(image)
    assert container.run("python main.py; python link; readlink link; stat -c '%u %a' main.py") == [
        "42", "42", "main.py", "0 644",
    ]  # fmt: skip

    again, steps = make(context)
    assert (again, steps) == (image, [])

    (context / "main.py").write_text("print('new')\n")
    changed, steps = make(context)
    assert changed.digest != image.digest
    assert not any("dependencies" in step or "Collecting" in step for step in steps)

    wheel(wheels, "answer", "2.0", "VALUE = 43\n")
    (context / "requirements.txt").write_text(f"answer  # {tmp_path}\n")
    _, steps = make(context)
    assert "install dependencies" in steps


def test_nothing_of_the_hosts_stays_in_the_image(
    make: Make, wheels: Path, tmp_path: Path, catalogue: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://secret-proxy.invalid:1")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "secret-index.invalid")
    wheel(wheels, "answer", "1.0", "")
    image, _ = make(
        write(tmp_path / "app", {"requirements.txt": "answer\n", ".dockerignore": "secret\n", "secret": "x"})
    )
    rootfs = catalogue.rootfs(image)
    assert not (rootfs / "app/secret").exists()
    assert os.listdir(rootfs / "mnt") == []
    assert os.listdir(rootfs / "tmp") == []
    texts = [b"secret-proxy", b"secret-index", str(wheels).encode()]
    for folder in ("opt/venv", "root", "etc", "app"):
        for path in (rootfs / folder).rglob("*"):
            if path.is_file() and not path.is_symlink() and b"site-packages/pip/" not in bytes(path):
                content = path.read_bytes()
                assert not [text for text in texts if text in content], path
    assert "HTTPS_PROXY" not in image.config.environment


def test_a_project_with_a_script(make: Make, wheels: Path, tmp_path: Path, inside: Callable[..., Any]) -> None:
    wheel(wheels, "answer", "1.0", "VALUE = 42\n")
    files = {
        "pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "shop"\nversion = "1"\ndependencies = ["answer"]\n'
            '[project.scripts]\nserve = "shop:main"\n'
        ),
        "backend.py": BACKEND,
        "shop.py": "import answer\ndef main():\n    print('serving', answer.VALUE)\n",
    }
    image, _ = make(write(tmp_path / "shop", files))
    assert image.config.command == ("/opt/venv/bin/serve",)
    assert inside(image).run("/opt/venv/bin/serve; cd /; python -c 'import shop; print(shop.__file__)'") == [
        "serving 42", "/app/shop.py",
    ]  # fmt: skip


BACKEND = """
import zipfile
def build_editable(directory, config=None, metadata=None):
    name = "shop-1-py3-none-any.whl"
    files = {
        "shop.pth": "/app\\n",
        "shop-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: shop\\nVersion: 1\\n",
        "shop-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "shop-1.dist-info/entry_points.txt": "[console_scripts]\\nserve = shop:main\\n",
        "shop-1.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(directory + "/" + name, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return name
"""


def test_build_arguments_reach_the_build_and_count(make: Make, wheels: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "app", {"requirements.txt": ""})
    plain, _ = make(context)
    with_argument, _ = make(context, args={"LEVEL": "2"})
    assert plain.digest != with_argument.digest
    assert "LEVEL" not in with_argument.config.environment


def test_what_cannot_be_built_says_why(make: Make, wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="No matching distribution found for absent-package"):
        make(write(tmp_path / "bad", {"requirements.txt": "absent-package\n"}))
    with pytest.raises(Unsupported, match="Dockerfile"):
        make(write(tmp_path / "docker", {"requirements.txt": ""}), dockerfile="Dockerfile.production")
    with pytest.raises(Unsupported, match="neither"):
        make(write(tmp_path / "nothing", {"main.py": ""}))
    with pytest.raises(NotFound, match="no directory"):
        make(tmp_path / "absent")


HOSTILE = """
import ctypes, os, socket, subprocess, zipfile

def attempt(name, act):
    try:
        found.append(f"{name}: {act()!r}")
    except BaseException as error:
        found.append(f"{name}: {type(error).__name__}")

found = []

def build_wheel(directory, config=None, metadata=None):
    attempt("host file", lambda: open("CANARY").read())
    attempt("host directory", lambda: os.listdir(os.path.dirname("CANARY")))
    attempt("shadow", lambda: "x" if "HOSTNAME" in open("/etc/hostname").read() else "other")
    attempt("write view", lambda: open("/mnt/context/requirements.txt", "w").write("x"))
    attempt("mount", lambda: subprocess.run(["mount", "-t", "tmpfs", "none", "/opt"], check=True, capture_output=True))
    attempt("mknod", lambda: os.mknod("/disk", 0o60666, os.makedev(8, 0)))
    attempt("chroot", lambda: escape())
    attempt("kill", lambda: os.kill(int("PID"), 9))
    attempt("processes", lambda: len([name for name in os.listdir("/proc") if name.isdigit()]) < 30)
    attempt("sysctl", lambda: open("/proc/sys/kernel/hostname", "w").write("x"))
    attempt("user namespace", lambda: open("/proc/self/uid_map").read().split())
    attempt("new privileges", lambda: [line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
    os.chmod("/etc", 0o777); os.rename("/etc/resolv.conf.x", "/x") if os.path.exists("/etc/resolv.conf.x") else None
    os.rmdir("/srv"); os.symlink(os.path.dirname("CANARY"), "/srv")
    os.symlink(os.path.dirname("CANARY"), "/app")
    with open("/found", "w") as file:
        file.write("\\n".join(found))
    name = "hostile-1-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as archive:
        archive.writestr("hostile-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: hostile\\nVersion: 1\\n")
        archive.writestr("hostile-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        archive.writestr("hostile-1.dist-info/RECORD", "")
    return name

def escape():
    os.mkdir("/tmp/jail"); root = os.open("/", os.O_RDONLY); os.chroot("/tmp/jail"); os.fchdir(root)
    for _ in range(50):
        os.chdir("..")
    os.chroot(".")
    return os.path.exists("CANARY")
"""


def test_a_hostile_dependency_reaches_nothing(make: Make, wheels: Path, tmp_path: Path, catalogue: ImageStore) -> None:
    canary = tmp_path / "canary/file"
    canary.parent.mkdir()
    canary.parent.chmod(0o777)
    canary.write_text("precious")
    code = (
        HOSTILE.replace("CANARY", str(canary)).replace("PID", str(os.getpid())).replace("HOSTNAME", os.uname().nodename)
    )
    pyproject = (
        '[build-system]\nrequires = []\nbuild-backend = "evil"\nbackend-path = ["."]\n'
        '[project]\nname = "hostile"\nversion = "1"\n'
    )
    with tarfile.open(wheels / "hostile-1.tar.gz", "w:gz") as archive:
        metadata = "Metadata-Version: 2.1\nName: hostile\nVersion: 1\n"
        for name, text in {"pyproject.toml": pyproject, "evil.py": code, "PKG-INFO": metadata}.items():
            info = tarfile.TarInfo(f"hostile-1/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    context = write(tmp_path / "app", {"requirements.txt": "hostile\n", "main.py": ""})
    layers = layers_of(catalogue)
    before = set(layers.iterdir())
    # Its /app leads elsewhere, so the source cannot be put there: the build is refused, inside its chamber.
    with pytest.raises(BadRequest):
        make(context)
    (layer,) = set(layers.iterdir()) - before
    found = dict(line.split(": ", 1) for line in (layer / "rootfs/found").read_text().splitlines())
    assert canary.read_text() == "precious"
    assert os.listdir(canary.parent) == ["file"]
    assert found.pop("processes") == "True"
    assert found.pop("user namespace") == "['0', '200000', '65536']"
    assert "1" in found.pop("new privileges")
    assert found.pop("shadow") == "'other'"
    assert found.pop("chroot") in ("False", "PermissionError")
    refused = {"FileNotFoundError", "PermissionError", "OSError", "ProcessLookupError", "CalledProcessError"}
    assert {name: said for name, said in found.items() if said not in refused} == {}


def test_the_context_stays_as_it_was(make: Make, wheels: Path, tmp_path: Path) -> None:
    context = write(tmp_path / "app", {"requirements.txt": "", "a/b.py": "x = 1\n"})
    before = {str(path): (path.stat().st_mtime_ns, stat.S_IMODE(path.stat().st_mode)) for path in context.rglob("*")}
    make(context)
    after = {str(path): (path.stat().st_mtime_ns, stat.S_IMODE(path.stat().st_mode)) for path in context.rglob("*")}
    assert after == before
