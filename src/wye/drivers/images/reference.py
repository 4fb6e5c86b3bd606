"""OCI references, as people write them: `nginx`, `postgres:16`, `registry.example:5000/team/app@sha256:...`.

A short name means Docker Hub, as everywhere. Parsed here and not left to skopeo, because equal references must
be found under one name, and because a reference comes from a compose file that may be hostile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wye.errors import BadRequest

_HUB = "docker.io"
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_REGISTRY = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?P<port>:[0-9]{1,5})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """In full. `str()` gives one spelling for all that mean the same."""

    registry: str
    repository: str
    tag: str
    digest: str | None = None

    @property
    def host(self) -> str:
        """The registry without its port."""
        match = _REGISTRY.fullmatch(self.registry)
        return match["host"].strip("[]") if match else self.registry

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """Raises BadRequest."""
    rest, at, digest = text.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise _bad(text, f"the digest {digest[:80]!r} is not sha256: and 64 hex digits")
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, path = first, remainder
        if _REGISTRY.fullmatch(registry) is None:
            raise _bad(text, f"{registry[:80]!r} is no registry")
    else:
        registry, path = _HUB, rest
    repository, colon, tag = path.partition(":")
    if colon and _TAG.fullmatch(tag) is None:
        raise _bad(text, f"{tag[:80]!r} is no tag")
    if len(repository) > 255 or not all(_COMPONENT.fullmatch(part) for part in repository.split("/")):
        raise _bad(text, "a name is lower-case letters and digits, with single separators between them")
    if registry == _HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, tag or "latest", digest if at else None)


def _bad(text: str, why: str) -> BadRequest:
    return BadRequest(f"{text[:200]!r} is not an image reference: {why}")
