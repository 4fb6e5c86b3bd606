"""The catalogue: a few images made here from the host's Debian packages, where no registry can be reached.

A recipe is a directory of data (`recipes/<name>/`): recipe.toml says which packages and how to run the
result, before.sh and after.sh run in a chamber around the installation. The digest of an image is the hash of
its recipe and of the package versions that it holds, so equal contents have equal digests on every machine.
An image is made again when its recipe has changed, or on request (`pull`); a newer Debian package alone
changes nothing behind anybody's back. A version that the host's release does not have is made of the release that
the recipe names for it (`releases`), from the host's own mirrors.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from wye.drivers.images.chamber import PATH, Chamber, View
from wye.drivers.images.debian import INSTALL, Debian
from wye.drivers.images.ownership import make_mount_points, shift_tree
from wye.drivers.images.shelf import Shelf
from wye.errors import InvariantError, NotFound, Unavailable
from wye.interfaces import Progress, Report
from wye.model import Healthcheck, Image, ImageConfig

PREFIX = "wye/"
_RECIPES = Path(__file__).parent / "recipes"
_UPSTREAM = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)*)")
_FORMAT = 1
_VERSION = "wye.version"
_NEW_S = 3600.0
# What a tree needs no more once it is an image: package caches, logs, and the documentation that got through.
_TIDY = r"""
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache
rm -rf /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/apt /var/log/*.log /root/.cache /run/lock/*
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/lintian/*
find /usr/share/locale -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
rm -f /var/lib/dbus/machine-id
: > /etc/machine-id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """recipe.toml: `packages` on top of the catalogue image `from_` (None: a new tree), and the configuration.
    `releases`: by major version, the Debian release that has it."""

    summary: str
    version_of: str
    packages: tuple[str, ...]
    from_: str | None
    config: ImageConfig
    releases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Edition:
    """A recipe, made of the packages of one release. `reference` is what it is kept under."""

    name: str
    debian: Debian
    reference: str


class Catalogue:
    """Makes and finds `wye/...` images."""

    def __init__(self, shelf: Shelf, debian: Debian, recipes: Path = _RECIPES) -> None:
        self._shelf = shelf
        self._host = shelf.host
        self._debian = debian
        self._recipes = recipes

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self._recipes.glob("*/recipe.toml"))

    def resolve(self, reference: str, *, pull: bool, report: Report) -> Image:
        """`wye/NAME` or `wye/NAME:VERSION`. Raises NotFound, with what there is."""
        name, tag = self._parts(reference)
        edition = self._edition(name, tag)
        image = self._current(edition, pull)
        if image is None and tag not in ("", "latest"):
            self._check_candidate(edition, tag)
        if image is None:
            image = self._make(edition, pull, report)
        version = image.config.labels[_VERSION]
        if tag not in ("", "latest") and not _is_version(tag, version):
            raise self._no_such_version(name, tag, version)
        return replace(image, reference=reference)

    def present(self, reference: str) -> Image | None:
        """The same if it is here and need not be made again. Raises NotFound, with what there is."""
        name, tag = self._parts(reference)
        image = self._current(self._edition(name, tag), pull=False)
        if image is None or not (tag in ("", "latest") or _is_version(tag, image.config.labels[_VERSION])):
            return None
        return replace(image, reference=reference)

    def _edition(self, name: str, tag: str) -> _Edition:
        release = self._recipe(name).releases.get(tag.partition(".")[0])
        return self._edition_of(name, None if release is None else self._debian.other(release))

    def _edition_of(self, name: str, debian: Debian | None) -> _Edition:
        """`debian`: of a release that may be the host's own."""
        if debian is None or debian.release() == self._debian.release():
            return _Edition(name, self._debian, f"{PREFIX}{name}")
        return _Edition(name, debian, f"{PREFIX}{name}@{debian.release().codename}")

    def _parts(self, reference: str) -> tuple[str, str]:
        """Name and tag."""
        name, _, tag = reference.removeprefix(PREFIX).partition(":")
        if name not in self.names():
            known = ", ".join(f"{PREFIX}{known}" for known in self.names())
            raise NotFound(f"the catalogue has no image {reference}", hint=f"it has {known}")
        return name, tag

    def _current(self, edition: _Edition, pull: bool) -> Image | None:
        """What is here and need not be made again. One made in this hour is as new as `pull` can ask for, so that
        several images that are pulled at once are made on one base."""
        named = self._shelf.named(edition.reference)
        if named is None or named.recipe != self._recipe_hash(edition):
            return None
        if pull and self._host.now() - named.at > _NEW_S:
            return None
        return self._shelf.image(named.digest)

    def _check_candidate(self, edition: _Edition, tag: str) -> None:
        """Says no before minutes are spent. A Debian metapackage knows only the major version."""
        with edition.debian.locked():
            edition.debian.refresh()
            candidate = edition.debian.candidate(self._recipe(edition.name).version_of)
        match = _UPSTREAM.match(candidate or "")
        if match is not None and not _is_version(tag.partition(".")[0], match[1]):
            raise self._no_such_version(edition.name, tag, match[1])

    def _no_such_version(self, name: str, tag: str, version: str) -> NotFound:
        others = "".join(f", {PREFIX}{name}:{major}" for major in sorted(self._recipe(name).releases))
        return NotFound(
            f"the catalogue has {PREFIX}{name} in version {version}, not {tag}",
            hint=f"use {PREFIX}{name}{others}, or an OCI image from a registry for another version",
        )

    # ------------------------------------------------------------ recipes

    def _recipe(self, name: str) -> Recipe:
        values: dict[str, Any] = tomllib.loads((self._recipes / name / "recipe.toml").read_text())
        config = {key: values.pop(key) for key in list(values) if key in ImageConfig.__dataclass_fields__}
        if "healthcheck" in config:
            config["healthcheck"] = msgspec.convert(config["healthcheck"], Healthcheck)
        config["environment"] = {"PATH": PATH, **config.get("environment", {})}
        values["from_"] = values.pop("from", None)
        return msgspec.convert({**values, "config": msgspec.convert(config, ImageConfig)}, Recipe)

    def _recipe_hash(self, edition: _Edition) -> str:
        """Of all that is in the recipe's directory, and of the recipes below it."""
        digest = hashlib.sha256(f"{_FORMAT}\0{edition.debian.release()}\0{_TIDY}".encode())
        for path in sorted((self._recipes / edition.name).iterdir()):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
        from_ = self._recipe(edition.name).from_
        if from_ is not None:
            digest.update(self._recipe_hash(self._edition_of(from_, edition.debian)).encode())
        return digest.hexdigest()

    # ------------------------------------------------------------ making one

    def _made(self, edition: _Edition, pull: bool, report: Report) -> Image:
        return self._current(edition, pull) or self._make(edition, pull, report)

    def _make(self, edition: _Edition, pull: bool, report: Report) -> Image:
        name, debian = edition.name, edition.debian
        recipe = self._recipe(name)
        parent = None if recipe.from_ is None else self._made(self._edition_of(recipe.from_, debian), pull, report)
        with self._shelf.staging(f"catalogue {edition.reference}") as staging, debian.locked():
            current = self._current(edition, pull)
            if current is not None:
                return current
            debian.refresh(force=pull)
            kitchen = _Kitchen(self._shelf, debian, self._recipes / name, staging, f"{PREFIX}{name}", report)
            packages = kitchen.cook(recipe, None if parent is None else self._shelf.rootfs(parent.digest))
            image = self._describe(edition, recipe, packages)
            self._shelf.publish(staging, image)
            self._shelf.name(edition.reference, image.digest, self._recipe_hash(edition))
        return image

    def _describe(self, edition: _Edition, recipe: Recipe, packages: list[str]) -> Image:
        content = json.dumps([self._recipe_hash(edition), packages]).encode()
        version = _version(recipe.version_of, packages)
        title = f"{PREFIX}{edition.name}"
        labels = {**recipe.config.labels, _VERSION: version, "org.opencontainers.image.title": title}
        return Image(
            reference=f"{title}:{version}",
            digest=hashlib.sha256(content).hexdigest(),
            config=replace(recipe.config, labels=labels),
        )


