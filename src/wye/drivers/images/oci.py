"""What OCI documents say, read with suspicion: a manifest's choice of platform, and an image's configuration.

They come from a registry and may say anything. What is not of the expected type is BadRequest, not a crash.
"""

from __future__ import annotations

import platform
from typing import Any, TypeVar

import msgspec

from wye.errors import BadRequest, NotFound
from wye.model import Healthcheck, ImageConfig

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_NANOSECONDS = 1e9
_T = TypeVar("_T")


class Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct):
    digest: str = ""
    mediaType: str = ""  # noqa: N815 (the field's name in the specification)
    size: int = 0
    platform: Platform | None = None


class Manifest(msgspec.Struct):
    """Of an image, or (with `manifests`) an index of images for several platforms."""

    manifests: list[Descriptor] | None = None
    layers: list[Descriptor] = []
    config: Descriptor | None = None


class _Health(msgspec.Struct, rename="pascal"):
    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class _Config(msgspec.Struct, rename="pascal"):
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
    stop_signal: str | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    labels: dict[str, str] | None = None
    healthcheck: _Health | None = None


class _Document(msgspec.Struct):
    config: _Config | None = None
    architecture: str = ""
    os: str = ""


def architecture() -> str:
    """This machine's, by its OCI name."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def manifest(data: bytes) -> Manifest:
    """Raises BadRequest."""
    return _decode(data, Manifest, "manifest")


def choose(index: Manifest, reference: str) -> str:
    """The digest of the image for this machine. Raises NotFound with the platforms that there are."""
    wanted = architecture()
    descriptors = index.manifests or []
    for descriptor in descriptors:
        if descriptor.platform and (descriptor.platform.os, descriptor.platform.architecture) == ("linux", wanted):
            return descriptor.digest
    known = {f"{d.platform.os}/{d.platform.architecture}" for d in descriptors if d.platform}
    raise NotFound(
        f"{reference} has no image for linux/{wanted}",
        hint=f"it has {', '.join(sorted(known - {'unknown/unknown'})) or 'none'}",
    )


def image_config(data: bytes) -> ImageConfig:
    """The configuration of an image as ours. Raises BadRequest."""
    config = _decode(data, _Document, "configuration").config or _Config()
    environment = dict(line.partition("=")[::2] for line in config.env or () if not line.startswith("="))
    return ImageConfig(
        entrypoint=tuple(config.entrypoint or ()),
        command=tuple(config.cmd or ()),
        environment=environment,
        working_dir=config.working_dir or "/",
        user=config.user or "",
        stop_signal=config.stop_signal or "SIGTERM",
        exposed=tuple(sorted(config.exposed_ports or ())),
        volumes=tuple(sorted(config.volumes or ())),
        healthcheck=_healthcheck(config.healthcheck),
        labels=dict(config.labels or {}),
    )


def _healthcheck(health: _Health | None) -> Healthcheck | None:
    """Docker's extension: durations in nanoseconds, 0 for the default."""
    if health is None or not health.test:
        return None
    kind, *words = health.test
    test = {"NONE": [], "CMD": words, "CMD-SHELL": ["/bin/sh", "-c", *words]}.get(kind)
    if test is None:
        return None
    seconds = {
        "interval_s": health.interval,
        "timeout_s": health.timeout,
        "start_period_s": health.start_period,
        "start_interval_s": health.start_interval,
    }
    given = {name: value / _NANOSECONDS for name, value in seconds.items() if value > 0}
    return msgspec.convert(
        {"test": test, **given, **({"retries": health.retries} if health.retries > 0 else {})}, Healthcheck
    )


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"the image's {what} cannot be read: {error}") from error
