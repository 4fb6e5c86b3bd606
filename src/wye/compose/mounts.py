"""`volumes`, `tmpfs` and the volumes at the top of the file → `Mount`s and `Volume`s.

A volume is named by its key: an environment has its own volumes, so `name:` and `external:` have nobody to share with,
and only two keys with one `name:` mean one volume. A volume without a name is named after its service and target, so
that it stays the same from one `up` to the next.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping

from wye.compose.at import At
from wye.compose.findings import Findings
from wye.compose.imports import Imports
from wye.compose.keys import fields, suggest
from wye.compose.nodes import Scalar
from wye.compose.sizes import parse_bytes
from wye.model import Mount, MountKind, Volume

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_WINDOWS = re.compile(r"[A-Za-z]:\\")
_OCTAL = re.compile(r"0?o?[0-7]{1,4}")
_QUIET_MODES = frozenset({
    "rw", "ro", "z", "Z", "nocopy", "cached", "delegated", "consistent", "default",
    "private", "rprivate", "slave", "rslave", "U", "copy",
})  # fmt: skip
_LOUD_MODES = frozenset({"shared", "rshared"})
_LONG = ("type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs")
_QUIET_TMPFS = frozenset({"rw", "noexec", "nosuid", "nodev", "exec", "suid", "dev", "noatime", "relatime"})
_SLUG = re.compile(r"[^a-z0-9]+")


def read_volumes(top: Mapping[str, At], findings: Findings) -> dict[str, str]:
    """The volumes at the top of the file: key → the key under which its bytes are kept. Raises ComposeError."""
    keys: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for key, at in top.items():
        if not NAME.fullmatch(key):
            raise at.error("a volume's name is of letters, digits, '_', '.' and '-'")
        keys[key] = key
        if at.is_null:
            continue
        entry = fields(at, ("name", "driver", "driver_opts", "external", "labels"), findings)
        name = entry.filled("name")
        entry.read("labels", At.pairs)
        external = entry.get("external")
        if external is not None and is_external(external):
            findings.warn(external, "is made by wye; nothing outside is used")
            name = name or (external.entries()["name"].filled() if "name" in _names(external) else None)
        driver, options = entry.get("driver"), entry.get("driver_opts")
        if driver is not None and driver.string() not in ("local", ""):
            findings.warn(driver, "has no effect; every volume is in the pool")
        if options is not None and check_options(options):
            findings.warn(options, "has no effect; every volume is in the pool")
        if name is not None:
            keys[key] = by_name.setdefault(name, key)
    return keys


def check_options(at: At) -> bool:
    """Whether there are any `driver_opts`. Raises ComposeError for what cannot be one."""
    return len([option.number_text() for option in at.entries().values()]) > 0


def is_external(at: At) -> bool:
    """`external: true`, or the older `external: {name: ...}`."""
    return not isinstance(at.node, Scalar) or at.boolean()


def _names(at: At) -> frozenset[str]:
    return frozenset() if isinstance(at.node, Scalar) else frozenset(at.entries())


class Mounts:
    """Reads the mounts of the services of one load."""

    def __init__(self, declared: Mapping[str, str], imports: Imports, findings: Findings) -> None:
        self._declared = declared
        self._imports = imports
        self._findings = findings
        self._used: dict[str, Volume] = {}

    def volumes(self) -> dict[str, Volume]:
        """The volumes that were mounted, imports included."""
        return {**self._used, **self._imports.volumes()}

    def read(self, service: str, volumes: At | None, tmpfs: At | None) -> tuple[Mount, ...]:
        """The mounts of one service, each target once. Raises ComposeError."""
        found = [(at, self._mount(service, at)) for at in (volumes.items() if volumes else ())]
        found += [(at, self._tmpfs(at)) for at in (tmpfs.one_or_more() if tmpfs else ())]
        mounts: dict[str, Mount] = {}
        for at, mount in found:
            if mount is None:
                continue
            if mount.target in mounts:
                raise at.error(f"a second mount at {mount.target}")
            mounts[mount.target] = mount
        return tuple(mounts.values())

    def _mount(self, service: str, at: At) -> Mount | None:
        return self._short(service, at) if at.is_text else self._long(service, at)

    def _short(self, service: str, at: At) -> Mount | None:
        text = at.filled()
        if _WINDOWS.match(text):
            raise at.error("Windows paths are not supported", hint="write ./relative or /absolute")
        parts = text.split(":")
        if len(parts) > 3:
            raise at.error(f'"{text}" is not [SOURCE:]TARGET[:MODE]')
        source, target, mode = ("", *parts, "")[:3] if len(parts) == 1 else (*parts, "")[:3]
        if len(parts) > 1 and not source:
            raise at.error(f'"{text}" has no source before the first colon')
        read_only = self._modes(at, mode)
        if not source:
            return self._volume(at, self._anonymous(service, at, target), target, read_only)
        if source.startswith((".", "/", "~")):
            volume = self._imports.add(at, source, service)
            return None if volume is None else self._volume(at, volume, target, read_only)
        return self._volume(at, self._named(at, source), target, read_only)

    def _modes(self, at: At, text: str) -> bool:
        """Whether `ro` is among the modes."""
        modes = text.split(",") if text else []
        for mode in modes:
            if mode in _LOUD_MODES:
                self._findings.warn(at, f'"{mode}" has no effect; nothing is shared with the machine')
            elif mode not in _QUIET_MODES:
                self._findings.refuse(at, f'unknown mode "{mode}"', hint="the modes are ro and rw")
        if "ro" in modes and "rw" in modes:
            raise at.error("is both ro and rw")
        return "ro" in modes

    def _named(self, at: At, source: str) -> str:
        key = self._declared.get(source)
        if key is None:
            hint = suggest(source, self._declared) or f"add it at the top: volumes: {{{source}: }}"
            if "/" in source:
                hint = f"a path starts with ./ : ./{source}"
            raise at.error(f"there is no volume {source}", hint=hint)
        self._used[key] = Volume(name=key)
        return key

    def _anonymous(self, service: str, at: At, target: str) -> str:
        path = _target(at, target)
        slug = _SLUG.sub("-", f"{service}{path}".lower()).strip("-")[:40].strip("-")
        name = f"anonymous-{slug}-{hashlib.sha256(f'{service}:{path}'.encode()).hexdigest()[:8]}"
        self._used[name] = Volume(name=name)
        return name

    def _volume(self, at: At, source: str, target: str, read_only: bool, subpath: str = "") -> Mount:
        return Mount(
            kind=MountKind.VOLUME, source=source, target=_target(at, target), read_only=read_only, subpath=subpath
        )

    def _long(self, service: str, at: At) -> Mount | None:
        long = fields(at, _LONG, self._findings)
        kind = long.required("type").string()
        target = long.required("target").filled()
        read_only = long.boolean("read_only")
        source = long.string("source") or ""
        long.string("consistency")
        self._options(long.get("bind"), ("propagation", "create_host_path", "selinux", "recursive"))
        if kind == "tmpfs":
            return self._tmpfs_long(at, long.get("tmpfs"), target, read_only)
        if kind == "bind":
            if not source:
                raise at.error("a bind mount needs a source")
            volume = self._imports.add(long.required("source"), source, service)
            return None if volume is None else self._volume(at, volume, target, read_only)
        if kind != "volume":
            self._findings.refuse(at.child("type"), f'mounts of type "{kind}" are not supported')
            return None
        name = self._named(long.required("source"), source) if source else self._anonymous(service, at, target)
        return self._volume(at, name, target, read_only, self._subpath(long.get("volume")))

    def _options(self, at: At | None, known: tuple[str, ...]) -> None:
        if at is not None:
            for option in fields(at, known, self._findings).known.values():
                option.text()

    def _subpath(self, at: At | None) -> str:
        if at is None:
            return ""
        options = fields(at, ("nocopy", "subpath", "labels"), self._findings)
        options.boolean("nocopy")
        options.read("labels", At.pairs)
        subpath = options.string("subpath") or ""
        if subpath.startswith("/") or ".." in subpath.split("/"):
            raise at.child("subpath").error("must stay inside of the volume")
        normal = posixpath.normpath(subpath) if subpath else ""
        return "" if normal == "." else normal

    def _tmpfs_long(self, at: At, options: At | None, target: str, read_only: bool) -> Mount:
        size, mode = None, None
        if options is not None:
            known = fields(options, ("size", "mode"), self._findings)
            size = known.size("size")
            mode = known.read("mode", permission)
        return Mount(
            kind=MountKind.TMPFS,
            source="",
            target=_target(at, target),
            read_only=read_only,
            size_bytes=size,
            mode=mode,
        )

    def _tmpfs(self, at: At) -> Mount:
        target, _, text = at.filled().partition(":")
        size, mode, read_only = None, None, False
        for option in text.split(",") if text else []:
            name, _, value = option.partition("=")
            if name == "size":
                try:
                    size = parse_bytes(value)
                except ValueError as error:
                    raise at.error(str(error)) from None
            elif name == "mode" and _OCTAL.fullmatch(value):
                mode = int(value, 8)
            elif name == "ro":
                read_only = True
            elif name in ("uid", "gid", "nr_inodes"):
                self._findings.warn(at, f'the option "{name}" has no effect')
            elif name not in _QUIET_TMPFS:
                self._findings.refuse(at, f'unknown option "{option}"', hint="the options are size, mode and ro")
        return Mount(
            kind=MountKind.TMPFS,
            source="",
            target=_target(at, target),
            read_only=read_only,
            size_bytes=size,
            mode=mode,
        )


def permission(at: At) -> int:
    """A file mode: octal with a leading 0 or as a string, else decimal, as YAML has it."""
    text = at.number_text()
    is_octal = at.is_text or text.startswith("0")
    if is_octal and _OCTAL.fullmatch(text):
        return int(text, 8)
    mode = -1 if is_octal else at.integer()
    if not 0 <= mode <= 0o7777:
        raise at.error(f'"{text}" is not a file mode', hint='write it in octal, like "0440"')
    return mode


def _target(at: At, target: str) -> str:
    if not target.startswith("/"):
        raise at.error(f'the target "{target}" is not an absolute path')
    normal = "/" + posixpath.normpath(target).lstrip("/")
    if normal == "/":
        raise at.error("nothing can be mounted at /")
    return normal
