"""What a site decides, read once: defaults, then /etc/wye/wye.toml, then WYE_* variables.

The only reader of the environment besides the command line and the client. Every option has a line in
docs/configuration.md (tested).
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from wye.errors import BadRequest

DEFAULT_FILE = Path("/etc/wye/wye.toml")
_GIB = 1 << 30
_LOG_LEVELS = ("debug", "info", "warning", "error")
_FIRST_UID, _LAST_UID = 1 << 16, (1 << 32) - 2 - (1 << 16)
"""The host's own users lie below, and the 65,536 ids of containers must end before the last uid."""
_INSTANCE = re.compile(r"[a-z][a-z0-9]{0,5}")
_PRIVATE = tuple(
    map(
        ipaddress.IPv4Network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"),
    )
)
"""RFC 1918, what RFC 6598 sets aside between providers and their customers, and RFC 2544's for measurements."""
_LARGEST, _SMALLEST = 8, 28
"""Prefix lengths: from all of 10.0.0.0/8 to room for a dozen services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Sizes in bytes ("20GiB" in the file), times in seconds."""

    root: Path = Path("/var/lib/wye")
    """The pool's image, the database, caches."""
    run: Path = Path("/run/wye")
    """Socket, container state: gone after a restart of the machine."""
    log: Path = Path("/var/log/wye")
    pool: Path | None = None
    """An existing btrfs directory to use as the pool; None: an image file below `root`."""
    pool_bytes: int | None = None
    """Size of the pool's image; None: a third of the free disk, 64 GiB at most."""
    listen: str | None = None
    """host:port to listen on besides the Unix socket. Needs `token_file`."""
    token_file: Path | None = None
    instance: str = "wye"
    """Prefix of network interfaces and the firewall table, one per daemon on a machine: `_INSTANCE`."""
    subnet: str = "10.89.0.0/16"
    uplinks: str = "100.80.0.0/12"
    port_first: int = 20000
    port_last: int = 29999
    uid_base: int = 200000
    fork_disk_bytes: int | None = None
    warm_networks: int = 4
    shell_image: str = "wye/shell"
    collect_interval_s: int = 60
    log_level: str = "info"

    @property
    def socket(self) -> Path:
        return self.run / "wye.sock"

    @property
    def database(self) -> Path:
        return self.root / "wye.db"


def load(environment: Mapping[str, str], file: Path | None = None) -> Config:
    """Raises BadRequest, naming the option, for one that is unknown or of the wrong form.

    A file that is asked for, by `file` or WYE_CONFIG, must be there; the default one need not."""
    named = file or environment.get("WYE_CONFIG")
    path = Path(named or DEFAULT_FILE)
    config = Config()
    if path.exists():
        try:
            config = _apply(config, tomllib.loads(path.read_text()), str(path))
        except tomllib.TOMLDecodeError as error:
            raise BadRequest(f"{path}: {error}") from error
    elif named:
        raise BadRequest(f"there is no config file {path}", hint="WYE_CONFIG names it; without one it is optional")
    known = {field.name for field in fields(Config)}
    variables = {
        key.removeprefix("WYE_").lower(): value
        for key, value in environment.items()
        if key.startswith("WYE_") and key.removeprefix("WYE_").lower() in known
    }
    return _check(_apply(config, variables, "the environment"))


def from_process() -> Config:
    """As this process was started."""
    return load(os.environ)