@dataclass(frozen=True, slots=True)
class _Kitchen:
    """One image in the making, in one staging directory."""

    shelf: Shelf
    debian: Debian
    recipe_directory: Path
    staging: Path
    subject: str
    report: Report

    def cook(self, recipe: Recipe, parent: Path | None) -> list[str]:
        """Leaves `staging/rootfs`. Returns the packages in it, "name=version", sorted."""
        host, rootfs = self.shelf.host, self.staging / "rootfs"
        if parent is None:
            self._say("bootstrap")
            self.debian.bootstrap(rootfs, recipe.packages, self._progress("bootstrap"))
            shift_tree(host, "images:shift", rootfs, self.shelf.uid_base)
            self._script("before.sh")
        else:
            self._say("download")
            self._fetch(parent / "var/lib/dpkg/status", recipe.packages)
            self._say("install")
            copy = ["cp", "--archive", "--reflink=auto", "--no-target-directory", str(parent), str(rootfs)]
            host.run("images:copy", copy, timeout_s=600)
            self._script("before.sh")
            self._chamber().run("images:install", [*INSTALL, *recipe.packages], self._progress("install"))
        self._script("after.sh")
        packages: list[str] = []
        query = "dpkg-query --show --showformat='package ${binary:Package}=${Version}\\n'"
        self._chamber().run(
            "images:tidy",
            ["sh", "-ec", f"{_TIDY}\n{query}"],
            lambda line: packages.append(line.removeprefix("package ")) if line.startswith("package ") else None,
        )
        make_mount_points(host, "images:mount-points", rootfs, self.shelf.uid_base)
        return sorted(packages)

    def _fetch(self, status: Path, packages: tuple[str, ...]) -> None:
        try:
            self.debian.fetch(status, packages, self._progress("download"))
        except Unavailable:
            # The lists may name what the archive has replaced since.
            self.debian.refresh(force=True)
            self.debian.fetch(status, packages, self._progress("download"))

    def _script(self, name: str) -> None:
        if (self.recipe_directory / name).exists():
            self._chamber().run("images:script", ["sh", "-eu", f"/mnt/wye/recipe/{name}"], self._progress("install"))

    def _chamber(self) -> Chamber:
        host = self.shelf.host
        sources = self.staging / "debian.sources"
        host.write_file("images:script", sources, self.debian.public_sources().encode())
        views = (
            View(self.recipe_directory, "/mnt/wye/recipe"),
            View(sources, "/mnt/wye/debian.sources"),
            *self.debian.views(),
        )
        return Chamber(
            host=host,
            rootfs=self.staging / "rootfs",
            work=self.staging / "chamber",
            uid_base=self.shelf.uid_base,
            views=views,
            env=self.debian.env(),
        )

    def _say(self, step: str) -> None:
        self.report(Progress(step=step, subject=self.subject))

    def _progress(self, step: str) -> Callable[[str], None]:
        """Counts packages in the output of apt and dpkg."""
        total: int | None = None
        done = 0

        def on_line(line: str) -> None:
            nonlocal total, done
            if (found := re.match(r"\d+ upgraded, (\d+) newly installed", line)) is not None:
                total = int(found[1])
            elif re.match(r"Get:\d+ |Setting up ", line):
                done += 1
                self.report(Progress(step=step, subject=self.subject, done=done, total=total, unit="packages"))
            elif (found := re.match(r"I: (.*)", line)) is not None:
                self.report(Progress(step=found[1].rstrip("."), subject=self.subject))

        return on_line


def _version(pattern: str, packages: list[str]) -> str:
    """The upstream version of a package; of "postgresql", that of postgresql-15, since its own says only 15."""
    for name in (rf"{pattern}-\d+", pattern):
        for package in packages:
            match = re.fullmatch(rf"{name}(?::\w+)?=(.*)", package)
            found = _UPSTREAM.match(match[1]) if match else None
            if found is not None:
                return found[1]
    raise InvariantError(f"the image holds no package {pattern}")


def _is_version(tag: str, version: str) -> bool:
    return f"{version}.".startswith(f"{tag}.")
