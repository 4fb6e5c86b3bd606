"""What a build takes on from the host: proxies, certificates, name resolution, pip's configuration.

People build behind private mirrors, and what works for pip on the host must work in a build. All of it exists
only while the build runs: as environment variables, and as files below /mnt, of which nothing stays in the
image. Directories are shared read-only; small files (certificates may be private) as copies that the build's
root can read.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wye.drivers.images.chamber import View
from wye.host import Host

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY")
_BUNDLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_PLACES = ("FIND_LINKS", "INDEX_URL", "EXTRA_INDEX_URL")
_FILES = ("CERT", "CLIENT_CERT", "CONSTRAINT")
_PIP = {
    *_PLACES, *_FILES, "NO_INDEX", "TRUSTED_HOST", "TIMEOUT", "DEFAULT_TIMEOUT", "RETRIES", "PROXY", "PRE",
    "PREFER_BINARY", "ONLY_BINARY", "NO_BINARY",
}  # fmt: skip
_INSIDE = "/mnt/host"
_FILE_LIMIT = 8 << 20


@dataclass(slots=True)
class Surroundings:
    """`env` and `views` for a chamber."""

    env: dict[str, str] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)


def surroundings(host: Host, work: Path, uid: int, environment: Mapping[str, str] | None = None) -> Surroundings:
    """Those of this process. `work` is a private directory for copies of files, which become `uid`'s."""
    outside = dict(os.environ if environment is None else environment)
    found = Surroundings()
    found.views += [View(Path(path), path) for path in ("/etc/resolv.conf", "/etc/hosts") if Path(path).exists()]
    for name in (*_PROXIES, *(name.lower() for name in _PROXIES)):
        if outside.get(name):
            found.env[name] = outside[name]
    options = _pip_options(outside)
    host.make_directory("images:surroundings", work)
    for name in _PLACES:
        if name in options:
            options[name] = " ".join(filter(None, (_place(word, found) for word in options[name].split())))
    bundles = [options.get("CERT", ""), *(outside.get(name, "") for name in _BUNDLES), str(_SYSTEM_BUNDLE)]
    bundle = next((Path(path) for path in bundles if path and Path(path).is_file()), None)
    if bundle is not None:
        options["CERT"] = str(bundle)
    for name in _FILES:
        if name in options:
            words = [_copy(host, Path(word), work, uid, found) for word in options[name].split()]
            options[name] = " ".join(filter(None, words))
    if options.get("CERT"):
        found.env |= dict.fromkeys(_BUNDLES, options["CERT"])
    found.env |= {f"PIP_{name}": value for name, value in options.items() if value}
    found.env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_NO_CACHE_DIR": "1"}
    return found


def _pip_options(outside: Mapping[str, str]) -> dict[str, str]:
    """What pip on the host would use, by option name as in its environment variables. Later files win."""
    home = Path(outside.get("HOME") or "/root")
    paths = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        Path(outside.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    chosen = outside.get("PIP_CONFIG_FILE")
    if chosen:
        paths = [] if chosen == os.devnull else [*paths, Path(chosen)]
    options: dict[str, str] = {}
    parser = configparser.RawConfigParser(strict=False)
    for section in ("global", "install"):
        for path in paths:
            parser.clear()
            parser.read(path)
            if parser.has_section(section):
                options |= {name.replace("-", "_").upper(): value for name, value in parser.items(section)}
    options |= {name.removeprefix("PIP_"): value for name, value in outside.items() if name.startswith("PIP_")}
    return {name: value for name, value in options.items() if name in _PIP and value}


def _place(word: str, found: Surroundings) -> str | None:
    """A URL stays; a directory of the host is shared, and named as the build sees it."""
    parts = urlsplit(word)
    if parts.scheme not in ("", "file"):
        return word
    path = Path(unquote(parts.path) if parts.scheme else word).absolute()
    if not path.exists():
        return None
    # The pages of an index refer to files beside it.
    shared = path.parent if path.name == "simple" and path.parent != Path("/") else path
    view = View(shared, f"{_INSIDE}{shared}")
    if view not in found.views:
        found.views.append(view)
    return f"file://{_INSIDE}{path}" if parts.scheme else f"{_INSIDE}{path}"


def _copy(host: Host, path: Path, work: Path, uid: int, found: Surroundings) -> str | None:
    if not path.is_file() or path.stat().st_size > _FILE_LIMIT:
        return None
    copy = work / str(len(found.views))
    host.write_file("images:surroundings", copy, path.read_bytes(), mode=0o400)
    os.chown(copy, uid, uid)
    target = f"{_INSIDE}/files/{copy.name}-{path.name}"
    found.views.append(View(copy, target))
    return target