def pool_bytes(config: Config) -> int:
    """The size for a new pool image."""
    if config.pool_bytes is not None:
        return config.pool_bytes
    directory = config.root
    while not directory.exists():
        directory = directory.parent
    return int(min(64 * _GIB, shutil.disk_usage(directory).free // 3)) // _GIB * _GIB or _GIB


def parse_size(text: str) -> int:
    """ "20GiB", "512M", "1000": bytes; K, M, G, T are powers of 1024."""
    units = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    body = text.strip().lower().removesuffix("ib").removesuffix("b")
    number, unit = (body[:-1], body[-1]) if body and body[-1] in units else (body, "")
    try:
        size = int(float(number) * units[unit])
    except (ValueError, OverflowError):
        size = -1
    if size < 0:
        raise BadRequest(f"{text!r} is not a size", hint="for example 20GiB")
    return size


def _apply(config: Config, values: Mapping[str, Any], where: str) -> Config:
    types = get_type_hints(Config)
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            raise BadRequest(f"{where}: unknown option {key!r}", hint=f"known: {', '.join(sorted(types))}")
        changes[key] = _convert(key, value, str(types[key]), where)
    return replace(config, **changes)


def _convert(key: str, value: Any, kind: str, where: str) -> Any:
    try:
        if "Path" in kind:
            return Path(str(value))
        if key.endswith("_bytes"):
            return parse_size(str(value))
        if "int" in kind:
            return int(value)
        return str(value)
    except (ValueError, TypeError) as error:
        raise BadRequest(f"{where}: {key} cannot be {value!r}") from error


def _check(config: Config) -> Config:
    for check in (_check_paths, _check_listening, _check_names_and_numbers, _check_networks):
        check(config)
    return config


def _check_paths(config: Config) -> None:
    """A daemon that was started elsewhere would otherwise look elsewhere."""
    for key in ("root", "run", "log", "pool", "token_file"):
        path = getattr(config, key)
        if path is not None and not path.is_absolute():
            raise BadRequest(f"{key} cannot be {str(path)!r}", hint="give an absolute path")


def _check_listening(config: Config) -> None:
    if config.listen is None:
        return
    if config.token_file is None:
        raise BadRequest("listen needs token_file: a TCP port without a token is open to everybody")
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):(\d{1,5})", config.listen)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise BadRequest(f"listen cannot be {config.listen!r}", hint="for example 127.0.0.1:7777, or [::1]:7777")


def _check_names_and_numbers(config: Config) -> None:
    if _INSTANCE.fullmatch(config.instance) is None:
        raise BadRequest(
            f"instance cannot be {config.instance!r}", hint="1 to 6 lower-case letters and digits, a letter first"
        )
    if not 1 <= config.port_first <= config.port_last <= 65535:
        raise BadRequest(f"ports from {config.port_first} to {config.port_last} are no range")
    if not _FIRST_UID <= config.uid_base <= _LAST_UID:
        raise BadRequest(f"uid_base cannot be {config.uid_base}", hint=f"{_FIRST_UID} to {_LAST_UID}, as 200000")
    if config.log_level.lower() not in _LOG_LEVELS:
        raise BadRequest(f"log_level cannot be {config.log_level!r}", hint=f"one of {', '.join(_LOG_LEVELS)}")
    if config.collect_interval_s < 1 or config.warm_networks < 0:
        raise BadRequest("collect_interval_s is 1 at least, and warm_networks 0")
    for key in ("pool_bytes", "fork_disk_bytes"):
        if getattr(config, key) == 0:
            raise BadRequest(f"{key} cannot be 0", hint="leave it out for the default")


def _check_networks(config: Config) -> None:
    subnet, uplinks = _network("subnet", config.subnet), _network("uplinks", config.uplinks)
    if subnet.overlaps(uplinks):
        raise BadRequest(f"subnet {subnet} and uplinks {uplinks} overlap", hint="they need ranges of their own")


def _network(key: str, text: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise BadRequest(f"{key}: {error}", hint="for example 10.89.0.0/16") from error
    if not _LARGEST <= network.prefixlen <= _SMALLEST:
        raise BadRequest(f"{key} cannot be {text}", hint=f"a network from /{_LARGEST} to /{_SMALLEST}")
    if not any(network.subnet_of(private) for private in _PRIVATE):
        raise BadRequest(f"{key} cannot be {text}: those addresses are somebody's", hint="for example 10.89.0.0/16")
    return network
