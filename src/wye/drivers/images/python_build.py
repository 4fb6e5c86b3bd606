"""Builds an image from a directory of Python code, on wye/python.

Dependencies go into a layer of their own, known by what declares them, so that a change of the source alone
installs nothing again. The result is known by its context, its base image and its arguments: an unchanged
directory costs one reading of it. What runs while building (setup scripts, build back ends) is code from
wherever the requirements lead, so it runs in a chamber with the network and nothing else of the host.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wye.drivers.images.chamber import PATH, Chamber, View
from wye.drivers.images.context import Context
from wye.drivers.images.ownership import make_mount_points
from wye.drivers.images.shelf import Shelf
from wye.drivers.images.surroundings import Surroundings, surroundings
from wye.errors import BadRequest, Conflict, Unsupported
from wye.host import ProgramFailed
from wye.interfaces import Progress, Report
from wye.model import Build, Image

BASE = "wye/python"
_FORMAT = 1
_SUPPORTED = "a directory with a requirements.txt or a pyproject.toml is built without a Dockerfile"
_VENV = "/opt/venv"
_INCLUDE = re.compile(r"^(?:-r|-c|--requirement|--constraint)[ =]\s*(\S+)", re.MULTILINE)
_LOCAL = re.compile(r"^(?:-e\b|--editable\b|\.|/|file:|\S+ *@ *file:)", re.MULTILINE)
_INSTALL = f"""
set -eu
python3 -m venv {_VENV}
cd /mnt/context
if [ $# -gt 0 ]; then exec {_VENV}/bin/pip install "$@"; fi
"""
_SOURCE = f"""
set -eu
mkdir -p /app
cp --archive --no-target-directory /mnt/context /app
cd /app
if [ "$1" = project ]; then {_VENV}/bin/pip install --no-deps --editable .; fi
# A file that does not compile is the application's business.
{_VENV}/bin/python -m compileall -q /app || true
"""


@dataclass(frozen=True, slots=True)
class Project:
    """How a directory says what it needs."""

    kind: str
    """"requirements" or "project"."""
    install: tuple[str, ...]
    """pip's arguments that install the dependencies, in the directory of `files`."""
    files: frozenset[str] | None
    """What the dependencies depend on; None: the whole directory."""
    command: tuple[str, ...] = ()


class PythonBuilds:
    def __init__(self, shelf: Shelf, resolve: Callable[[str, Report], Image]) -> None:
        """`resolve` gives the base image."""
        self._shelf = shelf
        self._host = shelf.host
        self._resolve = resolve

    def build(self, build: Build, *, report: Report) -> Image:
        """Raises Unsupported for a Dockerfile, NotFound, BadRequest with pip's words if it cannot be installed."""
        if build.dockerfile is not None or build.target is not None:
            raise Unsupported(f"{build.context} is built by a Dockerfile, which is not supported yet", hint=_SUPPORTED)
        context = Context(self._host, Path(build.context))
        project = read_project(context)
        base = self._resolve(BASE, report)
        content = context.digest()
        key = json.dumps([_FORMAT, base.digest, content, sorted(build.args.items())])
        digest = hashlib.sha256(key.encode()).hexdigest()
        reference = f"build/{re.sub(r'[^a-z0-9]+', '-', context.root.name.lower()).strip('-') or 'app'}:{digest[:12]}"
        present = self._shelf.image(digest)
        if present is not None:
            return present
        with self._shelf.staging(f"build {digest}") as staging:
            present = self._shelf.image(digest)
            if present is not None:
                return present
            dependencies = self._dependencies(context, project, build, base, reference, report)
            report(Progress(step="build", subject=reference))
            if context.copy(staging / "context", self._shelf.uid_base) != content:
                raise Conflict(f"{context.root} changed while it was built", hint="try again")
            self._run(
                staging, dependencies, build, "images:build-source", ["sh", "-c", _SOURCE, "sh", project.kind],
                reference, report,
            )  # fmt: skip
            make_mount_points(self._host, "images:mount-points", staging / "rootfs", self._shelf.uid_base)
            return self._shelf.publish(staging, _describe(reference, digest, base, project))

    def _dependencies(
        self, context: Context, project: Project, build: Build, base: Image, subject: str, report: Report
    ) -> Path:
        """The root file system with the dependencies, made if need be."""
        key = json.dumps(
            [_FORMAT, base.digest, project.install, context.digest(project.files), sorted(build.args.items())]
        )
        with self._shelf.staging(f"dependencies {key}") as staging:
            present = self._shelf.layer(key)
            if present is not None:
                return present
            report(Progress(step="install dependencies", subject=subject))
            context.copy(staging / "context", self._shelf.uid_base, project.files)
            argv = ["sh", "-c", _INSTALL, "sh", *project.install]
            self._run(
                staging, self._shelf.rootfs(base.digest), build, "images:build-dependencies", argv, subject, report
            )
            return self._shelf.publish_layer(staging, key)

    def _run(
        self, staging: Path, below: Path, build: Build, label: str, argv: list[str], subject: str, report: Report
    ) -> None:
        """Copies the tree `below` to `staging/rootfs` and runs `argv` in it, with `staging/context`."""
        rootfs = staging / "rootfs"
        copy = ["cp", "--archive", "--reflink=auto", "--no-target-directory", str(below), str(rootfs)]
        self._host.run("images:copy", copy, timeout_s=600)
        around: Surroundings = surroundings(self._host, staging / "files", self._shelf.uid_base)
        chamber = Chamber(
            host=self._host,
            rootfs=rootfs,
            work=staging / "chamber",
            uid_base=self._shelf.uid_base,
            views=(View(staging / "context", "/mnt/context"), *around.views),
            env={**around.env, **build.args},
            network=True,
        )

        def on_line(line: str) -> None:
            if line.startswith(("Collecting ", "Downloading ", "Building ", "Installing ", "Successfully ")):
                # Without sizes, and without the list of all that is installed.
                report(Progress(step=re.split(r" \(|: ", line)[0].lower()[:60], subject=subject))

        try:
            chamber.run(label, argv, on_line)
        except ProgramFailed as error:
            raise BadRequest(
                f"{build.context} could not be built: {error.output.strip()[-1500:]}",
                hint="the same requirements must install with pip on this host",
            ) from error


def read_project(context: Context) -> Project:
    """Raises Unsupported, with what is supported, for a directory that is nothing of the kind."""
    if context.has("Dockerfile"):
        raise Unsupported(
            f"{context.root} has a Dockerfile, and building one is not supported yet",
            hint=f"{_SUPPORTED}: list the Dockerfile in .dockerignore",
        )
    if context.has("requirements.txt"):
        return _from_requirements(context)
    if context.has("pyproject.toml"):
        return _from_pyproject(context)
    raise Unsupported(f"{context.root} has neither requirements.txt nor pyproject.toml", hint=f"only {_SUPPORTED}")


def _from_requirements(context: Context) -> Project:
    install = ("--requirement", "requirements.txt")
    files: set[str] = set()
    pending = ["requirements.txt"]
    while pending:
        path = pending.pop()
        if path in files:
            continue
        text = context.text(path) if context.has(path) else None
        if text is None or _LOCAL.search(text):
            # It needs files of the directory that only pip can tell.
            return Project("requirements", install, None)
        files.add(path)
        pending += [_beside(path, included) for included in _INCLUDE.findall(text) if "://" not in included]
    return Project("requirements", install, frozenset(files))


def _beside(path: str, included: str) -> str:
    """A path in a requirements file is relative to that file."""
    return "/".join(part for part in [*Path(path).parent.parts, *Path(included).parts] if part != ".")


def _from_pyproject(context: Context) -> Project:
    try:
        document: dict[str, Any] = tomllib.loads(context.text("pyproject.toml") or "")
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"{context.root / 'pyproject.toml'} is not valid TOML: {error}") from error
    project = document.get("project")
    if not isinstance(project, dict):
        raise Unsupported(
            f"{context.root / 'pyproject.toml'} has no [project] table", hint="add one, or a requirements.txt"
        )
    scripts = project.get("scripts")
    names = sorted(scripts) if isinstance(scripts, dict) else []
    command = (f"{_VENV}/bin/{names[0]}",) if len(names) == 1 else ()
    dependencies = project.get("dependencies", [])
    static = "dependencies" not in project.get("dynamic", [])
    if not static or not isinstance(dependencies, list) or any("file:" in str(word) for word in dependencies):
        return Project("project", (".",), None, command)
    words = tuple(str(word) for word in dependencies)
    return Project("project", ("--", *words) if words else (), frozenset(), command)


def _describe(reference: str, digest: str, base: Image, project: Project) -> Image:
    environment = {
        **base.config.environment,
        "PATH": f"{_VENV}/bin:{PATH}",
        "VIRTUAL_ENV": _VENV,
        "PYTHONUNBUFFERED": "1",
        # Compiled at build time. Written while running, it would show among the changes of every fork.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    config = replace(base.config, environment=environment, working_dir="/app", command=project.command)
    return Image(reference=reference, digest=digest, config=config)
