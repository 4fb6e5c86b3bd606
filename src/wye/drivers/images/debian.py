"""Debian packages as the host would get them, of its own release or of another.

The host's own Debian sources, keys, proxy and certificate settings are used, because they are what works on
this machine (a private mirror, a proxy); its third-party sources, preferences and hooks are not. Packages are
fetched on the host by its own apt, with our own configuration file, lists and archive, and installed in a
chamber that has no network: nothing that a package runs can reach the host or the outside.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from wye.drivers.images.chamber import View
from wye.drivers.images.programs import ignore, stream
from wye.errors import Unavailable, Unsupported
from wye.host import Host, ProgramFailed

_LISTS_FRESH_S = 6 * 3600.0
_INSIDE = "/mnt/wye/apt"
_URI_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")

INSTALL = (
    "apt-get", "--yes", "--no-download", "--no-install-recommends",
    "-o", "DPkg::Options::=--force-unsafe-io", "-o", "DPkg::Options::=--force-confold", "install",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Release:
    """What the host runs, and so what images are made of."""

    codename: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Source:
    """A paragraph of a deb822 sources file."""

    fields: dict[str, str]

    def of(self, codename: str, other: str) -> Source:
        """The same for another release: "trixie-updates" for "bookworm-updates"."""
        suites = [other + suite.removeprefix(codename) for suite in self.fields["Suites"].split()]
        return Source({**self.fields, "Suites": " ".join(suites)})

    def __str__(self) -> str:
        return "".join(f"{name}: {value}\n" for name, value in self.fields.items())


class Debian:
    """The package archive. `cache` holds lists and archives, shared by everything that is made here."""

    def __init__(self, host: Host, cache: Path, etc: Path = Path("/etc"), *, codename: str = "") -> None:
        """`codename`: a release other than the host's, at the same mirrors."""
        self._host = host
        self._etc = etc
        self._cache = cache
        self._codename = codename
        self._apt = cache / (f"apt-{codename}" if codename else "apt")

    def other(self, codename: str) -> Debian:
        return Debian(self._host, self._cache, self._etc, codename=codename)

    def release(self) -> Release:
        """Raises Unsupported where the host is not Debian."""
        own = self._own_release()
        return Release(self._codename or own.codename, own.architecture)

    def _own_release(self) -> Release:
        values = dict(line.split("=", 1) for line in (self._etc / "os-release").read_text().splitlines() if "=" in line)
        codename = values.get("VERSION_CODENAME", "").strip('"')
        if values.get("ID", "").strip('"') != "debian" or not codename:
            raise Unsupported(
                "catalogue images are made of the host's Debian packages, and this host is not Debian",
                hint="use OCI images from a registry, such as postgres:16",
            )
        machine = platform.machine()
        return Release(codename, {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine))

    # ------------------------------------------------------------ the host's settings

    def sources(self) -> list[Source]:
        """The host's sources for its own release, with the name of the one that is wanted. Raises Unsupported if it has
        none."""
        codename = self._own_release().codename
        found: list[Source] = []
        folder = self._etc / "apt"
        for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
            if path.suffix == ".list" and path.is_file():
                found += _one_line_sources(path.read_text())
            elif path.suffix == ".sources" and path.is_file():
                found += _deb822_sources(path.read_text())
        kept = [source for source in (_debian_only(source, codename) for source in found) if source is not None]
        if not kept:
            raise Unsupported(
                f"this host has no apt source for Debian {codename}",
                hint=f"add one below {folder / 'sources.list.d'}, or use OCI images from a registry",
            )
        return [source.of(codename, self.release().codename) for source in kept]

    def _settings(self) -> list[str]:
        """The host's Acquire settings: proxies, certificates, retries."""
        dump = self._host.run("images:apt-config", ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"])
        lines = [line for line in dump.text.splitlines() if line.startswith("Acquire::")]
        return [line for line in lines if not line.startswith(("Acquire::IndexTargets", "Acquire::Languages"))]

    # ------------------------------------------------------------ fetching, on the host

    def locked(self) -> AbstractContextManager[bool]:
        """Held from `refresh` to the end of the installation: what is installed is what the lists said."""
        return self._host.lock("images:apt-lock", self._cache / "apt.lock")

    def refresh(self, *, force: bool = False) -> None:
        """Brings the package lists up to date, unless they are fresh."""
        stamp = self._apt / "refreshed"
        self._configure()
        try:
            if not force and self._host.now() - stamp.stat().st_mtime < _LISTS_FRESH_S:
                return
        except FileNotFoundError:
            pass
        self._fetch("images:apt-update", ["update", "--error-on=any"], ignore)
        self._fetch("images:apt-clean", ["autoclean"], ignore)
        self._host.write_file("images:apt-update", stamp, b"")

    def candidate(self, package: str) -> str | None:
        """The version that would be installed, "15+248+deb12u1"; None if there is no such package."""
        done = self._host.run("images:apt-policy", ["apt-cache", "policy", package], env=self._env())
        match = re.search(r"^ +Candidate: (\S+)$", done.text, re.MULTILINE)
        return match[1] if match and match[1] != "(none)" else None

    def fetch(self, status: Path, packages: Sequence[str], on_line: Callable[[str], None]) -> None:
        """Fetches `packages` and all that they need beyond what the dpkg status file `status` has."""
        options = ["--yes", "--no-install-recommends", "--download-only", "-o", f"Dir::State::status={status}"]
        self._fetch("images:apt-fetch", [*options, "install", *packages], on_line)

    def _fetch(self, label: str, arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
        try:
            stream(self._host, label, ["apt-get", *arguments], on_line, env=self._env(), timeout_s=900)
        except ProgramFailed as error:
            raise Unavailable(
                f"packages could not be fetched: {error.output.strip()[-600:]}",
                hint="check the network and the host's apt sources: 'apt-get update' must work",
            ) from error

    def _env(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self._apt / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def _configure(self) -> None:
        for name in ("lists/partial", "archives/partial", "empty"):
            self._host.make_directory("images:apt-config", self._apt / name)
        text = "\n".join(str(source) for source in self.sources())
        self._write(self._apt / "debian.sources", text)
        self._write(self._apt / "apt.conf", "\n".join([*self._directories(str(self._apt)), *self._settings(), ""]))
        self._write(self._apt / "chamber.conf", "\n".join([*self._directories(_INSIDE), ""]))

    def _directories(self, apt: str) -> list[str]:
        return [
            'Dir::Etc::main "/dev/null";',
            f'Dir::Etc::parts "{apt}/empty";',
            f'Dir::Etc::sourcelist "{apt}/debian.sources";',
            f'Dir::Etc::sourceparts "{apt}/empty";',
            'Dir::Etc::preferences "/dev/null";',
            f'Dir::Etc::preferencesparts "{apt}/empty";',
            f'Dir::State::lists "{apt}/lists";',
            f'Dir::State::extended_states "{"/var/lib/apt" if apt == _INSIDE else apt}/extended_states";',
            f'Dir::Cache::archives "{apt}/archives";',
            'Dir::Cache::pkgcache "";',
            'Dir::Cache::srcpkgcache "";',
            'APT::Sandbox::User "root";',
            'APT::Install-Recommends "false";',
            'APT::Get::Assume-Yes "true";',
            'Acquire::Languages "none";',
            *(['Debug::NoLocking "true";'] if apt == _INSIDE else []),
        ]

    def _write(self, path: Path, text: str) -> None:
        self._host.write_file("images:apt-config", path, text.encode(), mode=0o644)

    # ------------------------------------------------------------ installing, in a chamber

    def views(self) -> tuple[View, ...]:
        """What a chamber needs to install what was fetched."""
        names = ("lists", "archives", "empty", "debian.sources", "chamber.conf")
        return tuple(View(self._apt / name, f"{_INSIDE}/{name}") for name in names)

    def env(self) -> dict[str, str]:
        return {"APT_CONFIG": f"{_INSIDE}/chamber.conf", "DEBIAN_FRONTEND": "noninteractive"}

    def bootstrap(self, root: Path, packages: Sequence[str], on_line: Callable[[str], None]) -> None:
        """A new Debian tree at `root`, with `packages`; apt works in it and no package lists are left.

        Its ownership is not shifted yet, and Debian's own package scripts run as root while it is made.
        """
        if shutil.which("mmdebstrap") is None:
            raise Unavailable("mmdebstrap is not installed", hint="apt-get install mmdebstrap")
        options = [f"--aptopt={line}" for line in self._settings()]
        release = self.release()
        argv = [
            "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
            f"--architectures={release.architecture}", f"--include={','.join(packages)}", *options,
            release.codename, str(root), str(self._apt / "debian.sources"),
        ]  # fmt: skip
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        try:
            stream(self._host, "images:bootstrap", argv, on_line, env=env, timeout_s=1800)
        except ProgramFailed as error:
            raise Unavailable(
                f"the base image could not be made: {error.output.strip()[-600:]}",
                hint="check the network and the host's apt sources: 'apt-get update' must work",
            ) from error

    def public_sources(self) -> str:
        """The sources for use inside an image: without what only this host may know."""
        return without_credentials("\n".join(str(source) for source in self.sources()))


def without_credentials(text: str) -> str:
    return _URI_CREDENTIALS.sub("", text)


# ---------------------------------------------------------------- sources files


def _one_line_sources(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        match = re.match(
            r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<rest>[^#]*)", line
        )
        if match is None:
            continue
        fields = {
            "Types": "deb", "URIs": match["uri"], "Suites": match["suite"], "Components": match["rest"].strip(),
        }  # fmt: skip
        for option in (match["options"] or "").split():
            name, _, value = option.partition("=")
            fields[{"signed-by": "Signed-By", "arch": "Architectures", "trusted": "Trusted"}.get(name, name)] = value
        found.append(Source(fields))
    return found


def _deb822_sources(text: str) -> list[Source]:
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[last] += "\n" + line
            elif ":" in line:
                last, _, value = line.partition(":")
                fields[last] = value.strip()
        if fields:
            found.append(Source(fields))
    return found


def _debian_only(source: Source, codename: str) -> Source | None:
    """The part of `source` that is Debian's own archive or a mirror of it, for the host's release.

    Third parties use release names as suites too. Debian's own have the component main, and are signed by
    its archive key where they name a key file at all.
    """
    fields = {name.title(): value for name, value in source.fields.items()}
    suites = {codename, f"{codename}-updates", f"{codename}-security", f"{codename}/updates"}
    kept = [suite for suite in fields.get("Suites", "").split() if suite in suites]
    signed_by = fields.get("Signed-By", "")
    foreign_key = signed_by.startswith("/") and not os.path.basename(signed_by).startswith("debian")
    if (
        "deb" not in fields.get("Types", "").split()
        or fields.get("Enabled", "yes").lower() in ("no", "false")
        or "main" not in fields.get("Components", "").split()
        or not kept
        or foreign_key
    ):
        return None
    wanted = {"Types": "deb", "URIs": fields.get("Uris", ""), "Suites": " ".join(kept), "Components": "main"}
    wanted |= {name: fields[name] for name in ("Signed-By", "Trusted", "Check-Valid-Until") if name in fields}
    return Source(wanted)
