"""What services mean to each other: dependencies, links, shared networks and shared volumes.

A link, `network_mode: service:X` and `volumes_from` each imply a dependency on X. A dependency on a service that is not
there (or whose profile is not asked for) is an error unless it is marked `required: false`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wye.compose.at import At
from wye.compose.findings import Findings
from wye.compose.keys import suggest
from wye.compose.service import Declared
from wye.model import SHELL, Dependency, Mount, MountKind, Service

_SHARED_NETWORK = "service:"


def relate(declared: Mapping[str, Declared], idle: Mapping[str, At], findings: Findings) -> dict[str, Service]:
    """The services with all that follows from the others. `idle`: those whose profile is not asked for.

    Raises ComposeError for what is named and not there, and for cycles."""
    services = {name: entry.service for name, entry in declared.items()}
    services = {
        name: replace(services[name], depends_on=_dependencies(entry, services, idle))
        for name, entry in declared.items()
    }
    order = _in_order(services, declared)
    for entry in declared.values():
        for target, alias in entry.links:
            if alias not in (target, *services[target].aliases):
                services[target] = replace(services[target], aliases=(*services[target].aliases, alias))
    services = _without_clashes(services, declared, findings)
    mounts: dict[str, tuple[Mount, ...]] = {}
    for name in order:
        mounts[name] = _mounts(declared[name], mounts)
    return {name: replace(service, mounts=mounts[name]) for name, service in services.items()}


def _dependencies(entry: Declared, services: Mapping[str, Service], idle: Mapping[str, At]) -> dict[str, Dependency]:
    found: dict[str, Dependency] = {}
    for target, dependency in entry.service.depends_on.items():
        at = entry.at.child("depends_on").child(target)
        if target in services or dependency.required:
            _there(target, at, services, idle)
            found[target] = dependency
    implied = [(target, "links") for target, _ in entry.links]
    implied += [(target, "volumes_from") for target, _ in entry.volumes_from]
    mode = entry.service.network_mode or ""
    if mode.startswith(_SHARED_NETWORK):
        implied.append((mode.removeprefix(_SHARED_NETWORK), "network_mode"))
    for target, key in implied:
        _there(target, entry.at.child(key), services, idle)
        found.setdefault(target, Dependency())
    return found


def _there(target: str, at: At, services: Mapping[str, Service], idle: Mapping[str, At]) -> None:
    if target in services:
        return
    if target in idle:
        raise at.error(
            f"the service {target} belongs to a profile that is not active", hint="activate one of its profiles"
        )
    raise at.error(f"there is no service {target}", hint=suggest(target, services))


def _in_order(services: Mapping[str, Service], declared: Mapping[str, Declared]) -> list[str]:
    """The services, each after those it depends on. Raises ComposeError for a cycle.

    Depth first without recursion; `way` is the path that is being followed."""
    order: dict[str, None] = {}
    for start in services:
        way: dict[str, None] = {}
        pending: list[tuple[str, bool]] = [(start, False)]
        while pending:
            name, is_left = pending.pop()
            if is_left:
                way.popitem()
                order[name] = None
            elif name in way:
                members = list(way)
                cycle = " → ".join((*members[members.index(name) :], name))
                raise (
                    declared[members[-1]]
                    .at.child("depends_on")
                    .error(f"services wait for each other: {cycle}", hint="let one of them start without the next one")
                )
            elif name not in order:
                way[name] = None
                pending.append((name, True))
                pending += [(target, False) for target in services[name].depends_on]
    return list(order)


def _without_clashes(
    services: Mapping[str, Service], declared: Mapping[str, Declared], findings: Findings
) -> dict[str, Service]:
    """An alias that is another service's own name would make that name mean two things."""
    found = {}
    for name, service in services.items():
        kept = tuple(alias for alias in service.aliases if alias not in services and alias != SHELL)
        for alias in service.aliases:
            if alias not in kept and alias != name:
                findings.warn(declared[name].at, f"the alias {alias} is left out, because a service has that name")
        found[name] = replace(service, aliases=kept)
    return found


def _mounts(entry: Declared, before: Mapping[str, tuple[Mount, ...]]) -> tuple[Mount, ...]:
    """Its own mounts, and those of the services in `volumes_from` where it has none at that target."""
    own = {mount.target: mount for mount in entry.service.mounts}
    for target, read_only in entry.volumes_from:
        for mount in (mount for mount in before[target] if mount.kind is MountKind.VOLUME):
            own.setdefault(mount.target, replace(mount, read_only=mount.read_only or read_only))
    return tuple(own.values())
